"""CAM++ for inference: the same network with its normalisations folded into its matrices.

Frames are rows, so that every layer is a product of matrices; a dense block writes into one array instead of copying
what it has at each of its 52 layers; and a normalisation with a rectifier before a matrix becomes a clamp, because
relu(s * x + b) is |s| * (clamp(x) + b / s) up to sign, and all but the clamp goes into the matrix.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deployments.diarization.campplus import GROWTH, SEGMENT_FRAMES, CamPlusPlus


class FoldedCamPlusPlus(nn.Module):
    """In three parts, so that what several embeddings share of the audio needs the first ones once: `frames`, which
    only hear a tenth of a second to either side, `layers`, which hear two seconds and the mean of all, and `voices`.
    """

    scale: Tensor
    shift: Tensor

    @torch.no_grad()
    def __init__(self, network: CamPlusPlus) -> None:
        super().__init__()
        vectors: Any = network.xvector
        head: Any = network.head
        self.first = _fold_convolution(head.conv1, head.bn1)
        self.residuals = nn.ModuleList([_Residual(layer) for layer in (*head.layer1, *head.layer2)])
        self.last = _fold_convolution(head.conv2, head.bn2)
        self.tdnn = _fold_convolution(vectors.tdnn.linear, vectors.tdnn.nonlinear.batchnorm)
        self.blocks = nn.ModuleList(
            [_Block(getattr(vectors, f"block{n}"), getattr(vectors, f"transit{n}")) for n in (1, 2, 3)]
        )
        self.register_buffer("scale", _scale(vectors.out_nonlinear.batchnorm)[0])
        self.register_buffer("shift", _scale(vectors.out_nonlinear.batchnorm)[1])
        dense = _fold_convolution(vectors.dense.linear, vectors.dense.nonlinear.batchnorm)
        self.dense = nn.Linear(*reversed(dense.weight.shape[:2]))
        self.dense.load_state_dict({"weight": dense.weight[..., 0], "bias": dense.bias})
        self.requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, frames, 80) with their mean over time taken off, to (batch, 192)."""
        return self.voices(self.layers(self.frames(features)))

    def frames(self, features: Tensor) -> Tensor:
        """(batch, frames, 80) to (batch, frames / 2, 128), half a frame more where they are odd."""
        hidden = features.transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last)
        hidden = self.first(hidden).relu_()
        for residual in self.residuals:
            hidden = residual(hidden)
        hidden = self.last(hidden).relu_()
        return cast(Tensor, self.tdnn(hidden.flatten(1, 2)).relu_().transpose(1, 2))

    def layers(self, frames: Tensor) -> Tensor:
        """(batch, frames, 128) to (batch, frames, 512)."""
        for block in self.blocks:
            frames = block(frames)
        return (frames * self.scale + self.shift).relu_()

    def voices(self, frames: Tensor) -> Tensor:
        """(batch, frames, 512), all of them or those of a window, to (batch, 192)."""
        return cast(Tensor, self.dense(torch.cat([frames.mean(dim=1), frames.std(dim=1)], dim=1)))


class _Residual(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.first = _fold_convolution(layer.conv1, layer.bn1)
        self.second = _fold_convolution(layer.conv2, layer.bn2)
        self.shortcut = _fold_convolution(*layer.shortcut) if len(layer.shortcut) else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        return cast(Tensor, self.second(self.first(hidden).relu_()).add_(self.shortcut(hidden)).relu_())


class _Block(nn.Module):
    """A dense block and the transit behind it."""

    def __init__(self, block: Any, transit: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Layer(layer) for layer in block.values()])
        self.transit = _Clamped(transit.nonlinear.batchnorm, transit.linear.weight[..., 0])

    def forward(self, frames: Tensor) -> Tensor:
        batch, length, width = frames.shape
        found = frames.new_empty(batch, length, width + GROWTH * len(self.layers))
        found[..., :width] = frames
        for place, layer in enumerate(self.layers):
            known = width + GROWTH * place
            found[..., known : known + GROWTH] = layer(found[..., :known])
        return cast(Tensor, self.transit(found))


class _Layer(nn.Module):
    taps: Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__()
        scale, shift = _scale(layer.nonlinear2.batchnorm)
        self.narrow = _Clamped(layer.nonlinear1.batchnorm, scale[:, None] * layer.linear1.weight[..., 0], shift)
        masked = layer.cam_layer
        self.dilation = int(masked.linear_local.dilation[0])
        self.register_buffer("taps", masked.linear_local.weight.permute(1, 2, 0).flatten(1).contiguous())
        self.context = nn.Linear(*reversed(masked.linear1.weight.shape[:2]))
        self.context.load_state_dict({"weight": masked.linear1.weight[..., 0], "bias": masked.linear1.bias})
        self.mask = nn.Linear(*reversed(masked.linear2.weight.shape[:2]))
        self.mask.load_state_dict({"weight": masked.linear2.weight[..., 0], "bias": masked.linear2.bias})

    def forward(self, known: Tensor) -> Tensor:
        hidden = self.narrow(known).relu_()
        before, found, after = (hidden @ self.taps).split(GROWTH, dim=-1)
        found[:, self.dilation :] += before[:, : -self.dilation]
        found[:, : -self.dilation] += after[:, self.dilation :]
        whole = hidden.mean(dim=1)
        for start in range(0, hidden.shape[1], SEGMENT_FRAMES):
            segment = slice(start, start + SEGMENT_FRAMES)
            context = whole + hidden[:, segment].mean(dim=1)
            found[:, segment] *= torch.sigmoid(self.mask(F.relu(self.context(context))))[:, None]
        return cast(Tensor, found)


class _Clamped(nn.Module):
    """A normalisation, a rectifier, and a matrix of shape (outputs, inputs) with its bias."""

    lowest: Tensor
    highest: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, norm: nn.BatchNorm1d, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        scale, shift = _scale(norm)
        corner = -shift / scale
        self.register_buffer("lowest", torch.where(scale > 0, corner, -torch.inf))
        self.register_buffer("highest", torch.where(scale > 0, torch.inf, corner))
        self.register_buffer("weight", (weight * scale).T.contiguous())
        self.register_buffer("bias", weight @ shift + (0 if bias is None else bias))

    def forward(self, hidden: Tensor) -> Tensor:
        clamped = torch.clamp(hidden, self.lowest, self.highest)
        return torch.addmm(self.bias, clamped.flatten(0, 1), self.weight).view(*hidden.shape[:2], -1)


def _scale(norm: Any) -> tuple[Tensor, Tensor]:
    """What a normalisation multiplies by and adds."""
    scale = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
    return scale.detach(), (-norm.running_mean * scale + (0 if norm.bias is None else norm.bias)).detach()


def _fold_convolution(convolution: Any, norm: Any) -> Any:
    return nn.utils.fusion.fuse_conv_bn_eval(convolution.eval(), norm.eval())
