"""Log-mel spectrograms, as transformers' feature extractor makes them, on the device of the model."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor

from deployments.decoding.devices import moved
from pipelines.audio_types import Samples

LEAST_POWER = 1e-10
RANGE = 8.0
"""Powers of ten below a window's loudest; what is softer counts as that."""


class LogMel:
    """Of `extractor` only its numbers are used; noise that it may want to be added (`dither`) is not."""

    def __init__(self, extractor: WhisperFeatureExtractor, device: torch.device) -> None:
        self._device = device
        self._num_samples, self._padding = extractor.n_samples, extractor.padding_value
        self._size, self._hop = extractor.n_fft, extractor.hop_length
        self._window = torch.hann_window(self._size, device=device)
        filters = torch.from_numpy(extractor.mel_filters)
        self._filters = moved(filters.float(), device).T

    def __call__(self, windows: Sequence[Samples], num_samples: int | None = None) -> Tensor:
        """
        Args:
            windows: each cut, or padded, to the model's length.
            num_samples: the length, where it shall be shorter.

        Returns:
            float32 (windows, mels, frames).
        """
        length = min(num_samples or self._num_samples, self._num_samples)
        samples = np.full((len(windows), length), self._padding, np.float32)
        for row, window in zip(samples, windows, strict=True):
            row[: len(window)] = window[:length]
        waves = moved(torch.from_numpy(samples), self._device)
        spectrum = torch.stft(waves, self._size, self._hop, window=self._window, return_complex=True)
        powers = (spectrum[..., :-1].abs() ** 2).contiguous()
        mels = (self._filters @ powers).clamp(min=LEAST_POWER).log10()
        loudest = mels.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(mels, loudest - RANGE) + 4.0) / 4.0
