"""CAM++, a speaker embedding: what a voice sounds like, as 192 numbers whose direction tells speakers apart.

Wang, Zheng, Chen, Cheng and Chen, "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware
Masking" (Interspeech 2023). The names of the parts are those of the weights that its authors publish with 3D-Speaker
(speech_campplus_sv_zh_en_16k-common_advanced, Apache-2.0), so that they load as they are.
"""

from collections import OrderedDict
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_MELS = 80
DIMENSION = 192
GROWTH = 32
BOTTLENECK = 128
SEGMENT_FRAMES = 100
"""Of the context that a mask is made of, besides the whole: 2 s, at two features' frames to one of the network."""

BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers of every densely connected block, and their dilation in time."""


class CamPlusPlus(nn.Module):
    """The published network."""

    def __init__(self) -> None:
        super().__init__()
        self.head = _Head()
        width = 128
        parts: OrderedDict[str, nn.Module] = OrderedDict(tdnn=_TimeDelay(self.head.num_outputs, width))
        for number, (num_layers, dilation) in enumerate(BLOCKS, 1):
            parts[f"block{number}"] = _DenseBlock(width, num_layers, dilation)
            width += num_layers * GROWTH
            parts[f"transit{number}"] = _Transit(width, width // 2)
            width //= 2
        parts["out_nonlinear"] = _norm(width)
        parts["stats"] = _Statistics()
        parts["dense"] = _Dense(2 * width, DIMENSION)
        self.xvector = nn.Sequential(parts)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, frames, 80) with their mean over time taken off, to (batch, 192)."""
        return self.voices(self.frames(features))

    def frames(self, features: Tensor) -> Tensor:
        """What only hears a tenth of a second to either side: (batch, frames, 80) to (batch, 320, frames)."""
        return cast(Tensor, self.head(features))

    def voices(self, frames: Tensor) -> Tensor:
        """(batch, 320, frames) to (batch, 192)."""
        return cast(Tensor, self.xvector(frames))


def load_campplus(path: Path) -> CamPlusPlus:
    """Raises FileNotFoundError, or what torch says of a file that is not these weights."""
    network = CamPlusPlus()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


class _Head(nn.Module):
    """Two-dimensional convolutions that bring 80 mel bands down to 10, with 32 channels each."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(_Residual(width, 2), _Residual(width, 1))
        self.layer2 = nn.Sequential(_Residual(width, 2), _Residual(width, 1))
        self.conv2 = nn.Conv2d(width, width, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.num_outputs = width * NUM_MELS // 8

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(features.transpose(1, 2)[:, None])))
        hidden = self.layer2(self.layer1(hidden))
        return F.relu(self.bn2(self.conv2(hidden))).flatten(1, 2)


class _Residual(nn.Module):
    """stride: in frequency."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride > 1:
            narrow = nn.Conv2d(width, width, 1, stride=(stride, 1), bias=False)
            self.shortcut = nn.Sequential(narrow, nn.BatchNorm2d(width))

    def forward(self, hidden: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(hidden)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(hidden))


def _norm(width: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(width), relu=nn.ReLU()))


class _TimeDelay(nn.Module):
    """To one frame in two."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(num_inputs, num_outputs, 5, stride=2, padding=2, bias=False)
        self.nonlinear = _norm(num_outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        return cast(Tensor, self.nonlinear(self.linear(hidden)))


class _DenseBlock(nn.ModuleDict):
    """Every layer hears what all before it found."""

    def __init__(self, width: int, num_layers: int, dilation: int) -> None:
        super().__init__(
            {f"tdnnd{number + 1}": _DenseLayer(width + number * GROWTH, dilation) for number in range(num_layers)}
        )

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.values():
            hidden = torch.cat([hidden, layer(hidden)], dim=1)
        return hidden


class _DenseLayer(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _norm(width)
        self.linear1 = nn.Conv1d(width, BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _norm(BOTTLENECK)
        self.cam_layer = _MaskedConvolution(dilation)

    def forward(self, hidden: Tensor) -> Tensor:
        return cast(Tensor, self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(hidden)))))


class _MaskedConvolution(nn.Module):
    """Context-aware masking: what is around tells which channels matter."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(BOTTLENECK, GROWTH, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(BOTTLENECK, BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(BOTTLENECK // 2, GROWTH, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        segments = F.avg_pool1d(hidden, SEGMENT_FRAMES, ceil_mode=True)
        context = hidden.mean(dim=-1, keepdim=True) + segments
        mask = torch.sigmoid(self.linear2(F.relu(self.linear1(context))))
        num_frames = hidden.shape[-1]
        return cast(Tensor, self.linear_local(hidden)) * mask.repeat_interleave(SEGMENT_FRAMES, -1)[..., :num_frames]


class _Transit(nn.Module):
    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.nonlinear = _norm(num_inputs)
        self.linear = nn.Conv1d(num_inputs, num_outputs, 1, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return cast(Tensor, self.linear(self.nonlinear(hidden)))


class _Statistics(nn.Module):
    """Mean and deviation over time: (batch, channels, frames) to (batch, 2 * channels)."""

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.cat([hidden.mean(dim=-1), hidden.std(dim=-1)], dim=1)


class _Dense(nn.Module):
    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(num_inputs, num_outputs, 1, bias=False)
        self.nonlinear = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(num_outputs, affine=False)))

    def forward(self, statistics: Tensor) -> Tensor:
        return cast(Tensor, self.nonlinear(self.linear(statistics[..., None])[..., 0]))
