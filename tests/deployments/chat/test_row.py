"""What of an answer's text is shown, and when; the tokenizer's own `decode` says what is right."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import GenerationConfig

from deployments.chat.row import Prompt, Row
from deployments.chat.vocabulary import Vocabulary
from deployments.decoding.sampling import Sampler
from pipelines.chat_types import ChatDelta, ChatUsage, SamplingOptions, ScoredToken, join_deltas
from tests.support import chat_checkpoints
from tests.support.small_tokenizers import (
    BLANK,
    STRANGE,
    TEXTS,
    byte_level,
    sentencepiece_bpe,
    unigram,
)

TOKENIZERS: dict[str, Any] = {
    "qwen2_audio": chat_checkpoints.tokenizer(),
    "byte_level": byte_level(),
    "sentencepiece": sentencepiece_bpe(),
    "sentencepiece_that_keeps_its_space": sentencepiece_bpe(False, [AddedToken(BLANK * 2, normalized=False)]),
    "unigram": unigram(),
}
OPTIONS = SamplingOptions(seed=1)
REPLACEMENT = "\ufffd"


def row_of(tokenizer: Any, max_tokens: int = 1_000, options: SamplingOptions = OPTIONS) -> Row:
    vocabulary = Vocabulary(tokenizer, GenerationConfig(), 10**6)
    prompt = Prompt({"input_ids": torch.tensor([[5, 6, 7]])}, num_audio_tokens=2)
    return Row("0", prompt, options, max_tokens, vocabulary)


def write(tokenizer: Any, ids: list[int], **options: Any) -> list[ChatDelta]:
    """All of `ids` and then the end, or up to the delta that was the last."""
    row = row_of(tokenizer, options.pop("max_tokens", 1_000), replace(OPTIONS, **options))
    deltas = []
    for token_id in [*ids, tokenizer.eos_token_id]:
        deltas.append(row.accept(token_id, ScoredToken(row.token(token_id, -1.0))))
        if deltas[-1].finish_reason:
            return deltas
    raise AssertionError("no delta is the last")


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", [*TEXTS, *STRANGE])
def test_joined_deltas_are_what_the_tokenizer_decodes(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text, add_special_tokens=False)
    deltas = write(tokenizer, ids)
    assert join_deltas(deltas).text == tokenizer.decode(ids, skip_special_tokens=True)
    assert deltas[-1].finish_reason == "stop"
    assert deltas[-1].usage == ChatUsage(3, 2, len(ids))


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", [*TEXTS, *STRANGE])
def test_the_tokens_bytes_are_the_text_s(name: str, text: str) -> None:
    """CHT-14"""
    tokenizer = TOKENIZERS[name]
    answer = join_deltas(write(tokenizer, tokenizer.encode(text, add_special_tokens=False)))
    assert b"".join(scored.token.data for scored in answer.tokens).decode() == answer.text
    assert len(answer.tokens) == answer.usage.num_output_tokens


@pytest.mark.parametrize("name", ["qwen2_audio", "byte_level", "sentencepiece"])
def test_half_a_character_is_held_back(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    deltas = write(tokenizer, tokenizer.encode("a🎉b", add_special_tokens=False))
    texts = [delta.text for delta in deltas if delta.text]
    assert texts == ["a", "🎉", "b"]


def test_half_a_character_at_the_end_is_told() -> None:
    tokenizer = TOKENIZERS["byte_level"]
    ids = tokenizer.encode("a🎉")[:-1]
    assert join_deltas(write(tokenizer, ids)).text == f"a{REPLACEMENT}"
    assert join_deltas(write(tokenizer, ids, max_tokens=len(ids))).text == f"a{REPLACEMENT}"


def test_broken_characters_are_replaced_as_the_tokenizer_does() -> None:
    tokenizer = TOKENIZERS["byte_level"]
    party = tokenizer.encode("🎉")
    assert len(party) == 4
    for ids in ([*party[:2], *tokenizer.encode("a")], party[1:], [party[0], *party], [party[3]] * 3):
        assert join_deltas(write(tokenizer, ids)).text == tokenizer.decode(ids)


def test_special_tokens_in_an_answer_are_not_shown_but_counted() -> None:
    tokenizer = TOKENIZERS["byte_level"]
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    ids = [start, *tokenizer.encode("The garden"), start]
    answer = join_deltas(write(tokenizer, ids))
    assert answer.text == "The garden"
    assert answer.usage.num_output_tokens == len(ids)
    assert answer.tokens[0].token.text == "<|im_start|>"
    assert answer.tokens[0].token.data == b""


def test_the_first_space_is_dropped_behind_a_special_token_too() -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    ids = [1, *tokenizer.encode("The garden", add_special_tokens=False)]
    assert join_deltas(write(tokenizer, ids)).text == tokenizer.decode(ids, skip_special_tokens=True) == "The garden"


def test_only_one_space_is_dropped() -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    blank = tokenizer.convert_tokens_to_ids(BLANK)
    ids = [blank, *tokenizer.encode("The", add_special_tokens=False)]
    assert join_deltas(write(tokenizer, ids)).text == tokenizer.decode(ids) == " The"


def test_the_end_is_no_token_of_the_answer() -> None:
    (delta,) = write(TOKENIZERS["byte_level"], [])
    assert delta == ChatDelta("", ChatUsage(3, 2, 0), (), "stop")


@pytest.mark.parametrize("num_tokens", [1, 5])
def test_max_tokens_is_the_length(num_tokens: int) -> None:
    """CHT-09"""
    tokenizer = TOKENIZERS["byte_level"]
    ids = tokenizer.encode(TEXTS[0])
    deltas = write(tokenizer, ids, max_tokens=num_tokens)
    assert len(deltas) == num_tokens
    assert join_deltas(deltas).text == tokenizer.decode(ids[:num_tokens])
    assert deltas[-1].finish_reason == "length"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_stop_text_ends_the_answer_wherever_tokens_end(name: str) -> None:
    """CHT-12"""
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(TEXTS[0], add_special_tokens=False)
    whole = tokenizer.decode(ids)
    for start in range(len(whole) - 3):
        stop = whole[start : start + 3]
        answer = join_deltas(write(tokenizer, ids, stop=("never said", stop)))
        assert answer.text == whole[: whole.index(stop)]
        assert answer.finish_reason == "stop"


def test_the_last_token_may_hold_the_stop_text() -> None:
    """CHT-12"""
    tokenizer = TOKENIZERS["byte_level"]
    ids = tokenizer.encode("The garden")
    deltas = write(tokenizer, ids, stop=("en",), max_tokens=len(ids))
    assert join_deltas(deltas).text == "The gard"
    assert deltas[-1].finish_reason == "stop"


def test_what_was_held_back_for_a_stop_text_comes_at_the_end() -> None:
    """CHT-12"""
    tokenizer = TOKENIZERS["byte_level"]
    ids = tokenizer.encode("The garden")
    for max_tokens, reason in ((1_000, "stop"), (len(ids), "length")):
        deltas = write(tokenizer, ids, stop=("garden party",), max_tokens=max_tokens)
        assert "".join(delta.text for delta in deltas[:-1]) == "The "
        assert join_deltas(deltas).text == "The garden"
        assert deltas[-1].finish_reason == reason


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, -(2**63)])
def test_every_int64_is_a_seed(seed: int) -> None:
    """CHT-13"""
    options = replace(OPTIONS, seed=seed, temperature=1.0)
    logits = torch.zeros(1, 1_000)
    rows = [row_of(TOKENIZERS["byte_level"], options=replace(options, seed=one)) for one in (seed, seed, seed // 2 + 9)]
    draws = [Sampler([row], 1_000, 1_000).choose(logits).item() for row in rows]
    assert draws[0] == draws[1] != draws[2]
