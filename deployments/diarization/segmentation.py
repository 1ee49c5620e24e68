"""pyannote's segmentation over chunks that overlap, without filtering the same samples for each of them.

PyanNet (Bredin and Laurent, "End-to-end speaker segmentation for overlap-aware resegmentation", 2021) normalises a
chunk, then filters it by 80 band passes (Ravanelli and Bengio, "Speaker recognition from raw waveform with SincNet",
2018). That is a fourth of its work, and chunks overlap: but a filter of `scale * samples + shift` is
`scale * filtered + shift * sum(filter)`, so what several of them have of the audio is filtered once.
"""

from collections.abc import Callable
from math import ceil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pyannote.audio import Inference
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.blocks.sincnet import SincNet
from pyannote.audio.models.segmentation import PyanNet
from pyannote.core import SlidingWindow, SlidingWindowFeature
from torch import Tensor
from torch.torch_version import TorchVersion

from pipelines.audio_types import SAMPLE_RATE_HZ

Hook = Callable[..., None]


class OverlappingSincNet(SincNet):
    """`SincNet` of every chunk of a stretch of audio.

    chunk_samples, step_samples: how long they are and how far apart, the latter a multiple of `stride`.
    """

    def __init__(self, stride: int, chunk_samples: int, step_samples: int) -> None:
        super().__init__(stride=stride)
        assert step_samples % stride == 0
        self._chunk_samples, self._step_samples = chunk_samples, step_samples

    def forward(self, stretch: Tensor) -> Tensor:
        """(1, 1, samples) to (chunks, 60, frames)."""
        scales, shifts = self._normalisation(stretch[0, 0].unfold(0, self._chunk_samples, self._step_samples))
        filters = self.conv1d[0].filters()
        filtered = F.conv1d(stretch, filters, stride=self.stride)[0]
        num_frames = (self._chunk_samples - filters.shape[-1]) // self.stride + 1
        chunks = filtered.unfold(1, num_frames, self._step_samples // self.stride).unbind(1)
        offsets = shifts[:, None, None] * filters.sum(dim=-1)
        loudest = [
            self.pool1d[0](torch.addcmul(offset, chunk, scale).abs_())
            for chunk, scale, offset in zip(chunks, scales, offsets, strict=True)
        ]
        hidden = F.leaky_relu(self.norm1d[0](torch.stack(loudest)))
        for convolution, pool, norm in zip(self.conv1d[1:], self.pool1d[1:], self.norm1d[1:], strict=True):
            hidden = F.leaky_relu(norm(pool(convolution(hidden))))
        return hidden

    def _normalisation(self, chunks: Tensor) -> tuple[Tensor, Tensor]:
        """What each of (chunks, samples) is multiplied by, and what is added to it."""
        norm = self.wav_norm1d
        variances, means = torch.var_mean(chunks, dim=-1, correction=0)
        scales = norm.weight * torch.rsqrt(variances + norm.eps)
        return scales, norm.bias - means * scales


class OverlappingSegmentation(Inference):
    """Who speaks when in chunks of a recording: called with a file, (chunks, frames, speakers) of 0 and 1.

    model: its filters are put in another's place.
    step: from chunk to chunk, as a share of their length; rounded to a step of the filters.
    """

    def __init__(self, model: PyanNet, step: float) -> None:
        stride, duration_s = model.sincnet.stride, model.specifications.duration
        self._chunk_samples = round(duration_s * SAMPLE_RATE_HZ)
        self._step_samples = stride * max(1, round(step * self._chunk_samples / stride))
        filters = OverlappingSincNet(stride, self._chunk_samples, self._step_samples)
        filters.load_state_dict(model.sincnet.state_dict())
        model.sincnet = filters
        super().__init__(model, duration=duration_s, step=self._step_samples / SAMPLE_RATE_HZ, skip_aggregation=True)

    def slide(self, waveform: Tensor, sample_rate: int, hook: Hook | None) -> SlidingWindowFeature:
        """Of (1, samples), all chunks, the last one filled up with silence; the hook hears of each batch."""
        num_chunks = 1 + max(0, ceil((waveform.shape[1] - self._chunk_samples) / self._step_samples))
        found = []
        for first in range(0, num_chunks, self.batch_size):
            if hook is not None:
                hook(completed=first, total=num_chunks)
            found.append(self.infer(self._stretch(waveform, first, min(first + self.batch_size, num_chunks))))
        if hook is not None:
            hook(completed=num_chunks, total=num_chunks)
        return SlidingWindowFeature(
            np.concatenate(found), SlidingWindow(start=0.0, duration=self.duration, step=self.step)
        )

    def _stretch(self, waveform: Tensor, first: int, last: int) -> Tensor:
        start, end = first * self._step_samples, (last - 1) * self._step_samples + self._chunk_samples
        stretch = waveform[:, start:end]
        return F.pad(stretch, (0, end - start - stretch.shape[1]))[None]


def load_segmentation(path: Path) -> PyanNet:
    """A checkpoint of pyannote.audio's, which is a pickle, without running what a pickle may run.

    Raises:
        FileNotFoundError, KeyError, RuntimeError, pickle.UnpicklingError: it is none of PyanNet's.
    """
    with torch.serialization.safe_globals([Problem, Resolution, Specifications, TorchVersion]):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model = PyanNet(**checkpoint["hyper_parameters"])
    model.specifications = checkpoint["pyannote.audio"]["specifications"]
    model.build()
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()
