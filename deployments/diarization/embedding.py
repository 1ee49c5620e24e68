"""CAM++ as a pipeline of pyannote.audio asks for it, and for many stretches of one recording, none heard twice."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pyannote.audio.core.inference import BaseInference
from torch import Tensor

from deployments.compat.torch import multiplies_bfloat16
from deployments.diarization.campplus import DIMENSION, load_campplus
from deployments.diarization.features import filter_bank
from deployments.diarization.folded import FoldedCamPlusPlus
from deployments.diarization.windows import Stream
from pipelines.audio_types import SAMPLE_RATE_HZ

Places = tuple[NDArray[np.int64], int]
"""Windows, and the speaker in all of them: pauses around a turn may leave them the same frames."""

Found = list[tuple[Places, NDArray[np.float32]]]

MIN_FRAMES = 30
ROUNDED_FRAMES = 10
"""Stretches are shortened to a multiple of this, so that many of them have one length and make a batch."""


class CamPlusPlusEmbedding(BaseInference):
    """network: on `device`, its weights of `dtype`, in which it computes."""

    metric = "cosine"
    dimension = DIMENSION
    sample_rate = SAMPLE_RATE_HZ

    def __init__(self, path: Path) -> None:
        self._exact = FoldedCamPlusPlus(load_campplus(path))
        self.to(torch.device("cpu"))

    def to(self, device: torch.device) -> "CamPlusPlusEmbedding":
        self.device = device
        self.dtype = torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
        # a copy is rounded: what comes here first for the CPU may be moved to a GPU afterwards
        network = self._exact if self.dtype == torch.float32 else deepcopy(self._exact)
        self.network = network.to(device, self.dtype)
        return self

    def __call__(self, waveforms: Tensor, masks: Tensor | None = None) -> NDArray[np.float32]:
        """(batch, 1, samples) of one voice each to (batch, 192); NaN where there are too few samples."""
        return np.stack([self._voice(filter_bank(waveform[0])) for waveform in waveforms])

    def streams(self, features: Tensor, streams: Iterable[Stream], batch_size: int) -> Iterator[Found]:
        """Unit vectors of the windows of each stream as they are found, after each of them and each batch."""
        waiting: dict[int, list[tuple[Places, Tensor]]] = defaultdict(list)
        for stream in streams:
            for places, frames in self._cut(features, stream):
                waiting[len(frames)].append((places, frames))
            yield []
            for length in [length for length, rows in waiting.items() if len(rows) >= batch_size]:
                yield from self._batches(waiting.pop(length), batch_size)
        for rows in waiting.values():
            yield from self._batches(rows, batch_size)

    @torch.inference_mode()
    def _voice(self, features: Tensor) -> NDArray[np.float32]:
        if len(features) < MIN_FRAMES:
            return np.full(DIMENSION, np.nan, np.float32)
        return np.asarray(self.network.voices(self._frames(features)[None]).float().cpu().numpy()[0])

    def _cut(self, features: Tensor, stream: Stream) -> Iterator[tuple[Places, Tensor]]:
        """What the first part of the network makes of each window of a stream; it hears the stream once."""
        if len(stream.features) < MIN_FRAMES:
            return
        frames = self._frames(features[torch.from_numpy(stream.features)])
        windows = np.array(stream.windows)
        for first, last in np.unique(windows[:, 1:], axis=0).tolist():
            length = (last - first) // ROUNDED_FRAMES * ROUNDED_FRAMES
            if length >= MIN_FRAMES:
                alike = windows[(windows[:, 1] == first) & (windows[:, 2] == last), 0]
                yield (alike, stream.speaker), frames[first // 2 : first // 2 + length // 2]

    @torch.inference_mode()
    def _frames(self, features: Tensor) -> Tensor:
        features = features - features.mean(dim=0)
        return self.network.frames(features[None].to(self.device, self.dtype))[0]

    @torch.inference_mode()
    def _batches(self, rows: list[tuple[Places, Tensor]], batch_size: int) -> Iterator[Found]:
        for start in range(0, len(rows), batch_size):
            places, frames = zip(*rows[start : start + batch_size], strict=True)
            voices = F.normalize(self.network.voices(torch.stack(frames)).float()).cpu().numpy()
            yield list(zip(places, voices, strict=True))


def _multiplies_bfloat16(device: torch.device) -> bool:
    """CPUs that only imitate it are many times slower with it; a GPU has time for all the digits."""
    return device.type == "cpu" and multiplies_bfloat16()
