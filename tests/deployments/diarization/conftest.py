"""The embedded pipeline, loaded once, and what it hears in the conversations."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from benchmarks.scoring import Conversation, load_conversations
from deployments.diarization.engine import DiarizerArgs
from deployments.diarization.pyannote import PyannoteDiarizer
from deployments.settings import Diarization as DiarizationSettings
from deployments.settings import Settings
from pipelines.speaker_types import Diarization
from tests.conftest import ROOT, embedded_config

CHECKPOINT = ROOT / "models" / "diarization-embedded"


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    return CHECKPOINT


@pytest.fixture(scope="session")
def settings() -> DiarizationSettings:
    """What configs/embedded.yaml says."""
    served = Settings.model_validate(embedded_config()["applications"][0]["args"]).diarization
    assert served is not None
    return served


@pytest.fixture(scope="session")
def diarizer(settings: DiarizationSettings) -> PyannoteDiarizer:
    return PyannoteDiarizer(DiarizerArgs(str(CHECKPOINT), "cpu", settings.batch_size, num_threads=1))


@pytest.fixture(scope="session")
def conversations() -> dict[str, Conversation]:
    return load_conversations()


@pytest.fixture(scope="session")
def diarized(diarizer: PyannoteDiarizer, conversations: dict[str, Conversation]) -> Callable[[str], Diarization]:
    """By the name of a conversation; each is diarized once, when it is first asked for."""
    return cache(lambda name: diarizer.diarize(conversations[name].window(), lambda: False))
