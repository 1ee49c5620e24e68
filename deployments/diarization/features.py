"""What CAM++ hears: Kaldi's logarithmic mel filter bank."""

from collections.abc import Iterator

import torch
from pyannote.core import SlidingWindow
from torch import Tensor
from torchaudio.compliance.kaldi import fbank

from pipelines.audio_types import SAMPLE_RATE_HZ

NUM_MELS = 80
FRAMES_PER_S = 100
FRAME_SAMPLES = 400
HOP_SAMPLES = SAMPLE_RATE_HZ // FRAMES_PER_S
BLOCK_FRAMES = 3_000

FEATURE_TIMES_S = SlidingWindow(start=0.0, duration=FRAME_SAMPLES / SAMPLE_RATE_HZ, step=1 / FRAMES_PER_S)


def filter_bank(samples: Tensor) -> Tensor:
    """(samples,) in [-1, 1] to (frames, 80), a frame of 25 ms every 10 ms; what fills no frame has none."""
    blocks = list(_blocks(samples))
    return torch.cat(blocks) if blocks else samples.new_zeros(0, NUM_MELS)


def _blocks(samples: Tensor) -> Iterator[Tensor]:
    """One behind the other, because Kaldi's steps take many times the memory of their result."""
    num_frames = max(0, (len(samples) - FRAME_SAMPLES) // HOP_SAMPLES + 1)
    for first in range(0, num_frames, BLOCK_FRAMES):
        last = min(first + BLOCK_FRAMES, num_frames) - 1
        block = samples[first * HOP_SAMPLES : last * HOP_SAMPLES + FRAME_SAMPLES]
        yield fbank(block[None], num_mel_bins=NUM_MELS, sample_frequency=SAMPLE_RATE_HZ)
