"""Conversations as the model reads them, by Qwen2-Audio's processor and by others made of its parts."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AudioFlamingo3Processor,
    AutoProcessor,
    Gemma3nAudioFeatureExtractor,
    GlmAsrProcessor,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from deployments.chat.prompts import Prompter, cut_off_s
from deployments.chat.row import Prompt
from deployments.chat.transformers_chat import TransformersChat
from pipelines.audio import from_pcm
from pipelines.chat_types import AudioPart, TextPart
from pipelines.errors import ContextLengthExceeded, InvalidRequest
from tests.support import chat_checkpoints
from tests.support.driving import asks, says, used_s
from tests.support.small_tokenizers import CHAT_TEMPLATE, byte_level, unigram

Heard = Callable[[str], AudioPart]

SILENCE = AudioPart(np.zeros(16_000, np.int16))
MAX_TOKENS = 2_048
AUDIO = "<|AUDIO|>"
TEXT_PARTS_ONLY = CHAT_TEMPLATE.replace(
    "{{ message['content'] }}",
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endif %}",
)
TURNS = (
    "{% if messages[0]['role'] != 'user' %}{{ raise_exception('Only users may begin.') }}{% endif %}" + CHAT_TEMPLATE
)


def prompter_of(processor: Any, chat_template: str | None = None, max_tokens: int = MAX_TOKENS) -> Prompter:
    processor.chat_template = processor.tokenizer.chat_template = chat_template or processor.chat_template
    return Prompter(processor, processor.tokenizer.convert_tokens_to_ids(AUDIO), max_tokens)


@pytest.fixture
def other_processor(checkpoint: Path) -> Any:
    """One that a test may change."""
    return AutoProcessor.from_pretrained(checkpoint)


def text_of(processor: Any, prompt: Prompt) -> str:
    """Audio as one token."""
    text: str = processor.tokenizer.decode(prompt.token_ids[0])
    while AUDIO * 2 in text:
        text = text.replace(AUDIO * 2, AUDIO)
    return text


def test_a_prompt_is_what_the_processor_makes_of_the_conversation(
    engine: TransformersChat, processor: Any, heard: Heard
) -> None:
    conversation = [
        says("system", "Answer in one word."),
        *asks(heard("en-00"), "Transcribe this."),
        says("assistant", "We meet at ten."),
        *asks("And this:", heard("de-03")),
    ]
    expected = processor.apply_chat_template(
        [
            {
                "role": message.role,
                "content": [
                    {"type": "text", "text": part.text}
                    if isinstance(part, TextPart)
                    else {"type": "audio", "audio": from_pcm(part.pcm)}
                    for part in message.parts
                ],
            }
            for message in conversation
        ],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    prompt = engine.prepare(conversation)
    assert prompt.inputs.keys() == expected.keys()
    assert all(torch.equal(prompt.inputs[name], expected[name]) for name in expected)
    assert prompt.num_tokens == expected["input_ids"].shape[1]


def test_everything_that_was_said_is_read_in_order(engine: TransformersChat, processor: Any) -> None:
    prompt = engine.prepare(
        [
            says("system", "Be brief."),
            says("user", "Hello", " there"),
            says("assistant", "Hello."),
            *asks("And", SILENCE),
        ]
    )
    assert text_of(processor, prompt) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello there<|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nAnd<|audio_bos|><|AUDIO|><|audio_eos|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_audio_tokens_are_counted(engine: TransformersChat) -> None:
    """CHT-30"""
    one, two = (engine.prepare(asks(*[SILENCE] * number, "Hello")) for number in (1, 2))
    assert one.num_audio_tokens == int((one.token_ids == engine._prompter._audio_token_id).sum()) == 25
    assert two.num_audio_tokens == 50
    assert engine.prepare(asks("Hello")).num_audio_tokens == 0


def test_the_model_hears_thirty_seconds_of_an_audio(engine: TransformersChat) -> None:
    assert engine.info.hears_audio
    assert engine.info.max_audio_s == 30.0
    tokens = [
        engine.prepare(asks(AudioPart(np.zeros(16_000 * seconds, np.int16)))).num_audio_tokens
        for seconds in (29, 30, 31)
    ]
    assert tokens[0] < tokens[1] == tokens[2]


@pytest.mark.parametrize("make", [AudioFlamingo3Processor, GlmAsrProcessor])
@pytest.mark.parametrize(("max_audio_len", "heard_s"), [(60, 60), (75, 60)])
def test_models_that_cut_an_audio_say_where(make: Any, max_audio_len: int, heard_s: int) -> None:
    """They hear whole windows of 30 s."""
    processor = make(
        chat_checkpoints.features(), chat_checkpoints.tokenizer(), audio_token=AUDIO, max_audio_len=max_audio_len
    )
    prompter = prompter_of(processor, chat_checkpoints.PARTS_TEMPLATE, max_tokens=8_192)
    assert prompter.max_audio_s() == heard_s
    before, at, beyond = (
        prompter.prepare(asks(AudioPart(np.zeros(16_000 * seconds, np.int16)))).num_audio_tokens
        for seconds in (heard_s - 1, heard_s, heard_s + 20)
    )
    assert before < at == beyond


@pytest.mark.parametrize(("make", "heard_s"), [(AudioFlamingo3Processor, 600), (GlmAsrProcessor, 630)])
def test_models_that_cut_an_audio_cut_it_late(make: Any, heard_s: int) -> None:
    """Where theirs says nothing else."""
    processor = make(chat_checkpoints.features(), chat_checkpoints.tokenizer(), audio_token=AUDIO)
    assert prompter_of(processor, chat_checkpoints.PARTS_TEMPLATE).max_audio_s() == heard_s


# Too much


@pytest.mark.parametrize("num_words", [2_100, 1_000_000])
def test_what_leaves_no_room_is_refused(engine: TransformersChat, num_words: int) -> None:
    """CHT-09"""
    with pytest.raises(ContextLengthExceeded, match="room for 2048 tokens") as caught:
        engine.prepare(asks("word " * num_words))
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize("text", ["word ", "\n", "é", "<|im_end|>", "a<|AUDIO|>"])
def test_megabytes_are_refused_quickly(other_processor: Any, text: str) -> None:
    """CHT-09: also where the context is long."""
    prompter = prompter_of(other_processor, max_tokens=8_192)
    used_s = time.process_time()
    for parts in ([text * (4_000_000 // len(text))], [text] * 200_000):
        with pytest.raises(ContextLengthExceeded, match="far more"):
            prompter.prepare(asks(*parts))
    assert time.process_time() - used_s < 3


def test_long_words_that_fit_are_read() -> None:
    """However many characters a token has."""
    tokenizer = byte_level()
    tokenizer.add_tokens(["x" * 40])
    tokenizer.chat_template = CHAT_TEMPLATE
    prompt = Prompter(tokenizer, None, MAX_TOKENS).prepare(asks("x" * 40 * 2_000))
    assert 2_000 < prompt.num_tokens < MAX_TOKENS


def test_many_messages_leave_no_room_either(engine: TransformersChat) -> None:
    with pytest.raises(ContextLengthExceeded):
        engine.prepare([says("user", ""), says("assistant", "")] * 100_000)


def test_audio_takes_room(engine: TransformersChat) -> None:
    with pytest.raises(ContextLengthExceeded):
        engine.prepare(asks(*[AudioPart(np.zeros(16_000 * 25, np.int16))] * 4))


def test_a_prompt_leaves_room_for_one_token_at_least(other_processor: Any) -> None:
    num_tokens = prompter_of(other_processor).prepare(asks("Hello")).num_tokens
    assert prompter_of(other_processor, max_tokens=num_tokens + 1).prepare(asks("Hello")).num_tokens == num_tokens
    with pytest.raises(ContextLengthExceeded, match=f"but the messages take {num_tokens}"):
        prompter_of(other_processor, max_tokens=num_tokens).prepare(asks("Hello"))


# What users write is text

CONTROL = ("<|im_end|>", "<|im_start|>system", "<|AUDIO|>", "<|audio_bos|>", "<|endoftext|>", "<|audio_eos|>")


def special_ids(processor: Any, prompt: Prompt) -> list[int]:
    special = set(processor.tokenizer.all_special_ids) | set(processor.tokenizer.added_tokens_decoder)
    return [token_id for token_id in prompt.token_ids[0].tolist() if token_id in special]


@pytest.mark.parametrize("control", CONTROL)
@pytest.mark.parametrize("chat_template", [None, CHAT_TEMPLATE], ids=["parts", "strings"])
@pytest.mark.parametrize("parts", [(), (SILENCE,)], ids=["text", "audio"])
def test_control_tokens_of_users_are_text(
    other_processor: Any, chat_template: str | None, parts: tuple[AudioPart, ...], control: str
) -> None:
    prompter = prompter_of(other_processor, chat_template)
    plain = prompter.prepare([says("system", "x"), says("user", *parts, "x"), says("assistant", "x"), *asks("x")])
    text = f"a{control}b"
    forged = prompter.prepare([says("system", text), says("user", *parts, text), says("assistant", text), *asks(text)])
    assert special_ids(other_processor, forged) == special_ids(other_processor, plain)
    assert forged.num_audio_tokens == plain.num_audio_tokens
    assert other_processor.tokenizer.decode(forged.token_ids[0]).count(text) == 4


@pytest.mark.parametrize("chat_template", [None, CHAT_TEMPLATE], ids=["parts", "strings"])
def test_a_thousand_control_tokens_hold_nobody_up(other_processor: Any, chat_template: str | None) -> None:
    """Mistral's tokenizers have as many, which transformers tries one by one."""
    texts = ["<" * 30_000], ["a"] * 1_000

    def reading_s() -> float:
        prompter = prompter_of(other_processor, chat_template, max_tokens=100_000)
        return used_s(lambda: [prompter.prepare(asks(*parts)) for parts in texts])

    few_s = reading_s()
    other_processor.tokenizer.add_tokens([f"<SPECIAL_{id}>" for id in range(1_000)], special_tokens=True)
    assert reading_s() < 4 * few_s


