"""How much louder the speech detector shall hear a quiet recording.

Silero VAD misses more speech the quieter it is: of 14 excerpts of meetings 10 % as they are, 25 % when they are 24 dB
quieter, 78 % at 36 dB, and nearly all at 44 dB. Whisper goes by no level, so only the detector is given more; then it
misses 10, 16, 19 and 27 %. Hiss, hum and crackling are no speech to it at any level.
"""

from collections.abc import Iterator
from itertools import chain, pairwise

import numpy as np

from pipelines.audio_types import SAMPLE_RATE_HZ, Samples
from pipelines.vad import FRAME_SAMPLES

QUIET_DBFS = -30.0
"""What is louder is left as it is."""

RAISED_DBFS = -20.0
MAX_GAIN_DB = 40.0

FALL_S = 20.0
"""In which the level falls by 6 dB behind what was loud: who is far away is found when who is near has finished."""

NUM_BUMPS = 3
"""So many loud frames of 32 ms in ten seconds are no speech: somebody has touched the table."""


def levelled(blocks: Iterator[Samples]) -> Iterator[tuple[Samples, float]]:
    """Blocks of about ten seconds, each with its gain; one is read ahead, so that no speech begins too loud."""
    level = 0.0
    for block, following in pairwise(chain(blocks, (np.zeros(0, np.float32),))):
        fallen = level * 0.5 ** (len(block) / SAMPLE_RATE_HZ / FALL_S)
        level = max(fallen, level_of(block), level_of(following))
        yield block, gain_of(level)


def level_of(block: Samples) -> float:
    """The peak, but for a few frames that are louder."""
    num_frames = len(block) // FRAME_SAMPLES
    if num_frames <= NUM_BUMPS:
        return float(np.abs(block).max(initial=0.0))
    peaks = np.abs(block[: num_frames * FRAME_SAMPLES].reshape(num_frames, FRAME_SAMPLES)).max(axis=1)
    return float(np.partition(peaks, -NUM_BUMPS - 1)[-NUM_BUMPS - 1])


def gain_of(level: float) -> float:
    if level >= _amplitude(QUIET_DBFS):
        return 1.0
    return min(_amplitude(RAISED_DBFS) / max(level, 1e-9), _amplitude(MAX_GAIN_DB))


def _amplitude(db: float) -> float:
    return float(10 ** (db / 20))
