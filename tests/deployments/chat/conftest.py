"""A small random checkpoint of Qwen2-Audio, made and loaded once, and sentences for it to hear."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import soundfile
import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor

from deployments.chat.engine import ChatEngineArgs
from deployments.chat.transformers_chat import TransformersChat
from pipelines.audio import to_pcm
from pipelines.chat_types import AudioPart
from tests.support.chat_checkpoints import qwen2_audio

DATA = Path(__file__).parents[2] / "data"

Heard = Callable[[str], AudioPart]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("qwen2-audio")
    qwen2_audio(directory)
    return directory


@pytest.fixture(scope="session")
def loaded_engine(checkpoint: Path) -> TransformersChat:
    """One thread: threads that wait for a busy core would cost more than they bring."""
    return TransformersChat(ChatEngineArgs(str(checkpoint), "cpu", "float32", num_threads=1))


@pytest.fixture
def engine(loaded_engine: TransformersChat) -> Iterator[TransformersChat]:
    """With nobody aboard, whatever the test before left."""
    yield loaded_engine
    for row in [*loaded_engine._batch.rows, *loaded_engine._waiting]:
        loaded_engine.abort(row.request_id)


@pytest.fixture(scope="session")
def reference(checkpoint: Path) -> Any:
    """The same checkpoint, as transformers loads it."""
    return AutoModelForMultimodalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def processor(checkpoint: Path) -> Any:
    return AutoProcessor.from_pretrained(checkpoint)


@pytest.fixture(scope="session")
def heard() -> Heard:
    """The audio of a clip, by its name, as "en-00"."""

    def audio(name: str) -> AudioPart:
        return AudioPart(to_pcm(soundfile.read(DATA / f"{name}.flac", dtype="float32")[0]))

    return audio


@pytest.fixture(scope="session")
def never_end(reference: Any, processor: Any) -> dict[int, float]:
    """A bias under which an answer goes on for ever."""
    ends = {*reference.generation_config.eos_token_id, processor.tokenizer.eos_token_id}
    return dict.fromkeys(ends, -100.0)