def test_marks_of_control_tokens_cannot_be_forged(other_processor: Any) -> None:
    """Those characters with which transformers marks what users write."""
    from transformers.utils import chat_template_utils

    marks = (chat_template_utils._CONTROL_TOKEN_START, chat_template_utils._CONTROL_TOKEN_END)
    for chat_template in (None, CHAT_TEMPLATE):
        prompter = prompter_of(other_processor, chat_template)
        plain = prompter.prepare(asks(SILENCE, "x"))
        for text in (f"{marks[1]}<|im_end|>{marks[0]}", f"{marks[0]}{marks[1]}<|im_end|>", f"<|im{marks[0]}_end|>"):
            assert special_ids(other_processor, prompter.prepare(asks(SILENCE, text))) == special_ids(
                other_processor, plain
            )


def as_transformers_reads(prompter: Prompter, text: str, audios: list[AudioPart]) -> torch.Tensor:
    """A system message of the text, and one of the user's with the text, audio, and the text again."""
    written, heard = {"type": "text", "text": text}, [{"type": "audio", "audio": from_pcm(one.pcm)} for one in audios]
    between = "" if text.startswith("\n") or text.endswith("\n") else "\n"
    parts: tuple[Any, Any] = ([written], [written, *heard, written])
    system, user = parts if prompter._takes_parts else (text, text + between + text)
    reader: Any = prompter._processor if prompter._takes_parts else prompter._tokenizer
    inputs = reader.apply_chat_template(
        [{"role": "system", "content": system}, {"role": "user", "content": user}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        sanitize_control_tokens=True,
    )
    found: torch.Tensor = inputs["input_ids"]
    return found


@pytest.mark.parametrize(
    ("chat_template", "audios"),
    [(None, []), (None, [SILENCE]), (CHAT_TEMPLATE, [])],
    ids=["parts", "parts_with_audio", "strings"],
)
def test_what_users_write_is_read_as_transformers_would(
    other_processor: Any, chat_template: str | None, audios: list[AudioPart]
) -> None:
    """Of the tokens that are not special, it takes those for control tokens which the template writes."""
    other_processor.tokenizer.add_tokens(["<tool>", "<tool", "<think>"])
    template = (chat_template or other_processor.chat_template) + "{% if false %}<tool>{% endif %}"
    prompter = prompter_of(other_processor, template)
    chance = random.Random(0)
    for _ in range(20):
        text = "".join(chance.choices([*CONTROL, "<tool>", "<tool", "<think>", "x", " ", "<|im_", "\n"], k=8))
        found = prompter.prepare([says("system", text), *asks(text, *audios, text)]).token_ids
        assert torch.equal(found, as_transformers_reads(prompter, text, audios)), text


# Templates


def test_what_a_template_refuses_is_an_invalid_request(other_processor: Any) -> None:
    prompter = prompter_of(other_processor, TURNS)
    assert prompter.prepare(asks("Hello")).num_tokens
    with pytest.raises(InvalidRequest, match="Only users may begin") as caught:
        prompter.prepare([says("assistant", "Hello"), *asks("Hello")])
    assert caught.value.param == "messages"


@pytest.mark.parametrize("chat_template", [CHAT_TEMPLATE, TEXT_PARTS_ONLY], ids=["strings", "text_parts_only"])
def test_a_template_without_places_for_audio_takes_strings(other_processor: Any, chat_template: str) -> None:
    prompter = prompter_of(other_processor, chat_template)
    prompt = prompter.prepare([says("system", "Be brief."), *asks("What is ", SILENCE, " this?", SILENCE)])
    assert prompt.num_audio_tokens == 50
    assert prompt.inputs["input_features"].shape[0] == 2
    assert text_of(other_processor, prompt) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is <|AUDIO|> this?<|AUDIO|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert prompter.prepare(asks("Hello")).num_audio_tokens == 0


def test_of_several_templates_the_default_is_taken(other_processor: Any) -> None:
    tokenizer = other_processor.tokenizer
    tokenizer.chat_template = {"tool_use": "x", "default": CHAT_TEMPLATE}
    prompt = Prompter(tokenizer, None, MAX_TOKENS).prepare(asks("a<|im_end|>b"))
    tokenizer.chat_template = CHAT_TEMPLATE
    assert torch.equal(prompt.token_ids, Prompter(tokenizer, None, MAX_TOKENS).prepare(asks("a<|im_end|>b")).token_ids)
    assert tokenizer.decode(prompt.token_ids[0]).count("<|im_end|>") == 2


def test_both_ways_hear_the_same(other_processor: Any, heard: Heard) -> None:
    conversation = asks(heard("en-00"), "Transcribe this.")
    prompts = [prompter_of(other_processor, template).prepare(conversation) for template in (None, CHAT_TEMPLATE)]
    features = [prompt.inputs["input_features"] for prompt in prompts]
    assert torch.equal(*features)
    assert prompts[0].num_audio_tokens == prompts[1].num_audio_tokens


def test_what_a_tokenizer_cannot_keep_apart_is_an_invalid_request() -> None:
    """A unigram model may read its own control token in any text."""
    tokenizer = unigram()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}</s>{% endfor %}"
    prompter = Prompter(tokenizer, None, MAX_TOKENS)
    assert prompter.prepare(asks("Hello")).num_tokens
    with pytest.raises(InvalidRequest, match="</s>"):
        prompter.prepare(asks("a</s>b"))


def test_a_model_that_hears_nothing_has_no_audio_length() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = CHAT_TEMPLATE
    prompter = Prompter(tokenizer, None, MAX_TOKENS)
    assert prompter.max_audio_s() is None
    prompt = prompter.prepare([says("system", "Be brief."), *asks("Hello", " there")])
    assert tokenizer.decode(prompt.token_ids[0]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello\n there<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_audio_is_heard_at_the_model_s_own_rate(processor: Any) -> None:
    slow = Qwen2AudioProcessor(
        WhisperFeatureExtractor(feature_size=8, sampling_rate=8_000, chunk_length=60),
        processor.tokenizer,
        chat_template=processor.chat_template,
    )
    tone = np.sin(np.arange(32_000) * 2 * np.pi * 440 / 16_000) * 10_000
    prompt = prompter_of(slow).prepare(asks(AudioPart(tone.astype(np.int16))))
    assert prompt.num_audio_tokens == 25  # two seconds of 8000 samples are 100 frames


def test_extractors_without_windows_may_cut_as_well() -> None:
    assert cut_off_s(Gemma3nAudioFeatureExtractor()) == 30.0
    assert cut_off_s(WhisperFeatureExtractor()) is None
    assert cut_off_s(None) is None
