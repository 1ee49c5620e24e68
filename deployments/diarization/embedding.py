"""CAM++ as a pipeline of pyannote.audio asks for it, and for many stretches of one recording, none heard twice."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pyannote.audio.core.inference import BaseInference
from torch import Tensor

from deployments.diarization.campplus import DIMENSION, load_campplus
from deployments.diarization.features import filter_bank
from deployments.diarization.folded import FoldedCamPlusPlus
from deployments.diarization.windows import Stream
from pipelines.audio_types import SAMPLE_RATE_HZ

Found = list[tuple[int, int, NDArray[np.float32]]]
"""Window, speaker, voice."""

MIN_FRAMES = 30
ROUNDED_FRAMES = 10
"""Spans are shortened to a multiple of this, so that many of them have one length and make a batch."""

CPU_BATCH = 4
"""More than that of a layer's inputs does not stay in a core's cache."""


@dataclass(frozen=True, slots=True)
class Span:
    """Windows that are heard together.

    frames: of the network, (frames, 128).
    windows: as a stream's, their features counted from the first one of the span.
    """

    speaker: int
    frames: Tensor
    windows: tuple[tuple[int, int, int], ...]


class CamPlusPlusEmbedding(BaseInference):
    """network: on `device`."""

    metric = "cosine"
    dimension = DIMENSION
    sample_rate = SAMPLE_RATE_HZ

    def __init__(self, path: Path) -> None:
        self.network = FoldedCamPlusPlus(load_campplus(path))
        self.to(torch.device("cpu"))

    def to(self, device: torch.device) -> "CamPlusPlusEmbedding":
        self.device = device
        self.network.to(device)
        return self

    def __call__(self, waveforms: Tensor, masks: Tensor | None = None) -> NDArray[np.float32]:
        """(batch, 1, samples) of one voice each to (batch, 192); NaN where there are too few samples."""
        return np.stack([self._voice(filter_bank(waveform[0])) for waveform in waveforms])

    def streams(
        self, features: Tensor, streams: Iterable[Stream], num_together: int, batch_size: int
    ) -> Iterator[Found]:
        """Unit vectors of the windows of each stream as they are found, after each of them and each batch.

        num_together: windows of a stream that are heard at once, so that what they share is computed once. The network
            hears the one while it describes the other: many of them make voices alike that the segmentation mixed up.
        """
        batch_size = min(batch_size, CPU_BATCH) if self.device.type == "cpu" else batch_size
        waiting: dict[int, list[Span]] = defaultdict(list)
        for stream in streams:
            for span in self._cut(features, stream, num_together):
                waiting[len(span.frames)].append(span)
            yield []
            for length in [length for length, spans in waiting.items() if len(spans) >= batch_size]:
                yield from self._batches(waiting.pop(length), batch_size)
        for spans in waiting.values():
            yield from self._batches(spans, batch_size)

    @torch.inference_mode()
    def _voice(self, features: Tensor) -> NDArray[np.float32]:
        if len(features) < MIN_FRAMES:
            return np.full(DIMENSION, np.nan, np.float32)
        network = self.network
        return np.asarray(network.voices(network.layers(self._frames(features)[None])).cpu().numpy()[0])

    def _cut(self, features: Tensor, stream: Stream, num_together: int) -> Iterator[Span]:
        """The first part of the network hears the stream once, the second one what several windows have in common:
        pauses around a turn may leave them the same frames."""
        if len(stream.features) < MIN_FRAMES:
            return
        frames = self._frames(features[torch.from_numpy(stream.features)])
        spans: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
        for number in range(0, len(stream.windows), num_together):
            together = stream.windows[number : number + num_together]
            spans[together[0][1], together[-1][2]].extend(together)
        for (start, end), heard in spans.items():
            length = (end - start) // ROUNDED_FRAMES * ROUNDED_FRAMES
            if length >= MIN_FRAMES:
                windows = tuple((window, first - start, last - start) for window, first, last in heard)
                yield Span(stream.speaker, frames[start // 2 : start // 2 + length // 2], windows)

    @torch.inference_mode()
    def _frames(self, features: Tensor) -> Tensor:
        features = features - features.mean(dim=0)
        return self.network.frames(features[None].to(self.device))[0]

    @torch.inference_mode()
    def _batches(self, spans: list[Span], batch_size: int) -> Iterator[Found]:
        for start in range(0, len(spans), batch_size):
            batch = spans[start : start + batch_size]
            heard = self.network.layers(torch.stack([span.frames for span in batch]))
            yield [found for span, frames in zip(batch, heard, strict=True) for found in self._voices(span, frames)]

    def _voices(self, span: Span, frames: Tensor) -> Found:
        windows = [(window, first // 2, last // 2) for window, first, last in span.windows]
        return [
            (window, span.speaker, F.normalize(self.network.voices(frames[None, first:last]))[0].cpu().numpy())
            for window, first, last in windows
            if min(last, len(frames)) - first >= MIN_FRAMES // 2
        ]
