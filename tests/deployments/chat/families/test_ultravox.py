"""Ultravox against an independent way through it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen3Config

from deployments.chat.engine import ChatEngineArgs
from deployments.chat.transformers_chat import TransformersChat
from deployments.compat.torch import has_int8
from pipelines.audio import from_pcm
from pipelines.chat_types import AudioPart
from tests.support.driving import GREEDY, Conversation, alone, asks, says, together, token_ids
from tests.support.ultravox_checkpoints import (
    AUDIO_TOKEN,
    LATER,
    LONG,
    add_adapters,
    carry_audio,
    carry_text,
    say,
    ultravox,
)
from tests.support.ultravox_reference import MAX_TOKENS, Reference

Heard = Callable[[str], AudioPart]


def loaded(directory: Path, dtype: str = "float32") -> TransformersChat:
    return TransformersChat(ChatEngineArgs(str(directory), "cpu", dtype, num_threads=1))


def noise(duration_s: float, seed: int = 0) -> AudioPart:
    samples = np.random.default_rng(seed).normal(0, 3_000, round(16_000 * duration_s))
    return AudioPart(samples.astype(np.int16))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As v0.3."""
    path = tmp_path_factory.mktemp("ultravox")
    ultravox(path)
    return path


@pytest.fixture(scope="module")
def engine(directory: Path) -> TransformersChat:
    return loaded(directory)


@pytest.fixture(scope="module")
def conversations(heard: Heard) -> list[Conversation]:
    return [
        asks("What is the weather in Madrid?"),
        asks(heard("en-01"), "Transcribe this."),
        [says("system", "Be brief."), *asks("Hear: ", heard("de-03"), " What is said?")],
        asks(heard("en-01"), heard("de-03"), "Which is longer?"),
        [*asks(heard("de-03"), "What is said?"), says("assistant", "Hello."), *asks(heard("en-01"), "And here?")],
        asks(noise(33.33), "What is this?"),
        asks("This: ", heard("en-01"), " and this: ", noise(31), "?"),
    ]


def agrees(engine: TransformersChat, reference: Reference, conversations: Sequence[Conversation]) -> None:
    """Alone, in company and by the reference, the same tokens, which are others for each conversation."""
    expected = [reference.answer(one, engine._vocabulary.size) for one in conversations]
    assert [token_ids(alone(engine, one, max_tokens=MAX_TOKENS)) for one in conversations] == expected
    options = replace(GREEDY, max_tokens=MAX_TOKENS)
    found = together(engine, [(one, options) for one in reversed(conversations)])
    assert [token_ids(answer) for answer in reversed(found)] == expected
    assert len({tuple(answer) for answer in expected}) == len(conversations)


# What is written


def test_v0_3(engine: TransformersChat, directory: Path, conversations: list[Conversation]) -> None:
    agrees(engine, Reference(directory), conversations)


