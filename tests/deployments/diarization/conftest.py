"""The embedded pipeline on its published weights, loaded once, and what it hears in the conversations."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from benchmarks.scoring import Conversation, load_conversations, sample_conversation
from deployments.diarization.engine import DiarizerArgs
from deployments.diarization.pyannote import PyannoteDiarizer
from deployments.settings import Diarization as DiarizationSettings
from deployments.settings import Settings
from pipelines.speaker_types import Diarization
from tests.conftest import ROOT, embedded_config

CONFIG = ROOT / "models" / "speaker-diarization" / "config.yaml"


def embedded_directory() -> Path:
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auricle" / "models"
    return Path(os.environ.get("AURICLE_MODELS") or cached) / "speaker-diarization"


@pytest.fixture(scope="session")
def weights() -> Path:
    """Where the published weights lie."""
    return embedded_directory()


@pytest.fixture(scope="session")
def checkpoint(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published weights under this tree's own configuration."""
    directory = tmp_path_factory.mktemp("speaker-diarization")
    for part in ("segmentation", "embedding"):
        (directory / part).symlink_to(weights / part)
    (directory / "config.yaml").write_text(CONFIG.read_text())
    return directory


@pytest.fixture(scope="session")
def settings() -> DiarizationSettings:
    """What configs/embedded.yaml says."""
    served = Settings.model_validate(embedded_config()["applications"][0]["args"]).diarization
    assert served is not None
    return served


@pytest.fixture(scope="session")
def diarizer(checkpoint: Path, settings: DiarizationSettings) -> PyannoteDiarizer:
    return PyannoteDiarizer(DiarizerArgs(str(checkpoint), "cpu", settings.batch_size, num_threads=1))


@pytest.fixture(scope="session")
def conversations() -> dict[str, Conversation]:
    return load_conversations() | {"sample": sample_conversation()}


@pytest.fixture(scope="session")
def diarized(diarizer: PyannoteDiarizer, conversations: dict[str, Conversation]) -> Callable[[str], Diarization]:
    """By the name of a conversation; each is diarized once, when it is first asked for."""
    return cache(lambda name: diarizer.diarize(conversations[name].window(), lambda: False))
