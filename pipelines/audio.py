"""How long stretches of audio travel between processes: as 16-bit samples, half the bytes of float32."""

import numpy as np

from pipelines.audio_types import PcmSamples, Samples

PCM_SCALE = 32_767


def to_pcm(samples: Samples) -> PcmSamples:
    """(num_samples,) float32 in [-1, 1] to int16."""
    return np.rint(samples * PCM_SCALE).astype(np.int16)


def from_pcm(pcm: PcmSamples) -> Samples:
    """(num_samples,) int16 to float32 in [-1, 1]."""
    return np.asarray(pcm, np.float32) / np.float32(PCM_SCALE)
