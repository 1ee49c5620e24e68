"""The embedded checkpoint, loaded once, and held-out sentences."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
import soundfile

from deployments.asr.transformers_whisper import TransformersWhisper
from deployments.engines import EngineArgs
from pipelines.types import Samples

ROOT = Path(__file__).parent.parent.parent.parent
CHECKPOINT = ROOT / "models" / "whisper-embedded"
DATA = ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    return CHECKPOINT


@pytest.fixture(scope="session")
def engine() -> TransformersWhisper:
    """One thread: threads that wait for a busy core would cost more than they bring."""
    return TransformersWhisper(EngineArgs(str(CHECKPOINT), "cpu", "float32", num_threads=1))


@pytest.fixture(scope="session")
def speech() -> dict[str, Samples]:
    """Clip name, as "en-00", to samples at 16 kHz."""
    return {
        path.stem: np.asarray(soundfile.read(path, dtype="float32")[0], np.float32)
        for path in sorted(DATA.glob("??-??.flac"))
    }
