"""Whisper's log-mel spectrogram on a batch of tensors, and what hides parts of it from a model that learns."""

from functools import cache
from random import Random

import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor

MEL_BINS = 80
WINDOW, HOP = 400, 160  # samples: 25 ms and 10 ms


@cache
def _filters() -> Tensor:
    """Shape (80, 201)."""
    return torch.from_numpy(WhisperFeatureExtractor(feature_size=MEL_BINS).mel_filters).float().T.contiguous()


def log_mel(samples: Tensor) -> Tensor:
    """Whisper's features: (batch, samples) at 16 kHz to (batch, 80, samples // 160).

    The same as WhisperFeatureExtractor's without its padding to 30 s; the floor of 8 decades is each row's own.
    """
    spectrum = torch.stft(samples, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)
    power = spectrum[..., :-1].abs() ** 2
    decades = torch.clamp(_filters() @ power, min=1e-10).log10()
    decades = torch.maximum(decades, decades.amax((1, 2), keepdim=True) - 8)
    return (decades + 4) / 4


def emphasise(random: Random, mel: Tensor) -> None:
    """Change a batch of features in place, each row its own way: a channel's tilt, hidden bands, hidden instants.

    The masks are SpecAugment's (Park et al. 2019), small.
    """
    bins = torch.linspace(-1, 1, mel.shape[1])
    for row in mel:
        if random.random() < 0.4:
            wave = torch.cos(random.uniform(2, 6) * bins + random.uniform(0, 6))
            row += (random.uniform(-0.25, 0.25) * bins + random.uniform(-0.1, 0.1) * wave)[:, None]
        if random.random() < 0.3:
            first = random.randrange(mel.shape[1] - 10)
            row[first : first + random.randrange(2, 10)] = row.min()
        if random.random() < 0.2 and mel.shape[2] > 24:
            first = random.randrange(mel.shape[2] - 12)
            row[:, first : first + random.randrange(2, 12)] = row.min()
