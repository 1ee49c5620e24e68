"""Audio that comes bit by bit, as bytes of a realtime session: decoded, resampled and judged as it comes.

The formats are OpenAI's: 16-bit PCM at 24 kHz, and G.711 (ITU-T, 1988), the telephone's 8 bits at 8 kHz.
"""

import numpy as np
import soxr

from deployments.audio.silero import SileroModel, SileroStream
from pipelines.audio_types import LIVE_RATES_HZ, SAMPLE_RATE_HZ, LiveFormat, Samples
from pipelines.realtime_types import AudioAppended
from pipelines.vad import FRAME_SAMPLES


def _mu_law() -> Samples:
    """What each byte of G.711 µ-law stands for."""
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << (code >> 4 & 0x07)) - 0x84
    return np.asarray(np.where(code & 0x80, -magnitude, magnitude) / 32_768, np.float32)


def _a_law() -> Samples:
    """What each byte of G.711 A-law stands for."""
    code = np.arange(256) ^ 0x55
    exponent, mantissa = code >> 4 & 0x07, (code & 0x0F) << 4
    magnitude = np.where(exponent > 0, (mantissa + 0x108) << np.maximum(exponent - 1, 0), mantissa + 8)
    return np.asarray(np.where(code & 0x80, magnitude, -magnitude) / 32_768, np.float32)


G711 = {"audio/pcmu": _mu_law(), "audio/pcma": _a_law()}


class LiveDecoder:
    """Feeding it whole or in pieces gives the same samples."""

    def __init__(self, format: LiveFormat) -> None:
        self._format: LiveFormat = format
        self._half = b""
        """Of a sample whose second byte comes later."""
        self._resampler = soxr.ResampleStream(LIVE_RATES_HZ[format], SAMPLE_RATE_HZ, 1, dtype="float32")

    def decode(self, data: bytes, is_last: bool = False) -> Samples:
        resampled: Samples = self._resampler.resample_chunk(self._samples(data), last=is_last)
        return resampled.clip(-1.0, 1.0)

    def _samples(self, data: bytes) -> Samples:
        if self._format != "audio/pcm":
            return G711[self._format][np.frombuffer(data, np.uint8)]
        data = self._half + data
        whole = len(data) // 2 * 2
        self._half = data[whole:]
        return np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(32_768)


class LiveEar:
    """`pipelines.ports.Ear`. Safe to move between threads, not to share."""

    def __init__(self, model: SileroModel, format: LiveFormat) -> None:
        self._model = model
        self._format: LiveFormat = format
        self._rest: Samples = np.zeros(0, np.float32)
        self._start()

    def hear(self, data: bytes) -> AudioAppended:
        samples = np.concatenate((self._rest, self._decoder.decode(data)))
        whole = len(samples) // FRAME_SAMPLES * FRAME_SAMPLES
        self._rest = samples[whole:].copy()
        return AudioAppended(samples[:whole], self._silero.push(samples[:whole]).tolist())

    def finish(self) -> AudioAppended:
        samples = np.concatenate((self._rest, self._decoder.decode(b"", is_last=True)))
        probabilities = [*self._silero.push(samples).tolist(), *self._silero.finish().tolist()]
        self._start()
        return AudioAppended(samples, probabilities)

    def change(self, format: LiveFormat) -> AudioAppended:
        rest = self.finish()
        self._format = format
        self._start()
        return rest

    def _start(self) -> None:
        self._decoder = LiveDecoder(self._format)
        self._silero = SileroStream(self._model)
        self._rest = np.zeros(0, np.float32)
