"""Another pitch for a recording, under the formants that it has: the same speaker, from another sentence or mood.

Playing a recording faster moves both, which makes another speaker of it.
"""

import librosa
import numpy as np
from numpy.typing import NDArray

from models.training.corpus.utterances import SAMPLE_RATE

Samples = NDArray[np.float32]
Spectrum = NDArray[np.complex64]

FFT_SIZE, HOP = 1024, 256
ENVELOPE = 44
"""Cepstral coefficients that make the envelope: what changes slower over frequency than a voice's harmonics do."""

MOST_GAIN = 3.0
"""In nepers: where the shifted spectrum has nothing left to make louder, the envelope stays as it is."""


def repitch(samples: Samples, ratio: float) -> Samples:
    """The same samples, shape (length,), with the pitch times `ratio`; duration and formants stay.

    A phase vocoder moves the whole spectrum, and the envelope that it had is put back: Röbel and Rodet, "Efficient
    spectral envelope estimation and its application to pitch shifting and envelope preservation", DAFx 2005, but with
    plain cepstral smoothing.
    """
    moved = librosa.effects.pitch_shift(samples, sr=SAMPLE_RATE, n_steps=12 * np.log2(ratio))
    before, after = _spectrum(samples), _spectrum(moved)
    gain = np.clip(_envelope(before) - _envelope(after), -MOST_GAIN, MOST_GAIN)
    restored = librosa.istft(after * np.exp(gain), hop_length=HOP, length=len(samples))
    return np.asarray(restored, np.float32)


def _spectrum(samples: Samples) -> Spectrum:
    return librosa.stft(samples, n_fft=FFT_SIZE, hop_length=HOP)


def _envelope(spectrum: Spectrum) -> NDArray[np.float32]:
    """Smooth logarithm of the magnitude, (bins, frames)."""
    cepstrum = np.fft.irfft(np.log(np.abs(spectrum) + 1e-5), axis=0)
    cepstrum[ENVELOPE : 1 - ENVELOPE] = 0
    return np.asarray(np.fft.rfft(cepstrum, axis=0).real, np.float32)
