"""Model families: alone, together and by transformers' own `generate`, the same tokens."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM, AutoModelForSeq2SeqLM

from deployments.chat.engine import ChatEngineArgs
from deployments.chat.transformers_chat import TransformersChat
from pipelines.chat_types import AudioPart, join_deltas
from pipelines.errors import InvalidRequest
from tests.support.chat_checkpoints import (
    AUDIO_FAMILIES,
    OMNI_FAMILIES,
    SLIDING,
    TEXT_FAMILIES,
    WINDOW,
    text_model,
)
from tests.support.driving import (
    GREEDY,
    Conversation,
    alone,
    asks,
    generated,
    pieces,
    says,
    together,
    token_ids,
)

Heard = Callable[[str], AudioPart]

OPTIONS = replace(GREEDY, max_tokens=12)
QUESTIONS = [
    asks("Hello"),
    [says("system", "Be brief."), says("user", "Hello"), says("assistant", "Hello."), says("user", "And you?")],
    asks("What is the weather in Madrid? " * 3),
]
ONE_AUDIO_ONLY = ("audio_flamingo_3", "glm_asr", "qwen3_asr")


def loaded(directory: Path) -> TransformersChat:
    return TransformersChat(ChatEngineArgs(str(directory), "cpu", "float32"))


def greedy(engine: TransformersChat, model: Any, conversation: Conversation) -> list[int]:
    """What `generate` writes."""
    ends, num_known = sorted(engine._vocabulary.ends), engine._vocabulary.size
    return generated(model, engine.prepare(conversation), ends, num_known, OPTIONS.max_tokens)


def agree(engine: TransformersChat, model: Any, conversations: list[Conversation]) -> int:
    """Alone, together and by `generate`, the same tokens; returns how many of the answers are different."""
    expected = [greedy(engine, model, one) for one in conversations]
    assert [token_ids(join_deltas(pieces(engine, one, OPTIONS))) for one in conversations] == expected
    found = together(engine, [(one, OPTIONS) for one in reversed(conversations)])
    assert [token_ids(answer) for answer in reversed(found)] == expected
    return len({tuple(answer) for answer in expected})


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_models_that_only_read(tmp_path: Path, family: str) -> None:
    text_model(family, tmp_path)
    engine = loaded(tmp_path)
    assert not engine.info.hears_audio
    num_different = agree(engine, AutoModelForCausalLM.from_pretrained(tmp_path).eval(), QUESTIONS)
    if family not in SLIDING:
        assert num_different == len(QUESTIONS)
    else:  # a window as wide as the context gives other answers
        wide = AutoModelForCausalLM.from_pretrained(tmp_path, sliding_window=1_000).eval()
        assert engine.prepare(QUESTIONS[-1]).num_tokens > 2 * WINDOW
        assert token_ids(alone(engine, QUESTIONS[-1], max_tokens=12)) != greedy(engine, wide, QUESTIONS[-1])


def hears(engine: TransformersChat, model: Any, heard: Heard) -> None:
    assert engine.info.hears_audio
    turns = [says("system", "Be brief."), *asks("Here: ", heard("en-01")), says("assistant", "x"), *asks("And?")]
    other = [says("system", "Be brief."), *asks("Here: ", heard("de-03")), says("assistant", "x"), *asks("And?")]
    assert agree(engine, model, [turns, asks("What is said?"), other]) == 3
    lengths = [engine.prepare(asks(heard(name))).num_audio_tokens for name in ("en-01", "de-03")]
    assert 0 < lengths[0] < lengths[1]


@pytest.mark.parametrize("family", AUDIO_FAMILIES)
def test_models_that_hear(tmp_path: Path, heard: Heard, family: str) -> None:
    AUDIO_FAMILIES[family](tmp_path)
    engine = loaded(tmp_path)
    auto: Any = AutoModelForSeq2SeqLM if family == "audio_flamingo_3" else AutoModelForMultimodalLM
    hears(engine, auto.from_pretrained(tmp_path).eval(), heard)
    both = asks(heard("en-01"), heard("de-03"), "Which?")
    if family in ONE_AUDIO_ONLY:
        with pytest.raises(InvalidRequest, match="audio"):
            engine.prepare(both)
    else:
        assert engine.prepare(both).num_audio_tokens > engine.prepare(asks(heard("de-03"))).num_audio_tokens


@pytest.mark.parametrize("family", OMNI_FAMILIES)
def test_models_that_hear_see_and_speak(tmp_path: Path, heard: Heard, family: str) -> None:
    """Of which only the part that listens and writes is used."""
    OMNI_FAMILIES[family](tmp_path)
    model: Any = AutoModelForMultimodalLM.from_pretrained(tmp_path).eval()
    hears(loaded(tmp_path), model.thinker, heard)
