"""What a room, a microphone and the world add to speech."""

from random import Random

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import fftconvolve

from models.training.corpus.utterances import SAMPLE_RATE

Samples = NDArray[np.float32]


def noise(random: Random, length: int) -> Samples:
    """Noise of unit power, shape (length,): white, pink, brown, hum, a steady tone, a chirp or clicks."""
    generator = np.random.default_rng(random.randrange(1 << 30))
    white = generator.standard_normal(length).astype(np.float32)
    kind = random.choice(("white", "pink", "brown", "hum", "tone", "chirp", "clicks"))
    if kind == "white":
        return white
    if kind in ("pink", "brown"):
        return _unit(_coloured(white, -0.5 if kind == "pink" else -1.0))
    if kind == "clicks":
        hits = generator.random(length) < 1e-3 * random.random()
        return _unit(10 * white * hits + 0.05 * white)
    seconds = np.arange(length) / SAMPLE_RATE
    if kind == "hum":
        pitch = random.choice((50, 60, 100, 120))
        harmonics = range(1, random.randrange(2, 8))
        return _unit(sum(np.sin(2 * np.pi * pitch * n * seconds) / n for n in harmonics) + 0.1 * white)
    start = random.uniform(80, 3500)
    end = start if kind == "tone" else random.uniform(80, 6000)
    hertz = np.linspace(start, end, length) if kind == "tone" else start + (end - start) * _ramps(random, seconds)
    return _unit(np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE) + 0.02 * random.random() * white)


def music(random: Random, length: int) -> Samples:
    """Chords of decaying notes over a bass, unit power, shape (length,)."""
    tune = np.zeros(length, np.float32)
    beat = int(SAMPLE_RATE * random.uniform(0.15, 0.6))
    root = random.uniform(110, 330)
    scale = [0, 2, 4, 7, 9, 12] if random.random() < 0.5 else [0, 3, 5, 7, 10, 12]
    for start in range(0, length, beat):
        for _ in range(random.choice((1, 1, 2, 3))):
            pitch = root * 2 ** ((random.choice(scale) + random.choice((-12, 0, 0, 12))) / 12)
            note = _note(pitch, min(length - start, 4 * beat), random.uniform(2, 8))
            tune[start : start + len(note)] += note * random.uniform(0.3, 1)
    return _unit(tune)


def reverberate(random: Random, samples: Samples) -> Samples:
    """The same in a small room: convolved with decaying noise (0.1 to 0.5 s), same length and peak."""
    decay_s = random.uniform(0.1, 0.5)
    generator = np.random.default_rng(random.randrange(1 << 30))
    seconds = np.arange(int(decay_s * SAMPLE_RATE)) / SAMPLE_RATE
    tail = generator.standard_normal(len(seconds)) * np.exp(-6.9 * seconds / decay_s)
    response = random.uniform(0.1, 0.5) * tail / np.sqrt((tail**2).sum())
    response[0] = 1.0
    wet = fftconvolve(samples, response)[: len(samples)]
    return (wet * (np.abs(samples).max() / max(np.abs(wet).max(), 1e-6))).astype(np.float32)


def disturb(random: Random, samples: Samples) -> Samples:
    """A recording as it might come: now and then a room, noise at 8 to 50 dB below the speech, any loudness."""
    if random.random() < 0.2:
        samples = reverberate(random, samples)
    if random.random() < 0.4:
        level = 0.12 * 10 ** (-random.uniform(8, 50) / 20)  # 0.12: the power of speech whose peak is 0.7
        samples = samples + level * noise(random, len(samples))
    return np.clip(samples * 10 ** random.uniform(-1.3, 0.1), -1, 1).astype(np.float32)


def _unit(samples: ArrayLike) -> Samples:
    values = np.asarray(samples, np.float32)
    return values / np.float32(np.sqrt((values**2).mean()) + 1e-6)


def _coloured(white: Samples, slope: float) -> Samples:
    spectrum = np.fft.rfft(white)
    return np.fft.irfft(spectrum * (np.arange(len(spectrum)) + 10.0) ** slope, len(white)).astype(np.float32)


def _ramps(random: Random, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """A saw tooth between 0 and 1."""
    return (seconds * random.uniform(0.1, 2)) % 1


def _note(pitch: float, length: int, decay: float) -> Samples:
    seconds = np.arange(length) / SAMPLE_RATE
    overtones = sum(np.sin(2 * np.pi * pitch * n * seconds) / n**1.5 for n in range(1, 6))
    attack = np.minimum(1, seconds / 0.01)
    return (overtones * np.exp(-decay * seconds) * attack).astype(np.float32)
