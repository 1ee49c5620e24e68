"""Published Whispers, loaded once, and sentences in four languages."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
import soundfile
import torch

from deployments.asr.checkpoints import load_whisper
from deployments.asr.engine import AsrEngineArgs, Timestamps
from deployments.asr.whisper import WhisperEngine
from models.sources import resolve
from pipelines.audio_types import Samples

DATA = Path(__file__).parent.parent.parent / "data"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whisper base in transformers' own form, for what its own classes must load."""
    directory = tmp_path_factory.mktemp("whisper-base")
    loaded = load_whisper(resolve("embedded:whisper-base"), torch.float32)
    for part in (loaded.model, loaded.features, loaded.tokenizer):
        part.save_pretrained(directory)
    return directory


def one_threaded(name: str, timestamps: Timestamps = "attention") -> WhisperEngine:
    """Threads that wait for a busy core would cost more than they bring."""
    return WhisperEngine(AsrEngineArgs(resolve(f"embedded:{name}"), "cpu", "float32", 1, timestamps=timestamps))


@pytest.fixture(scope="session")
def engine() -> WhisperEngine:
    """The quickest one, for English."""
    return one_threaded("whisper-tiny.en")


@pytest.fixture(scope="session")
def multilingual() -> WhisperEngine:
    return one_threaded("whisper-base")


@pytest.fixture(scope="session")
def stamping() -> WhisperEngine:
    """The same, writing timestamp tokens."""
    return one_threaded("whisper-base", "tokens")


@pytest.fixture(scope="session")
def speech() -> dict[str, Samples]:
    """Clip name, as "en-00", to samples at 16 kHz."""
    return {
        path.stem: np.asarray(soundfile.read(path, dtype="float32")[0], np.float32)
        for path in sorted(DATA.glob("??-??.flac"))
    }
