"""Granite Speech's LoRA adapter is for rows with audio, and for no others."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMultimodalLM

from deployments.chat.engine import ChatEngineArgs
from deployments.chat.transformers_chat import TransformersChat
from deployments.compat.torch import has_int8
from pipelines.chat_types import AudioPart, ChatDelta, Message, join_deltas
from pipelines.errors import ConfigurationError
from tests.support.chat_checkpoints import granite_speech
from tests.support.driving import GREEDY, advance, alone, asks, finish, generated, says, token_ids

Heard = Callable[[str], AudioPart]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("granite_speech")
    granite_speech(path)
    return path


@pytest.fixture(scope="module")
def engine(directory: Path) -> TransformersChat:
    return loaded(directory)


@pytest.fixture(scope="module")
def model(directory: Path) -> Any:
    return AutoModelForMultimodalLM.from_pretrained(directory).eval()


@pytest.fixture(scope="module")
def conversations(heard: Heard) -> list[Sequence[Message]]:
    """Of text and of audio by turns."""
    return [
        asks("What is the weather in Madrid?"),
        asks(heard("en-01"), "What is said?"),
        [says("system", "Be brief."), *asks("Hello"), says("assistant", "Hello."), *asks("And you?")],
        [*asks("Here:", heard("de-03")), says("assistant", "x"), *asks("And?")],
        asks("Hello"),
    ]


def loaded(directory: Path) -> TransformersChat:
    return TransformersChat(ChatEngineArgs(str(directory), "cpu", "float32", num_threads=1))


def by_generate(engine: TransformersChat, model: Any, conversation: Sequence[Message], max_tokens: int) -> list[int]:
    """It has the adapter on or off by itself."""
    ends, num_known = sorted(engine._vocabulary.ends), engine._vocabulary.size
    return generated(model, engine.prepare(conversation), ends, num_known, max_tokens)


def logits(engine: TransformersChat, model: Any, conversation: Sequence[Message]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(**engine.prepare(conversation).inputs).logits[0, -1]
    return found


def test_rows_with_and_without_audio_that_come_and_go(
    engine: TransformersChat, model: Any, conversations: list[Sequence[Message]]
) -> None:
    lengths = [20, 6, 14, 24, 9]
    expected = [by_generate(engine, model, one, length) for one, length in zip(conversations, lengths, strict=True)]
    assert [len(answer) for answer in expected] == lengths
    answers: dict[str, list[ChatDelta]] = {}
    num_aboard, seen = 0, set()
    for number, (conversation, length) in enumerate(zip(conversations, lengths, strict=True)):
        engine.add(str(number), engine.prepare(conversation), replace(GREEDY, max_tokens=length))
        num_aboard += 1
        for _ in range(4):  # reads it, and writes some tokens for everybody
            num_aboard -= len(advance(engine, answers))
            seen.add(frozenset(row.prompt.num_audio_tokens > 0 for row in engine._batch.rows))
    finish(engine, answers, num_aboard)
    assert [token_ids(join_deltas(answers[str(number)])) for number in range(len(lengths))] == expected
    assert frozenset({True, False}) in seen


def test_the_adapter_makes_a_difference(
    engine: TransformersChat, model: Any, conversations: list[Sequence[Message]]
) -> None:
    """To text as to audio: else nobody could tell whom it was put on."""
    for conversation in conversations:
        model.enable_adapters()
        adapted = logits(engine, model, conversation)
        model.disable_adapters()
        assert not torch.allclose(adapted, logits(engine, model, conversation), atol=0.1)


def test_a_model_that_needs_none(tmp_path: Path, heard: Heard) -> None:
    granite_speech(tmp_path, has_adapter=False)
    engine = loaded(tmp_path)
    model = AutoModelForMultimodalLM.from_pretrained(tmp_path).eval()
    for conversation in (asks(heard("en-01"), "What is said?"), asks("Hello")):
        assert token_ids(alone(engine, conversation)) == by_generate(engine, model, conversation, 24)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_adapter(tmp_path: Path, file: str) -> None:
    granite_speech(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path)
    assert f"'{tmp_path}'" in caught.value.message
    assert "adapter" in caught.value.message
    assert "\n" not in caught.value.message


def rename_adapter(directory: Path, old: str, new: str) -> None:
    file = directory / "adapter_model.safetensors"
    weights = {name.replace(old, new): weight for name, weight in load_file(file).items()}
    assert set(weights).isdisjoint(load_file(file))
    save_file(weights, file, metadata={"format": "pt"})


def test_an_adapter_of_another_model(tmp_path: Path) -> None:
    """transformers would say so in its log, and go on without."""
    granite_speech(tmp_path)
    rename_adapter(tmp_path, "layers.", "blocks.")
    with pytest.raises(ConfigurationError, match="lacks the LoRA adapter"):
        loaded(tmp_path)


def test_an_adapter_with_the_names_that_are_in_ibm_s_repositories(
    tmp_path: Path, engine: TransformersChat, heard: Heard
) -> None:
    """They are older than transformers' own model."""
    granite_speech(tmp_path)
    rename_adapter(tmp_path, "model.model.language_model.", "model.language_model.model.")
    conversation = asks(heard("en-01"), "What is said?")
    assert token_ids(alone(loaded(tmp_path), conversation)) == token_ids(alone(engine, conversation))


@pytest.mark.skipif(not has_int8(), reason="this build of torch has no kernels for it")
def test_in_8_bits_the_adapter_stays(directory: Path, heard: Heard) -> None:
    coarse = TransformersChat(ChatEngineArgs(str(directory), "cpu", "int8", num_threads=1))
    spoken, written = asks(heard("en-01"), "What is said?"), asks("Hello")
    answers = [token_ids(alone(coarse, one)) for one in (spoken, written)]
    assert all(answers)
    coarse.add("0", coarse.prepare(spoken), GREEDY)
    coarse.add("1", coarse.prepare(written), GREEDY)
    found: dict[str, list[ChatDelta]] = {}
    finish(coarse, found, 2)
    assert [token_ids(join_deltas(found[name])) for name in "01"] == answers
