"""What `deployments/compat/pyannote.py` takes for granted, asked of pyannote.audio itself."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from pyannote.audio import Audio, Inference, Pipeline
from pyannote.audio.core.inference import BaseInference
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding import WeSpeakerResNet34
from pyannote.audio.models.segmentation import PyanNet
from pyannote.audio.pipelines import SpeakerDiarization
from pyannote.audio.pipelines.clustering import AgglomerativeClustering
from pyannote.audio.pipelines.speaker_verification import PyannoteAudioPretrainedSpeakerEmbedding
from pyannote.audio.telemetry import set_telemetry_metrics
from pyannote.core import SlidingWindow, SlidingWindowFeature
from pyannote.pipeline.parameter import ParamDict, Uniform

from deployments.compat.pyannote import (
    audio_of,
    embedding_of,
    frames_of,
    is_in_two_halves,
    network_of,
    put_embedding,
    put_parts,
    segmentation_of,
    voices_of,
)
from tests.support.contracts import contract

kept = partial(contract, "pyannote.audio", "deployments/compat/pyannote.py")

RATE_HZ = 16_000
SECONDS = 10


class Voices(BaseInference):
    """Of whoever is asked about, the same."""

    dimension = 4
    sample_rate = RATE_HZ
    min_num_samples = 400

    def __init__(self) -> None:
        self.num_asked = 0
        self.devices: list[str] = []

    def to(self, device: torch.device) -> "Voices":
        self.devices.append(device.type)
        return self

    def __call__(self, waveforms: torch.Tensor, masks: torch.Tensor) -> Any:
        assert waveforms.shape[1:] == (1, SECONDS * RATE_HZ)
        self.num_asked += len(waveforms)
        return np.ones((len(waveforms), self.dimension), np.float32)


class Assembled(SpeakerDiarization):
    """Notes which of its steps it is asked for. Two speakers, one behind the other, whatever there is to hear."""

    def __init__(self, voices: Voices) -> None:
        Pipeline.__init__(self)
        self.legacy, self.embedding_exclude_overlap, self.embedding_batch_size = False, True, 8
        self.asked: list[str] = []
        network = PyanNet(lstm={"hidden_size": 4, "num_layers": 1}, linear={"hidden_size": 4, "num_layers": 1})
        network.specifications = Specifications(
            problem=Problem.MONO_LABEL_CLASSIFICATION,
            resolution=Resolution.FRAME,
            duration=float(SECONDS),
            classes=["one", "two"],
            powerset_max_classes=1,
            permutation_invariant=True,
        )
        network.build()
        put_parts(
            self,
            Inference(network, duration=float(SECONDS), step=1.0, skip_aggregation=True),
            voices,
            Audio(sample_rate=RATE_HZ, mono="downmix"),
        )
        self.segmentation = ParamDict(min_duration_off=Uniform(0.0, 1.0))
        self.clustering = AgglomerativeClustering(metric="cosine")

    def get_segmentations(self, file: Any, hook: Any = None) -> Any:
        self.asked.append("get_segmentations")
        heard = segmentation_of(self)(file, hook=hook and (lambda *_, **__: None))
        data = np.zeros(heard.data.shape, np.float32)
        data[:, : data.shape[1] // 2, 0] = data[:, data.shape[1] // 2 :, 1] = 1
        return SlidingWindowFeature(data, heard.sliding_window)

    def speaker_count(self, binarized_segmentations: Any, frames: SlidingWindow, warm_up: Any = (0.1, 0.1)) -> Any:
        self.asked.append("speaker_count")
        return SpeakerDiarization.speaker_count(binarized_segmentations, frames, warm_up=warm_up)

    def get_embeddings(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.append("get_embeddings")
        return super().get_embeddings(*args, **kwargs)

    def reconstruct(self, *args: Any) -> Any:
        self.asked.append("reconstruct")
        return super().reconstruct(*args)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_reported() -> None:
    """pyannote.audio would tell its makers of every call."""
    set_telemetry_metrics(False)


@pytest.fixture
def file() -> dict[str, Any]:
    noise = torch.randn(1, SECONDS * RATE_HZ, generator=torch.Generator().manual_seed(0))
    return {"waveform": noise / 10, "sample_rate": RATE_HZ, "uri": "noise"}


@pytest.fixture
def pipeline() -> Assembled:
    clustering = {"method": "centroid", "min_cluster_size": 1, "threshold": 0.7}
    return Assembled(Voices()).instantiate({"segmentation": {"min_duration_off": 0.0}, "clustering": clustering})


def test_a_pipeline_of_given_parts_works(pipeline: Assembled, file: dict[str, Any]) -> None:
    with kept("a part or a step of SpeakerDiarization.apply"):
        output = pipeline(file)
        assert len(output.speaker_diarization.labels()) == 1
        steps = ["get_segmentations", "speaker_count", "get_embeddings", "reconstruct", "reconstruct"]
        assert pipeline.asked == steps
        assert embedding_of(pipeline).num_asked == 2


def test_a_pipeline_moves_its_parts(pipeline: Assembled) -> None:
    with kept("BaseInference, by which a pipeline finds its parts,"):
        pipeline.to(torch.device("cpu"))
        assert embedding_of(pipeline).devices == ["cpu"]


def test_a_pipeline_s_parts_are_found(pipeline: Assembled, file: dict[str, Any]) -> None:
    with kept("_segmentation, or _audio, of a SpeakerDiarization"):
        segmentation, samples = segmentation_of(pipeline), audio_of(pipeline)(file)[0]
        assert isinstance(segmentation, Inference)
        assert samples.shape == (1, SECONDS * RATE_HZ)


def test_another_embedding_is_used(pipeline: Assembled, file: dict[str, Any]) -> None:
    with kept("_embedding of a SpeakerDiarization"):
        before, other = embedding_of(pipeline), Voices()
        put_embedding(pipeline, other)
        assert embedding_of(pipeline) is other
        pipeline(file)
        pipeline.to(torch.device("cpu"))
        assert (other.num_asked, before.num_asked) == (2, 0)
        assert (other.devices, before.devices) == (["cpu"], [])


@torch.inference_mode()
def test_the_network_of_an_embedding_has_two_halves() -> None:
    with kept("model_, forward_frames or forward_embedding"):
        whole = WeSpeakerResNet34().eval()
        network = network_of(PyannoteAudioPretrainedSpeakerEmbedding(whole))
        assert network is whole
        assert is_in_two_halves(network)
        generator = torch.Generator().manual_seed(0)
        waveforms, masks = torch.randn(2, 1, RATE_HZ // 4, generator=generator), torch.ones(2, 20)
        masks[1, 10:] = 0
        found = voices_of(network, frames_of(network, waveforms), masks)
        torch.testing.assert_close(found, whole(waveforms, weights=masks))


def test_what_is_no_such_embedding_has_no_network() -> None:
    assert not is_in_two_halves(network_of(Voices()))
