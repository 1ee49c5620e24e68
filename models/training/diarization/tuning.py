"""How the clustering is set: by conversations of voices that were kept back from training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pyannote.core import SlidingWindowFeature
from pyannote.metrics.diarization import DiarizationErrorRate
from tqdm import tqdm

from deployments.diarization.small_pipeline import SmallSpeakerDiarization
from models.training.diarization.checkpoints import hyperparameters, parameters
from models.training.diarization.settings import Clustering
from models.training.diarization.spoken import Spoken

T = TypeVar("T")

MISCOUNT = 0.05
"""What a speaker too many or too few in each conversation costs, in error rate."""


class _Remembering(SmallSpeakerDiarization):
    """The pipeline, whose networks hear every file once, so that only the clustering is done again."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self._heard: dict[tuple[str, str], Any] = {}

    def get_segmentations(self, file: Mapping[str, Any], hook: Any = None) -> SlidingWindowFeature:
        listen = super().get_segmentations
        return self._remembered("segmentations", file, lambda: listen(file, hook=hook))

    def get_embeddings(self, file: Mapping[str, Any], *arguments: Any, **options: Any) -> NDArray[np.float32]:
        listen = super().get_embeddings
        found = self._remembered("embeddings", file, lambda: listen(file, *arguments, **options))
        return np.array(found)

    def _remembered(self, what: str, file: Mapping[str, Any], listen: Callable[[], T]) -> T:
        key = what, str(file["uri"])
        if key not in self._heard:
            self._heard[key] = listen()
        return self._heard[key]  # type: ignore[no-any-return]


def tune(folder: Path, spoken: Sequence[Spoken], clustering: Clustering) -> dict[str, float]:
    """The setting of a pipeline's directory that is least wrong about these conversations."""
    pipeline = _Remembering(**parameters(folder))
    pipeline.segmentation_batch_size = pipeline.embedding_batch_size = 16
    settings = list(_settings(clustering))
    costs = [_cost(pipeline, setting, spoken) for setting in tqdm(settings, desc="clustering", unit="setting")]
    return settings[int(np.argmin(costs))]


def _settings(clustering: Clustering) -> Iterator[dict[str, float]]:
    for threshold, merge, noise in product(clustering.threshold, clustering.merge, clustering.noise):
        yield {"threshold": threshold, "merge": merge, "noise": noise}


def _cost(pipeline: SmallSpeakerDiarization, setting: Mapping[str, float], spoken: Sequence[Spoken]) -> float:
    pipeline.instantiate(hyperparameters(setting))
    error_rate, miscounts = DiarizationErrorRate(), 0
    for one in spoken:
        found = pipeline(one.file).speaker_diarization
        error_rate(one.turns, found, uem=one.extent)
        miscounts += abs(len(found.labels()) - len(one.turns.labels()))
    return float(abs(error_rate)) + MISCOUNT * miscounts / len(spoken)
