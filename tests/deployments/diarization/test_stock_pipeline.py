"""pyannote.audio's own pipeline class with networks of real size: laid out as on the hub, with random weights."""

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import soundfile
import torch
import yaml
from pyannote.audio import Pipeline, __version__
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding import WeSpeakerResNet34
from pyannote.audio.models.segmentation import PyanNet
from pyannote.audio.pipelines import SpeakerDiarization

from deployments.diarization.engine import DiarizerArgs
from deployments.diarization.pyannote import PyannoteDiarizer
from deployments.diarization.shared_trunk import SharedTrunkEmbedding
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioStretch, PcmSamples
from pipelines.errors import ConfigurationError

ROOT = Path(__file__).parents[3]
SECONDS = 14


def save(model: Any, path: Path, specifications: Specifications) -> None:
    path.mkdir(parents=True)
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
        "pyannote.audio": {
            "versions": {"pyannote.audio": __version__},
            "architecture": {"module": type(model).__module__, "class": type(model).__name__},
            "specifications": specifications,
        },
    }
    torch.save(checkpoint, path / "pytorch_model.bin")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("pipeline")
    speakers = [f"speaker#{number}" for number in (1, 2, 3)]
    segmentation = PyanNet()
    segmentation.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=10.0,
        classes=speakers,
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    segmentation.build()
    save(segmentation, root / "segmentation", segmentation.specifications)
    embedding = WeSpeakerResNet34()
    embedding.eval()
    whole = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=10.0, classes=["nobody"]
    )
    save(embedding, root / "embedding", whole)
    size = embedding.dimension
    (root / "plda").mkdir()
    np.savez(root / "plda" / "xvec_transform.npz", mean1=np.zeros(size), mean2=np.zeros(size), lda=np.eye(size))
    np.savez(root / "plda" / "plda.npz", mu=np.zeros(size), tr=np.eye(size), psi=np.linspace(2, 1, size))
    parameters = {
        "clustering": "AgglomerativeClustering",
        "segmentation": "$model/segmentation",
        "embedding": "$model/embedding",
        "embedding_exclude_overlap": True,
        "plda": "$model/plda",
    }
    config = {
        "pipeline": {"name": "pyannote.audio.pipelines.SpeakerDiarization", "params": parameters},
        "params": {
            "segmentation": {"min_duration_off": 0.0},
            "clustering": {"method": "centroid", "min_cluster_size": 1, "threshold": 0.7},
        },
    }
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    return root


@pytest.fixture(scope="module")
def pcm() -> PcmSamples:
    samples, _ = soundfile.read(ROOT / "tests/data/conversations/dev00.flac", dtype="int16")
    return np.asarray(samples[: SECONDS * SAMPLE_RATE_HZ], np.int16)


def test_a_directory_as_on_the_hub_is_served(directory: Path, pcm: PcmSamples) -> None:
    diarizer = PyannoteDiarizer(DiarizerArgs(str(directory), batch_size=8))
    found = diarizer.diarize(AudioStretch(0, 100.0, pcm), lambda: False)
    assert found.exclusive_turns
    assert all(100.0 <= turn.start_s < turn.end_s <= 100.0 + SECONDS for turn in found.turns)
    assert all(np.isfinite(voice).all() for voice in found.voices.values())


def test_a_pipeline_without_a_hop_is_given_none(directory: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"' has no hop: leave 'diarization\.hop_s' out\.$"):
        PyannoteDiarizer(DiarizerArgs(str(directory), hop_s=0.5))


def test_the_shared_trunk_gives_the_stock_pipeline_s_embeddings(directory: Path, pcm: PcmSamples) -> None:
    pipeline = Pipeline.from_pretrained(directory)
    assert isinstance(pipeline, SpeakerDiarization)
    pipeline.segmentation_batch_size, pipeline.embedding_batch_size = 8, 4
    file = {"waveform": torch.from_numpy(pcm.astype(np.float32) / 32_767)[None], "sample_rate": SAMPLE_RATE_HZ}
    chunks = pipeline.get_segmentations(file)
    expected = pipeline.get_embeddings(file, chunks, exclude_overlap=True)
    assert SharedTrunkEmbedding.suits(pipeline._embedding)
    pipeline._embedding = SharedTrunkEmbedding(pipeline._embedding)
    found = pipeline.get_embeddings(file, chunks, exclude_overlap=True)
    is_active = chunks.data.any(axis=1)
    assert is_active.sum() >= 3
    assert np.isnan(found[~is_active]).all()
    np.testing.assert_allclose(found[is_active], expected[is_active], rtol=1e-4, atol=1e-5)