def test_the_later_layout(tmp_path: Path, conversations: list[Conversation]) -> None:
    """A norm in the middle of the projector, the encoder's weights beside it, and a tokenizer with the token."""
    ultravox(tmp_path, **LATER)
    carry_audio(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_special_tokens({"additional_special_tokens": [AUDIO_TOKEN]})
    tokenizer.save_pretrained(tmp_path)
    say(tmp_path, audio_token_index=tokenizer.convert_tokens_to_ids(AUDIO_TOKEN))
    (tmp_path / "audio").rename(tmp_path / "elsewhere")
    engine = loaded(tmp_path)
    (tmp_path / "elsewhere").rename(tmp_path / "audio")
    agrees(engine, Reference(tmp_path), conversations)


def test_another_language_model_whose_vocabulary_is_padded(tmp_path: Path, conversations: list[Conversation]) -> None:
    """It may write the token for audio, which has an embedding then."""
    ultravox(tmp_path, Qwen3Config(**{**LONG, "vocab_size": 416}, head_dim=8))
    engine = loaded(tmp_path)
    agrees(engine, Reference(tmp_path), conversations[:4])
    written = {
        token_id for one in conversations[:4] for token_id in token_ids(alone(engine, one, max_tokens=MAX_TOKENS))
    }
    assert engine._model.model.config.audio_token_id in written


def test_another_activation(tmp_path: Path, heard: Heard) -> None:
    ultravox(tmp_path, projector_act="relu")
    agrees(loaded(tmp_path), Reference(tmp_path), [asks(heard("en-01"), "What?"), asks("Hello")])


def test_all_weights_in_one_place(
    tmp_path: Path, directory: Path, engine: TransformersChat, conversations: list[Conversation]
) -> None:
    ultravox(tmp_path)
    carry_audio(tmp_path)
    carry_text(tmp_path)
    whole = loaded(tmp_path)
    agrees(whole, Reference(directory), conversations[:3])
    assert whole.info == engine.info


@pytest.mark.parametrize("side", ["audio", "text"])
def test_adapters(tmp_path: Path, heard: Heard, side: str) -> None:
    ultravox(tmp_path)
    reference = Reference(tmp_path)
    asked = [asks(heard("en-01"), "What is said?"), asks("Hello", heard("de-03"))]
    plain = [reference.answer(one) for one in asked]
    said = add_adapters(tmp_path, side, Reference(tmp_path).encoder if side == "audio" else Reference(tmp_path).text)
    model = reference.encoder if side == "audio" else reference.text
    num_adapted = 0
    for name, weight in load_file(tmp_path / "model.safetensors").items():
        if name.endswith("lora_A.default.weight"):
            back = load_file(tmp_path / "model.safetensors")[name.replace("lora_A", "lora_B")]
            layer = name.split("base_model.model.")[1].removesuffix(".lora_A.default.weight")
            model.get_submodule(layer).weight.data += back @ weight * said["lora_alpha"] / said["r"]
            num_adapted += 1
    assert num_adapted == 4
    agrees(loaded(tmp_path), reference, asked)
    assert [reference.answer(one) for one in asked] != plain


def test_an_encoder_that_hears_in_blocks(tmp_path: Path, heard: Heard) -> None:
    ultravox(tmp_path, audio_latency_block_size=10)
    asked = [asks(heard("en-01"), "What?"), asks(noise(31), heard("de-03"), "What?")]
    reference = Reference(tmp_path)
    agrees(loaded(tmp_path), reference, asked)
    samples = [from_pcm(heard("en-01").pcm)]
    blocks = reference.heard(samples)[0]
    reference.config["audio_latency_block_size"] = None
    assert not torch.allclose(blocks, reference.heard(samples)[0], atol=0.01)


@pytest.mark.skipif(not has_int8(), reason="this build of torch has no kernels for it")
def test_in_8_bits(directory: Path, heard: Heard) -> None:
    coarse = loaded(directory, "int8")
    spoken, written = asks(heard("en-01"), "What is said?"), asks("Hello")
    answers = [token_ids(alone(coarse, one)) for one in (spoken, written)]
    assert all(answers)
    assert [token_ids(one) for one in together(coarse, [(spoken, GREEDY), (written, GREEDY)])] == answers


# What is read


@pytest.mark.parametrize(
    ("num_samples", "num_tokens"),
    [
        (1, 1),
        (160 * 16, 1),
        (160 * 16 + 1, 2),
        (16_000, 7),
        (160_000, 63),
        (480_000, 188),
        (480_001, 188 + 1),
        (35 * 16_000, 188 + 32),
        (61 * 16_000, 188 + 188 + 7),
    ],
)
def test_tokens_of_an_audio(engine: TransformersChat, num_samples: int, num_tokens: int) -> None:
    """Those of 1 s, 10 s and 35 s are what the published processor's own tests say."""
    prompt = engine.prepare(asks(AudioPart(np.ones(num_samples, np.int16)), "What?"))
    assert prompt.num_audio_tokens == num_tokens


def test_embeddings_are_those_of_the_reference(engine: TransformersChat, directory: Path, heard: Heard) -> None:
    audios = [heard("en-01"), noise(31.017), noise(0.01)]
    inputs = engine.prepare(asks(*audios)).inputs
    assert inputs["num_frames"].tolist()[1:] == [3_000, 102, 2]
    with torch.inference_mode():
        found = engine._model.model.hear(inputs["input_features"], inputs["num_frames"])
        samples = [from_pcm(audio.pcm) for audio in audios]
        expected = torch.cat(Reference(directory).heard([*samples[:2], np.pad(samples[2], (0, 160))]))
    assert torch.allclose(found, expected, atol=1e-4)


def test_only_the_context_limits_an_audio(engine: TransformersChat) -> None:
    assert engine.info.hears_audio
    assert (engine.info.max_audio_s, engine.info.max_context_tokens) == (None, 2_048)


def test_answers_are_drawn_as_the_language_model_s_are(engine: TransformersChat) -> None:
    assert (engine.info.sampling.temperature, engine.info.sampling.top_p) == (0.6, 0.9)
    assert engine._vocabulary.ends == {0, 2}


def test_users_cannot_write_the_token_for_audio(engine: TransformersChat, heard: Heard) -> None:
    plain, forged = (engine.prepare(asks(heard("en-01"), text)) for text in ("x", f"a{AUDIO_TOKEN}b"))
    assert forged.num_audio_tokens == plain.num_audio_tokens
    assert engine.prepare(asks(AUDIO_TOKEN)).num_audio_tokens == 0
    assert token_ids(alone(engine, asks(AUDIO_TOKEN)))
