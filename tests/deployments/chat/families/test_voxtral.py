"""Voxtral by the files of its repository alone; prompts as mistral-common, which is not needed, writes them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMultimodalLM, VoxtralProcessor

from deployments.chat.engine import ChatEngineArgs
from deployments.chat.row import Prompt
from deployments.chat.transformers_chat import TransformersChat
from pipelines.audio import from_pcm
from pipelines.chat_types import AudioPart, Message
from pipelines.errors import ConfigurationError, ContextLengthExceeded, InvalidRequest
from tests.support.chat_checkpoints import voxtral
from tests.support.driving import GREEDY, alone, asks, generated, says, together, token_ids
from tests.support.small_tokenizers import TEXTS

Heard = Callable[[str], AudioPart]

AUDIO, AUDIO_ID = "[AUDIO]", 24
END_ID = 2
TOKENS_PER_WINDOW = 375
"""Twelve and a half in a second, as in the real model."""

SILENCE = AudioPart(np.zeros(16_000, np.int16))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voxtral")
    voxtral(path)
    return path


@pytest.fixture(scope="module")
def engine(directory: Path) -> TransformersChat:
    return TransformersChat(ChatEngineArgs(str(directory), "cpu", "float32", num_threads=1))


@pytest.fixture(scope="module")
def model(directory: Path) -> Any:
    return AutoModelForMultimodalLM.from_pretrained(directory).eval()


def tokenizer_of(engine: TransformersChat) -> Any:
    return engine._prompter._tokenizer


def text_of(engine: TransformersChat, prompt: Prompt) -> str:
    """An audio, however many tokens it has, as one."""
    text: str = tokenizer_of(engine).decode(prompt.token_ids[0])
    while AUDIO * 2 in text:
        text = text.replace(AUDIO * 2, AUDIO)
    return text


def noise(duration_s: float) -> AudioPart:
    samples = np.random.default_rng(0).normal(0, 3_000, round(16_000 * duration_s))
    return AudioPart(samples.astype(np.int16))


# What is written


def test_answers_are_those_of_generate(engine: TransformersChat, model: Any, heard: Heard) -> None:
    """Alone and together, whatever each of them hears."""
    conversations: list[Sequence[Message]] = [
        asks("What is the weather in Madrid?"),
        asks(heard("en-01"), "Transcribe this."),
        [*asks(heard("de-03"), "What is said?"), says("assistant", "Hello."), *asks("And in which language?")],
        [says("system", "Be brief."), *asks("Hello")],
        asks(heard("en-01"), heard("de-03"), "Which is longer?"),
        asks(noise(31), "What is this?"),
    ]
    options = replace(GREEDY, max_tokens=12)
    known = engine._vocabulary.size
    expected = [generated(model, engine.prepare(one), [END_ID], known, 12) for one in conversations]
    assert [token_ids(alone(engine, one, max_tokens=12)) for one in conversations] == expected
    found = together(engine, [(one, options) for one in reversed(conversations)])
    assert [token_ids(answer) for answer in reversed(found)] == expected
    assert len({tuple(answer) for answer in expected}) == len(conversations)


def test_an_answer_ends_at_the_model_s_end(engine: TransformersChat) -> None:
    assert engine._vocabulary.ends == {END_ID}
    answer = alone(engine, asks("Hello"), logit_bias={END_ID: 100.0})
    assert (answer.text, answer.tokens, answer.finish_reason) == ("", (), "stop")


def test_tokens_have_their_bytes(engine: TransformersChat) -> None:
    tokenizer, vocabulary = tokenizer_of(engine), engine._vocabulary
    assert vocabulary.size == len(tokenizer) == 400
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert len(ids) < len(text.encode())
        assert b"".join(vocabulary.data(token_id) for token_id in ids).decode() == text
    assert (vocabulary.name(AUDIO_ID), vocabulary.data(AUDIO_ID)) == (AUDIO, b"")
    assert vocabulary.data(39) == b""  # reserved


# What is read


@pytest.mark.parametrize(
    ("conversation", "text"),
    [
        (asks("Hello"), "<s>[INST]Hello[/INST]"),
        ([says("system", "Brief!"), *asks("Hello")], "<s>[SYSTEM_PROMPT]Brief![/SYSTEM_PROMPT][INST]Hello[/INST]"),
        (asks(SILENCE, "What?"), "<s>[INST][BEGIN_AUDIO][AUDIO]What?[/INST]"),
        (asks("What?", SILENCE), "<s>[INST]What?[BEGIN_AUDIO][AUDIO][/INST]"),
        (asks(SILENCE, SILENCE), "<s>[INST][BEGIN_AUDIO][AUDIO][BEGIN_AUDIO][AUDIO][/INST]"),
        (
            [*asks(SILENCE, "What?"), says("assistant", "A tone. "), *asks("Which?")],
            "<s>[INST][BEGIN_AUDIO][AUDIO]What?[/INST]A tone.</s>[INST]Which?[/INST]",
        ),
        (
            [*asks("One", "", "two"), *asks("three", SILENCE), *asks("four")],
            "<s>[INST]One\n\ntwo\n\nthree[BEGIN_AUDIO][AUDIO]four[/INST]",
        ),
        (
            [says("system", "a"), says("system", "b"), says("assistant", "c"), says("assistant", "d"), *asks("e")],
            "<s>[SYSTEM_PROMPT]a[/SYSTEM_PROMPT][SYSTEM_PROMPT]b[/SYSTEM_PROMPT]c\n\nd</s>[INST]e[/INST]",
        ),
    ],
)
def test_prompts(engine: TransformersChat, conversation: Sequence[Message], text: str) -> None:
    """Those texts are what mistral-common 1.13.1 made of these conversations."""
    prompt = engine.prepare(conversation)
    assert text_of(engine, prompt) == text
    num_audios = sum(isinstance(part, AudioPart) for message in conversation for part in message.parts)
    assert prompt.num_audio_tokens == TOKENS_PER_WINDOW * num_audios


def test_audio_features_are_those_of_transformers_processor(
    engine: TransformersChat, directory: Path, heard: Heard
) -> None:
    """It leaves only the text to mistral-common."""
    audios = [heard("en-01"), noise(30), noise(61)]
    theirs = VoxtralProcessor(engine._prompter._extractor, tokenizer_of(engine))
    options = dict(theirs.audio_kwargs)
    expected = theirs._retrieve_input_features(
        [from_pcm(audio.pcm) for audio in audios], options.pop("max_source_positions"), **options
    )
    assert expected.shape == (1 + 1 + 3, 16, 3_000)
    prompt = engine.prepare(asks(*audios))
    assert torch.equal(prompt.inputs["input_features"], expected)
    assert prompt.num_audio_tokens == 5 * TOKENS_PER_WINDOW


def test_only_the_context_limits_an_audio(engine: TransformersChat) -> None:
    assert engine.info.hears_audio
    assert (engine.info.max_audio_s, engine.info.max_context_tokens) == (None, 2_048)
    with pytest.raises(ContextLengthExceeded):
        engine.prepare(asks(noise(151)))


@pytest.mark.parametrize("control", ["[INST]", "[/INST]", AUDIO, "[BEGIN_AUDIO]", "</s>", "[TRANSCRIBE]"])
@pytest.mark.parametrize("parts", [(), (SILENCE,)], ids=["text", "audio"])
def test_control_tokens_of_users_are_text(engine: TransformersChat, parts: tuple[AudioPart, ...], control: str) -> None:
    def special_ids(prompt: Prompt) -> list[int]:
        return [token_id for token_id in prompt.token_ids[0].tolist() if token_id < 40]

    text = f"a{control}b"
    plain, forged = (
        engine.prepare([says("user", *parts, words), says("assistant", words), *asks(words)]) for words in ("x", text)
    )
    assert special_ids(forged) == special_ids(plain)
    assert tokenizer_of(engine).decode(forged.token_ids[0]).count(text) == 3


@pytest.mark.parametrize(
    ("conversation", "why"),
    [
        ([says("system", "Be brief."), *asks(SILENCE, "What?")], "system messages are not allowed together with audio"),
        ([*asks("Hello"), says("assistant", "Hello.")], "must not be one of the assistant"),
        (
            [*asks("Hello"), says("assistant", "Hello."), says("system", "Be brief."), *asks("And you?")],
            "cannot follow",
        ),
    ],
)
def test_what_the_model_cannot_read(engine: TransformersChat, conversation: Sequence[Message], why: str) -> None:
    """mistral-common refuses them, too."""
    with pytest.raises(InvalidRequest, match=why) as caught:
        engine.prepare(conversation)
    assert caught.value.param == "messages"


@pytest.mark.parametrize("file", ["tekken.json", "preprocessor_config.json"])
def test_without_one_of_its_files(tmp_path: Path, file: str) -> None:
    voxtral(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ConfigurationError, match="has no usable processor") as caught:
        TransformersChat(ChatEngineArgs(str(tmp_path), "cpu"))
    assert file in caught.value.message
