"""Sounds in which nobody speaks."""

from random import Random

import numpy as np
from numpy.typing import NDArray
from scipy.signal import chirp

from models.training.corpus.acoustics import music, noise
from models.training.corpus.utterances import SAMPLE_RATE

Samples = NDArray[np.float32]


def nonspeech(random: Random, length: int) -> Samples:
    """Silence, noise, music, a tone, a sweep or clicks at any level, shape (length,)."""
    kind = random.choices((_silence, noise, music, _tone, _sweep, _clicks), (2, 4, 3, 2, 1.5, 1.5))[0]
    sound = kind(random, length) * 10 ** random.uniform(-3.5, -0.6)
    return np.clip(sound, -1, 1).astype(np.float32)


def _silence(random: Random, length: int) -> Samples:
    return np.zeros(length, np.float32)


def _tone(random: Random, length: int) -> Samples:
    """A steady tone, pure or with overtones, sometimes switched on and off."""
    phase = 2 * np.pi * 10 ** random.uniform(1.7, 3.6) * np.arange(length) / SAMPLE_RATE
    overtones = random.choice((1, 1, 2, 4, 8))
    tone = np.sum([np.sin(phase * number) / number for number in range(1, overtones + 1)], axis=0)
    if random.random() < 0.3:
        period = int(random.uniform(0.2, 2) * SAMPLE_RATE)
        tone = tone * (np.arange(length) % period < period * random.uniform(0.2, 0.8))
    return np.asarray(tone, np.float32)


def _sweep(random: Random, length: int) -> Samples:
    period = random.uniform(0.3, 10)
    times = np.arange(length) / SAMPLE_RATE % period
    start, end = 10 ** random.uniform(1.7, 3.8), 10 ** random.uniform(1.7, 3.8)
    method = random.choice(("linear", "quadratic", "logarithmic"))
    return np.asarray(chirp(times, start, period, end, method), np.float32)


def _clicks(random: Random, length: int) -> Samples:
    """Single pulses on a faint floor, at random or as regular as a clock."""
    generator = np.random.default_rng(random.randrange(2**32))
    rate = 10 ** random.uniform(-0.3, 1.7)
    clicks = generator.random(length) < rate / SAMPLE_RATE
    if random.random() < 0.4:
        clicks = np.arange(length) % int(SAMPLE_RATE / rate) == 0
    shape = np.exp(-np.arange(200) / random.uniform(1, 60)) * generator.choice((-1, 1), 200)
    sound = np.convolve(clicks, shape)[:length] * 2
    return np.asarray(sound + 0.003 * generator.standard_normal(length), np.float32)
