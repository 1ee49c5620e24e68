"""A pyannote.audio pipeline that tells voices apart in short windows.

A segmentation network hears well who speaks when, and still mixes speakers up over its 10 s. So voices are described
in windows of a few seconds, each of one speaker of one chunk, and everybody else is cut out before the embedding
network hears them: its layers listen to all that is around, so that a mask at its end would be too late.
Segmentation, reconstruction and outputs are pyannote.audio's own (Bredin, "pyannote.audio 2.1 speaker diarization
pipeline: principle, benchmark, and recipe", 2023).
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pyannote.audio import Audio, Pipeline
from pyannote.audio.pipelines import SpeakerDiarization
from pyannote.core import SlidingWindow, SlidingWindowFeature
from pyannote.pipeline.parameter import ParamDict, Uniform

from deployments.compat.pyannote import audio_of, embedding_of, put_parts, segmentation_of
from deployments.diarization.clustering import CentroidMergeClustering
from deployments.diarization.embedding import CamPlusPlusEmbedding
from deployments.diarization.features import FEATURE_TIMES_S, filter_bank
from deployments.diarization.segmentation import OverlappingSegmentation, load_segmentation
from deployments.diarization.windows import Windows
from pipelines.audio_types import SAMPLE_RATE_HZ

Hook = Callable[..., None]
Folder = Mapping[str, Any]
"""`$model/NAME` in config.yaml, as pyannote.audio passes it on."""

SEGMENTATION_FILE = "pytorch_model.bin"
EMBEDDING_FILE = "campplus_cn_en_common.pt"


class WindowedSpeakerDiarization(SpeakerDiarization):
    """Speaker diarization by a powerset segmentation (Plaquet and Bredin, 2023) and CAM++.

    segmentation_step: of the chunks that the segmentation hears, as a share of their length.
    window_s, hop_s: of the windows that are embedded. A longer hop is quicker and hears worse who is who.
    shared_s: windows are cut from chunks so far apart. What windows of a chunk share is heard once; at a chunk's
        edges the segmentation is worse.
    together_s: windows that begin and end within so long are described by what the embedding heard of all of them:
        longer is quicker, and worse where the segmentation took two people for one.
    """

    def __init__(
        self,
        segmentation: Folder,
        embedding: Folder,
        segmentation_step: float = 0.2,
        window_s: float = 3.0,
        hop_s: float = 1.0,
        shared_s: float = 4.0,
        together_s: float = 3.0,
        token: Any = None,
        cache_dir: Any = None,
    ) -> None:
        # SpeakerDiarization's own would read pickles, and want a PLDA, which this clustering has no use for
        Pipeline.__init__(self)
        self.legacy, self.embedding_exclude_overlap = False, True
        self.window_s, self.hop_s, self._shared_s, self.together_s = window_s, hop_s, shared_s, together_s
        put_parts(
            self,
            OverlappingSegmentation(load_segmentation(_file(segmentation, SEGMENTATION_FILE)), segmentation_step),
            CamPlusPlusEmbedding(_file(embedding, EMBEDDING_FILE)),
            Audio(sample_rate=SAMPLE_RATE_HZ, mono="downmix"),
        )
        self.segmentation = ParamDict(min_duration_off=Uniform(0.0, 1.0))
        self.embedding_batch_size = 16
        self.clustering = CentroidMergeClustering(metric=CamPlusPlusEmbedding.metric)

    @property
    def num_together(self) -> int:
        """Windows."""
        return 1 + max(0, int((self.together_s - self.window_s) / self.hop_s))

    def get_segmentations(self, file: Mapping[str, Any], hook: Hook | None = None) -> Windows:
        listening = None if hook is None else partial(hook, "segmentation", None)
        segmentation = segmentation_of(self)
        chunks = segmentation(file, hook=listening)
        duration_s = file["waveform"].shape[1] / file["sample_rate"]
        frames = segmentation.model.receptive_field
        return Windows(chunks, frames, duration_s, self.window_s, self.hop_s, self._shared_s)

    @staticmethod
    def speaker_count(
        binarized_segmentations: SlidingWindowFeature,
        frames: SlidingWindow,
        warm_up: tuple[float, float] = (0.1, 0.1),
    ) -> SlidingWindowFeature:
        """By all the chunks, not only those that windows were cut from."""
        chunks = cast(Windows, binarized_segmentations).chunks
        return SpeakerDiarization.speaker_count(chunks, frames, warm_up=warm_up)

    def get_embeddings(
        self,
        file: Mapping[str, Any],
        binary_segmentations: SlidingWindowFeature,
        exclude_overlap: bool = False,
        hook: Hook | None = None,
    ) -> NDArray[np.float32]:
        """Unit vectors, (windows, speakers, 192); NaN for who says too little."""
        windows = cast(Windows, binary_segmentations)
        waveform, _ = audio_of(self)(file)
        features = filter_bank(waveform[0])
        streams = list(windows.streams(len(features), FEATURE_TIMES_S))
        embedding = embedding_of(self)
        embeddings = np.full((*windows.data.shape[::2], embedding.dimension), np.nan, np.float32)
        steps = embedding.streams(features, streams, self.num_together, self.embedding_batch_size)
        for number, found in enumerate(steps):
            for window, speaker, voice in found:
                embeddings[window, speaker] = voice
            if hook is not None:
                hook("embeddings", None, total=2 * len(streams), completed=min(number, 2 * len(streams)))
        for stream in streams:
            _fill(embeddings, [window for window, _, _ in stream.windows], stream.speaker)
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


def _fill(embeddings: NDArray[np.float32], windows: list[int], speaker: int) -> None:
    """Who says too little in a window sounds as in the nearest window of the same chunk."""
    heard = [window for window in windows if np.isfinite(embeddings[window, speaker, 0])]
    if heard:
        nearest = [min(heard, key=lambda other: abs(other - window)) for window in windows]
        embeddings[windows, speaker] = embeddings[nearest, speaker]


def _file(folder: Folder, name: str) -> Path:
    return Path(folder["checkpoint"]) / folder["subfolder"] / name
