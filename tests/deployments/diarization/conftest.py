"""The embedded pipeline on its published weights, loaded once, and what it hears in the conversations."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from benchmarks.scoring import Conversation, load_conversations, sample_conversation
from deployments.diarization.engine import DiarizerArgs
from deployments.diarization.pyannote import PyannoteDiarizer
from deployments.model_configs import DiarizationConfig
from deployments.settings import Settings
from models.sources import resolve
from pipelines.speaker_types import Diarization
from tests.conftest import embedded_config


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """The published weights and the configuration of this tree."""
    return Path(resolve("embedded:speaker-diarization"))


@pytest.fixture(scope="session")
def settings() -> DiarizationConfig:
    """What configs/embedded.yaml says."""
    served = Settings.model_validate(embedded_config()["applications"][0]["args"]).diarization
    assert served is not None
    return served


@pytest.fixture(scope="session")
def diarizer(checkpoint: Path, settings: DiarizationConfig) -> PyannoteDiarizer:
    return PyannoteDiarizer(DiarizerArgs(str(checkpoint), "cpu", settings.batch_size, num_threads=1))


@pytest.fixture(scope="session")
def conversations() -> dict[str, Conversation]:
    return load_conversations() | {"sample": sample_conversation()}


@pytest.fixture(scope="session")
def diarized(diarizer: PyannoteDiarizer, conversations: dict[str, Conversation]) -> Callable[[str], Diarization]:
    """By the name of a conversation; each is diarized once, when it is first asked for."""
    return cache(lambda name: diarizer.diarize(conversations[name].window(), lambda: False))
