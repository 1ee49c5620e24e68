"""A pyannote.audio pipeline for small models.

A small segmentation network hears well that somebody speaks, and whether one or two do, but not who is who
within its 10 s. So it only counts speakers here, and who they are is told by embeddings of short windows.
All else is pyannote.audio's own: clustering's frame, reconstruction, outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pyannote.audio import Inference
from pyannote.audio.pipelines import SpeakerDiarization
from pyannote.core import SlidingWindow, SlidingWindowFeature

from deployments.diarization.clustering import CentroidMergeClustering

Hook = Callable[..., None]

MIN_SPEECH, MIN_OVERLAP = 0.6, 1.8
"""Mean count of speakers, over all chunks that hear a frame, above which it is speech, or two who speak at once."""

MIN_CLEAN_FRAMES = 20
"""A window with less solo speech than 0.4 s is embedded with its overlapped speech."""


@dataclass(frozen=True, slots=True)
class _Windows:
    """num_speakers: (windows, frames), how many speak in every frame. size, hop: in frames."""

    num_speakers: NDArray[np.int8]
    size: int
    hop: int


class _Counted(SlidingWindowFeature):
    """Speech in short windows, which remembers how many spoke at once."""

    count: SlidingWindowFeature
    windows: _Windows


class SmallSpeakerDiarization(SpeakerDiarization):
    """Speaker diarization by counting speakers frame by frame and clustering short windows.

    window_s, hop_s: of the embedded windows. Other parameters are those of `SpeakerDiarization`.
    """

    def __init__(self, window_s: float = 1.5, hop_s: float = 0.3, **parameters: Any) -> None:
        super().__init__(**parameters)
        self._window_s = window_s
        self._hop_s = hop_s
        self.clustering = CentroidMergeClustering(metric=self._embedding.metric)

    def get_segmentations(self, file: Mapping[str, Any], hook: Hook | None = None) -> SlidingWindowFeature:
        """Whether somebody speaks: (windows, frames, 1), 0 or 1."""
        chunks = super().get_segmentations(file, hook=hook)
        frames = self._segmentation.model.receptive_field
        counts = SlidingWindowFeature(chunks.data.sum(axis=-1, keepdims=True), chunks.sliding_window)
        mean = Inference.aggregate(counts, frames, hamming=False, missing=0.0, skip_average=False).data[:, 0]
        num_frames = max(1, ceil(file["waveform"].shape[1] / file["sample_rate"] / frames.step))
        count = np.add(mean > MIN_SPEECH, mean > MIN_OVERLAP, dtype=np.int8)[:num_frames]
        windows = self._cut(count, frames.step)
        sliding = SlidingWindow(start=0.0, duration=windows.size * frames.step, step=windows.hop * frames.step)
        counted = _Counted((windows.num_speakers > 0).astype(np.float32)[..., None], sliding)
        counted.count = SlidingWindowFeature(count[:, None], frames)
        counted.windows = windows
        return counted

    @staticmethod
    def speaker_count(
        binarized_segmentations: SlidingWindowFeature,
        frames: SlidingWindow,
        warm_up: tuple[float, float] = (0.1, 0.1),
    ) -> SlidingWindowFeature:
        """What was counted already; short windows themselves know one speaker only."""
        if not isinstance(binarized_segmentations, _Counted):
            return SpeakerDiarization.speaker_count(binarized_segmentations, frames, warm_up=warm_up)
        count = binarized_segmentations.count
        return SlidingWindowFeature(count.data.copy(), count.sliding_window)

    def get_embeddings(
        self,
        file: Mapping[str, Any],
        binary_segmentations: SlidingWindowFeature,
        exclude_overlap: bool = False,
        hook: Hook | None = None,
    ) -> NDArray[np.float32]:
        """One embedding for every window with speech, (windows, 1, dimension); NaN for the others."""
        windows = cast(_Counted, binary_segmentations).windows
        masks = _masks(windows.num_speakers, exclude_overlap)
        waveform, sample_rate_hz = self._audio(file)
        frame_samples = round(self._segmentation.model.receptive_field.step * sample_rate_hz)
        size, hop = windows.size * frame_samples, windows.hop * frame_samples
        missing = (len(masks) - 1) * hop + size - waveform.shape[1]
        cut = F.pad(waveform, (0, max(0, missing))).unfold(1, size, hop)[0]
        embeddings = np.full((len(masks), 1, self._embedding.dimension), np.nan, np.float32)
        spoken = np.flatnonzero(masks.any(axis=1))
        batches = np.array_split(spoken, ceil(len(spoken) / self.embedding_batch_size)) if len(spoken) else []
        for number, batch in enumerate(batches):
            if hook is not None:
                hook("embeddings", None, total=len(batches), completed=number)
            found = self._embedding(cut[batch][:, None], masks=torch.from_numpy(masks[batch]))
            embeddings[batch, 0] = found / (np.linalg.norm(found, axis=1, keepdims=True) + 1e-9)
        return embeddings

    def reconstruct(
        self,
        segmentations: SlidingWindowFeature,
        hard_clusters: NDArray[np.int8],
        count: SlidingWindowFeature,
    ) -> SlidingWindowFeature:
        """Never more speakers at once than there are in all: pyannote.audio would invent one without an embedding."""
        num_speakers = max(1, int(hard_clusters.max()) + 1)
        capped = SlidingWindowFeature(np.minimum(count.data, num_speakers), count.sliding_window)
        return super().reconstruct(segmentations, hard_clusters, capped)

    def _cut(self, count: NDArray[np.int8], step_s: float) -> _Windows:
        size, hop = round(self._window_s / step_s), round(self._hop_s / step_s)
        num_windows = max(1, ceil((len(count) - size) / hop) + 1)
        padded = np.pad(count, (0, (num_windows - 1) * hop + size - len(count)))
        return _Windows(np.lib.stride_tricks.sliding_window_view(padded, size)[::hop].copy(), size, hop)


def _masks(num_speakers: NDArray[np.int8], exclude_overlap: bool) -> NDArray[np.float32]:
    """Which frames of each window to listen to: those of one speaker alone, where they are enough."""
    spoken, clean = num_speakers > 0, num_speakers == 1
    is_clean_enough = exclude_overlap & (clean.sum(axis=1, keepdims=True) >= MIN_CLEAN_FRAMES)
    return np.where(is_clean_enough, clean, spoken).astype(np.float32)
