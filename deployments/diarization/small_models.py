"""Two small networks in pyannote.audio's form, for checkpoints of a few megabytes that run on one CPU thread.

A checkpoint names the module and class of its network, so renaming either here orphans what was saved before.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from pyannote.audio.core.model import Model
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

SAMPLE_RATE_HZ = 16_000
FFT_SIZE = 512
WINDOW_SAMPLES = 400
HOP_SAMPLES = 160
LOWEST_HZ, HIGHEST_HZ = 20.0, 7_600.0


class LogMel(nn.Module):
    """Log-mel spectrogram every 10 ms, its level taken out.

    level: "mean" subtracts the mean logarithm, "power" divides by the mean power, which pauses hardly move.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, num_mels: int, level: str) -> None:
        super().__init__()
        self._level = level
        filters = melscale_fbanks(FFT_SIZE // 2 + 1, LOWEST_HZ, HIGHEST_HZ, num_mels, SAMPLE_RATE_HZ)
        self.register_buffer("window", torch.hamming_window(WINDOW_SAMPLES), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """(batch, 1, samples) to (batch, mels, samples // 160 + 1)."""
        spectrum = torch.stft(
            waveforms[:, 0],
            FFT_SIZE,
            HOP_SAMPLES,
            WINDOW_SAMPLES,
            self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = ((spectrum.real**2 + spectrum.imag**2).transpose(1, 2) @ self.filters).transpose(1, 2)
        if self._level == "power":
            return torch.log(power / (power.mean(dim=(1, 2), keepdim=True) + 1e-9) + 1e-5)
        logarithm = torch.log(power + 1e-7)
        return logarithm - logarithm.mean(dim=(1, 2), keepdim=True)


class SmallEmbedding(Model):
    """Speaker embedding: dilated convolutions over time, then mean and deviation of every channel.

    A smaller relative of the x-vector (Snyder et al., 2018) with residual blocks.
    """

    def __init__(
        self,
        num_mels: int = 64,
        num_channels_inside: int = 160,
        dimension: int = 128,
        dilations: tuple[int, ...] = (1, 2, 3, 4),
        level: str = "power",
        sample_rate: int = SAMPLE_RATE_HZ,
        num_channels: int = 1,
        task: Any = None,
    ) -> None:
        super().__init__(sample_rate=sample_rate, num_channels=num_channels, task=task)
        self.save_hyperparameters("num_mels", "num_channels_inside", "dimension", "dilations", "level")
        width = num_channels_inside
        self.features = LogMel(num_mels, level)
        self.first = _convolution(num_mels, width, 5, stride=2, padding=2)
        self.blocks = nn.ModuleList(
            [_convolution(width, width, 3, padding=dilation, dilation=dilation) for dilation in dilations]
        )
        self.last = _convolution(2 * width, 3 * width, 1)
        self.projection = nn.Sequential(nn.BatchNorm1d(6 * width), nn.Linear(6 * width, dimension))

    @property
    def dimension(self) -> int:
        return int(cast(Any, self.hparams).dimension)

    def setup(self, stage: str | None = None) -> None:
        """Nothing depends on the task that it was trained for."""

    def build(self) -> None:
        """The same here."""

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """(batch, 1, samples), and weights (batch, frames) at any frame rate, to (batch, dimension)."""
        first = self.first(self.features(waveforms))
        hidden = first
        for block in self.blocks:
            hidden = hidden + block(hidden)
        frames = self.last(torch.cat([first, hidden], dim=1))
        if weights is None:
            weights = frames.new_ones(len(frames), frames.shape[-1])
        elif weights.shape[-1] != frames.shape[-1]:
            weights = F.interpolate(weights[:, None], size=frames.shape[-1], mode="nearest")[:, 0]
        return cast(Tensor, self.projection(_weighted_statistics(frames, weights.to(frames.dtype))))

    # what pyannote.audio asks every model

    def num_frames(self, num_samples: int) -> int:
        return num_samples // (2 * HOP_SAMPLES) + 1

    def receptive_field_size(self, num_frames: int = 1) -> int:
        return WINDOW_SAMPLES + (num_frames - 1) * 2 * HOP_SAMPLES

    def receptive_field_center(self, frame: int = 0) -> int:
        return frame * 2 * HOP_SAMPLES


class SmallSegmentation(Model):
    """Who speaks in a chunk of 10 s, every 20 ms, as powerset classes (Plaquet and Bredin, 2023).

    Convolutions to steps of 40 ms, two bidirectional LSTM layers, and two outputs for every step.
    """

    FRAME_SAMPLES = 320

    def __init__(
        self,
        num_mels: int = 48,
        num_channels_inside: int = 112,
        num_hidden: int = 112,
        num_layers: int = 2,
        sample_rate: int = SAMPLE_RATE_HZ,
        num_channels: int = 1,
        task: Any = None,
    ) -> None:
        super().__init__(sample_rate=sample_rate, num_channels=num_channels, task=task)
        self.save_hyperparameters("num_mels", "num_channels_inside", "num_hidden", "num_layers")
        width = num_channels_inside
        self.features = LogMel(num_mels, "mean")
        self.convolutions = nn.Sequential(
            *_convolution(num_mels, width, 5, stride=2, padding=2), *_convolution(width, width, 5, stride=2, padding=2)
        )
        self.lstm = nn.LSTM(width, num_hidden, num_layers, batch_first=True, bidirectional=True)
        self.hidden = nn.Sequential(nn.Linear(2 * num_hidden, 128), nn.LeakyReLU())

    @property
    def dimension(self) -> int:
        return int(cast(Any, self.specifications).num_powerset_classes)

    def build(self) -> None:
        self.classifier = nn.Linear(128, 2 * self.dimension)
        self.activation = self.default_activation()

    def forward(self, waveforms: Tensor) -> Tensor:
        """(batch, 1, samples) to log-probabilities (batch, samples // 320, classes)."""
        steps, _ = self.lstm(self.convolutions(self.features(waveforms)).transpose(1, 2))
        scores = self.classifier(self.hidden(steps))
        scores = scores.view(len(scores), -1, self.dimension)[:, : self.num_frames(waveforms.shape[-1])]
        return cast(Tensor, self.activation(scores))

    # what pyannote.audio asks every model; frame i covers samples from i * 320 to (i + 1) * 320

    def num_frames(self, num_samples: int) -> int:
        return num_samples // self.FRAME_SAMPLES

    def receptive_field_size(self, num_frames: int = 1) -> int:
        return self.FRAME_SAMPLES * num_frames

    def receptive_field_center(self, frame: int = 0) -> int:
        return frame * self.FRAME_SAMPLES + self.FRAME_SAMPLES // 2


def _convolution(num_inputs: int, num_outputs: int, width: int, **options: Any) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(num_inputs, num_outputs, width, **options), nn.BatchNorm1d(num_outputs), nn.ReLU())


def _weighted_statistics(frames: Tensor, weights: Tensor) -> Tensor:
    """Mean and standard deviation over time: (batch, channels, frames), (batch, frames) to (batch, 2 * channels)."""
    total = weights.sum(dim=1, keepdim=True).clamp(min=1e-8)
    mean = torch.einsum("bct,bt->bc", frames, weights) / total
    mean_square = torch.einsum("bct,bt->bc", frames * frames, weights) / total
    deviation = torch.sqrt((mean_square - mean * mean).clamp(min=1e-5))
    return torch.cat([mean, deviation], dim=1)
