"""The engine on a small checkpoint: it writes what `generate` writes, whoever else is aboard."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, DeepseekV2Config, DeepseekV2ForCausalLM

from deployments.chat.attention import NAME
from deployments.chat.batch import Piece
from deployments.chat.engine import ChatEngineArgs, ChatOutput
from deployments.chat.row import Prompt, Row
from deployments.chat.slots import POSITIONS_AT_ONCE, Layer
from deployments.chat.transformers_chat import TransformersChat
from deployments.chat.transformers_chat import _bytes_of_a_token as _bytes_of_a_token_in
from deployments.compat.torch import has_int8
from deployments.compat.transformers import set_attention
from deployments.decoding.memory import WORKING_SHARE
from pipelines.chat_types import AudioPart, ChatDelta, ChatUsage, SamplingOptions, join_deltas
from pipelines.errors import ConfigurationError, InvalidRequest, ModelUnavailable
from tests.support.driving import (
    GREEDY,
    Conversation,
    advance,
    alone,
    asks,
    finish,
    generated,
    pieces,
    says,
    together,
    token_ids,
)

Heard = Callable[[str], AudioPart]

HELLO = asks("Hello")
SAMPLED = SamplingOptions(seed=3, temperature=2.0, max_tokens=12, top_logprobs=0)


@pytest.fixture(scope="module")
def conversations(heard: Heard) -> list[Conversation]:
    """Of many lengths, with audio and without."""
    return [
        HELLO,
        asks(heard("en-00"), "Transcribe this."),
        [says("system", "Answer in one word."), *asks(heard("es-01"), "Which language is it?")],
        [
            *asks("What is said here?", heard("de-03")),
            says("assistant", "Something about the weather."),
            *asks("How many words are there?"),
        ],
        asks(heard("en-01"), "And this one:", heard("en-09"), "Transcribe both."),
        asks(AudioPart(np.zeros(16_000, np.int16))),
        asks("Please say something very long about " + "very " * 80 + "long words."),
    ]


@pytest.fixture(scope="module")
def answers(loaded_engine: TransformersChat, conversations: list[Conversation]) -> list[ChatDelta]:
    """What each writes when it is alone."""
    return [alone(loaded_engine, conversation) for conversation in conversations]


@pytest.fixture(scope="module")
def narrow(checkpoint: Path) -> TransformersChat:
    """A context with room for a few tokens behind "Hello"."""
    return TransformersChat(ChatEngineArgs(str(checkpoint), "cpu", "float32", max_context_tokens=32))


# Against transformers' own loop


def test_it_writes_what_generate_writes(
    engine: TransformersChat,
    reference: Any,
    processor: Any,
    never_end: dict[int, float],
    conversations: list[Conversation],
    answers: list[ChatDelta],
) -> None:
    tokenizer = processor.tokenizer
    for conversation, answer in zip(conversations, answers, strict=True):
        prompt = engine.prepare(conversation)
        expected = generated(reference, prompt, list(never_end), len(tokenizer))
        assert token_ids(answer) == expected
        assert answer.text == tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.finish_reason == ("length" if len(expected) == GREEDY.max_tokens else "stop")
        assert answer.usage == ChatUsage(prompt.num_tokens, prompt.num_audio_tokens, len(expected))


def test_hello_gets_an_answer(answers: list[ChatDelta]) -> None:
    assert answers[0].text.strip()


def test_what_is_heard_changes_the_answer(engine: TransformersChat, heard: Heard) -> None:
    requests = [(asks(heard(name), "Transcribe this."), GREEDY) for name in ("en-00", "en-06", "de-03")]
    assert len({answer.text for answer in together(engine, requests)}) == 3


def test_logprobs_are_those_of_a_pass_over_the_whole_text(
    engine: TransformersChat, reference: Any, heard: Heard
) -> None:
    """CHT-14"""
    conversation = asks(heard("en-00"), "Transcribe this.")
    answer = alone(engine, conversation, top_logprobs=3)
    prompt = engine.prepare(conversation)
    written = torch.tensor([token_ids(answer)])
    everything = torch.cat([prompt.token_ids, written], dim=-1)
    inputs = {**prompt.inputs, "input_ids": everything, "attention_mask": torch.ones_like(everything)}
    with torch.inference_mode():
        logits = reference(**inputs, use_cache=False).logits[0, prompt.num_tokens - 1 : -1]
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    for scored, expected in zip(answer.tokens, logprobs, strict=True):
        assert scored.token.logprob == pytest.approx(float(expected[scored.token.id]), abs=1e-3)
        best = expected.topk(3)
        assert [one.logprob for one in scored.alternatives] == pytest.approx(best.values.tolist(), abs=1e-3)
        assert scored.alternatives[0] == scored.token  # greedy


def test_as_many_alternatives_as_asked_for_the_most_probable_first(engine: TransformersChat) -> None:
    """CHT-14"""
    numbers = (None, 0, 1, 20)
    found = together(engine, [(HELLO, replace(GREEDY, top_logprobs=number)) for number in numbers])
    assert found[0].tokens == ()
    for number, answer in zip(numbers[1:], found[1:], strict=True):
        assert len(answer.tokens) == answer.usage.num_output_tokens > 0
        for scored in answer.tokens:
            logprobs = [one.logprob for one in scored.alternatives]
            assert len(logprobs) == number
            assert logprobs == sorted(logprobs, reverse=True)


def test_the_bytes_of_the_tokens_are_the_text(answers: list[ChatDelta]) -> None:
    """CHT-14"""
    for answer in answers:
        data = b"".join(scored.token.data for scored in answer.tokens)
        assert data.decode(errors="replace") == answer.text


# Whoever else is aboard


def test_together_everybody_writes_what_they_write_alone(
    engine: TransformersChat, conversations: list[Conversation], answers: list[ChatDelta]
) -> None:
    found = together(engine, [(conversation, GREEDY) for conversation in conversations])
    assert [answer.text for answer in found] == [answer.text for answer in answers]
    assert [token_ids(answer) for answer in found] == [token_ids(answer) for answer in answers]
    assert [answer.usage for answer in found] == [answer.usage for answer in answers]


def test_rows_join_and_leave_at_any_step(
    engine: TransformersChat, conversations: list[Conversation], answers: list[ChatDelta]
) -> None:
    found: dict[str, list[ChatDelta]] = {}
    num_left = len(conversations)
    for number, conversation in enumerate(reversed(conversations)):
        engine.add(str(number), engine.prepare(conversation), GREEDY)
        for _ in range(1 + 2 * number % 5):
            num_left -= len(advance(engine, found))
    finish(engine, found, num_left)
    texts = [join_deltas(found[str(number)]).text for number in range(len(conversations))]
    assert texts == [answer.text for answer in reversed(answers)]


def test_the_same_twice(engine: TransformersChat, conversations: list[Conversation], answers: list[ChatDelta]) -> None:
    """CHT-10"""
    found = together(engine, [(conversations[1], GREEDY)] * 3)
    assert [answer.text for answer in found] == [answers[1].text] * 3


def test_a_seed_writes_the_same_text_in_any_company(
    engine: TransformersChat, conversations: list[Conversation]
) -> None:
    """CHT-13"""
    expected = join_deltas(pieces(engine, HELLO, SAMPLED)).text
    company = [(conversation, replace(SAMPLED, seed=100)) for conversation in conversations[:4]]
    found = together(engine, [*company[:2], (HELLO, SAMPLED), *company[2:], (HELLO, SAMPLED)])
    assert [found[2].text, found[-1].text] == [expected, expected]


def test_other_seeds_write_other_texts(engine: TransformersChat, never_end: dict[int, float]) -> None:
    """CHT-13"""
    options = [replace(SAMPLED, seed=seed, logit_bias=never_end) for seed in (1, 2, 3, -1, 2**63 - 1, -(2**63))]
    found = together(engine, [(HELLO, one) for one in options])
    assert len({answer.text for answer in found}) > 3


# How tokens are chosen


@pytest.mark.parametrize("narrowing", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-6}])
def test_what_leaves_one_token_is_greedy(
    engine: TransformersChat, never_end: dict[int, float], narrowing: dict[str, Any]
) -> None:
    """CHT-10, CHT-21"""
    greedy = replace(GREEDY, logit_bias=never_end)
    narrowed = [replace(greedy, **{"temperature": 1.5, "seed": seed, **narrowing}) for seed in (1, 2)]
    expected, *found = together(engine, [(HELLO, options) for options in (greedy, *narrowed)])
    assert [token_ids(answer) for answer in found] == [token_ids(expected)] * 2


def test_a_high_temperature_leaves_the_greedy_way(engine: TransformersChat, never_end: dict[int, float]) -> None:
    """CHT-10"""
    options = replace(GREEDY, logit_bias=never_end)
    hot = [replace(options, temperature=2.0, seed=seed) for seed in range(3)]
    greedy, *found = together(engine, [(HELLO, one) for one in (options, *hot)])
    assert all(token_ids(answer) != token_ids(greedy) for answer in found)


def test_a_bias_takes_a_token_out_of_reach(engine: TransformersChat) -> None:
    """CHT-16"""
    unwanted = token_ids(alone(engine, HELLO))[:2]
    answer = alone(engine, HELLO, logit_bias=dict.fromkeys(unwanted, -100.0))
    assert answer.text
    assert not set(unwanted) & set(token_ids(answer))


def test_a_bias_forces_a_token(engine: TransformersChat) -> None:
    """CHT-16"""
    forced = token_ids(alone(engine, HELLO))[-1]
    answer = alone(engine, HELLO, logit_bias={forced: 100.0}, max_tokens=7)
    assert token_ids(answer) == [forced] * 7
    assert answer.finish_reason == "length"


@pytest.mark.parametrize("unknown", [-1, 1_000_000])
def test_a_bias_for_no_token_is_refused_and_nobody_is_aboard(engine: TransformersChat, unknown: int) -> None:
    """CHT-16"""
    with pytest.raises(InvalidRequest, match=f"no token {unknown}") as caught:
        engine.add("0", engine.prepare(HELLO), replace(GREEDY, logit_bias={5: 1.0, unknown: 1.0}))
    assert caught.value.param == "logit_bias"
    assert engine.step() == []


def test_a_penalty_keeps_a_text_from_repeating_itself(engine: TransformersChat, never_end: dict[int, float]) -> None:
    """CHT-15: without it, the bias has it say one word for ever."""
    forced = token_ids(alone(engine, HELLO))[0]
    options = replace(GREEDY, max_tokens=60, logit_bias={**never_end, forced: 30.0})
    requests = [(HELLO, options), (HELLO, replace(options, frequency_penalty=2.0))]
    repeated, varied = together(engine, requests)
    assert token_ids(repeated) == [forced] * 60
    assert set(token_ids(varied)) > {forced}


# How an answer ends


def test_max_tokens_is_the_length(engine: TransformersChat, processor: Any, never_end: dict[int, float]) -> None:
    """CHT-09"""
    numbers = (30, 1, 3, 29)
    options = replace(GREEDY, logit_bias=never_end)
    found = together(engine, [(HELLO, replace(options, max_tokens=number)) for number in numbers])
    for number, answer in zip(numbers, found, strict=True):
        assert token_ids(answer) == token_ids(found[0])[:number]
        assert answer.text == processor.tokenizer.decode(token_ids(answer))
        assert (answer.finish_reason, answer.usage.num_output_tokens) == ("length", number)


def test_the_answer_ends_before_a_stop_text_wherever_tokens_end(
    engine: TransformersChat, never_end: dict[int, float]
) -> None:
    """CHT-12"""
    options = replace(GREEDY, logit_bias=never_end)
    whole = alone(engine, HELLO, logit_bias=never_end).text
    stops = [whole[start : start + 4] for start in range(20)]
    found = together(engine, [(HELLO, replace(options, stop=(stop, "never said"))) for stop in stops])
    for stop, answer in zip(stops, found, strict=True):
        assert (answer.text, answer.finish_reason) == (whole[: whole.index(stop)], "stop")


def test_what_a_stop_text_might_begin_with_is_held_back(engine: TransformersChat, never_end: dict[int, float]) -> None:
    """CHT-12"""
    whole = alone(engine, HELLO, logit_bias=never_end).text
    stop = whole[4:24] + "\0"  # all of it comes true but its end
    deltas = pieces(engine, HELLO, replace(GREEDY, logit_bias=never_end, stop=(stop,)))
    assert join_deltas(deltas).text == whole
    said = shown = ""
    for delta in deltas:
        said += "".join(scored.token.text for scored in delta.tokens)
        shown += delta.text
        if len(said) <= 24:
            assert shown == said[:4]


def test_a_stop_text_at_the_beginning_leaves_nothing(engine: TransformersChat) -> None:
    """CHT-12"""
    whole = alone(engine, HELLO).text
    answer = alone(engine, HELLO, stop=(whole[:1],))
    assert (answer.text, answer.finish_reason, answer.usage.num_output_tokens) == ("", "stop", 1)


def test_deltas_come_as_tokens_are_written(engine: TransformersChat) -> None:
    """CHT-31"""
    deltas = pieces(engine, HELLO, replace(GREEDY, top_logprobs=None))
    assert len([delta for delta in deltas if delta.text]) > 3
    assert all(delta.text or delta.finish_reason for delta in deltas)
    counts = [delta.usage.num_output_tokens for delta in deltas]
    assert counts == sorted(counts)


def test_the_context_s_end_is_the_answer_s(narrow: TransformersChat, never_end: dict[int, float]) -> None:
    """CHT-09"""
    num_read = narrow.prepare(HELLO).num_tokens
    assert 0 < num_read < 32
    for max_tokens in (None, 1000):
        answer = alone(narrow, HELLO, logit_bias=never_end, max_tokens=max_tokens)
        assert answer.finish_reason == "length"
        assert answer.usage.num_output_tokens == 32 - num_read
    assert alone(narrow, HELLO, logit_bias=never_end, max_tokens=2).usage.num_output_tokens == 2


def test_the_context_is_no_longer_than_the_checkpoint_s(checkpoint: Path) -> None:
    wide = TransformersChat(ChatEngineArgs(str(checkpoint), "cpu", "float32", max_context_tokens=10**6))
    assert wide.info.max_context_tokens == wide._model.model.config.get_text_config().max_position_embeddings


def test_it_runs_in_half_precision(checkpoint: Path) -> None:
    half = TransformersChat(ChatEngineArgs(str(checkpoint), "cpu", "bfloat16"))
    assert all(answer.text for answer in together(half, [(HELLO, GREEDY), (asks("Thank you"), GREEDY)]))


# Who leaves early, and who fails


def test_who_is_aborted_leaves_the_others_as_they_were(
    engine: TransformersChat, conversations: list[Conversation], answers: list[ChatDelta]
) -> None:
    for number in range(4):
        engine.add(str(number), engine.prepare(conversations[number]), GREEDY)
    found: dict[str, list[ChatDelta]] = {}
    for _ in range(3):  # the first two are read and write
        advance(engine, found)
    engine.abort("1")  # aboard
    engine.abort("3")  # waiting
    engine.abort("nobody")
    finish(engine, found, 2)
    assert join_deltas(found["0"]).text == answers[0].text
    assert join_deltas(found["2"]).text == answers[2].text
    assert not found["1"][-1].finish_reason
    assert "3" not in found


def test_when_everybody_is_aborted_nobody_is_aboard(engine: TransformersChat, answers: list[ChatDelta]) -> None:
    for number in range(3):
        engine.add(str(number), engine.prepare(HELLO), GREEDY)
    engine.step()
    for number in range(3):
        engine.abort(str(number))
    assert engine.step() == []
    assert alone(engine, HELLO).text == answers[0].text


def broken() -> Prompt:
    """Holds a token that the model has no embedding of."""
    return Prompt({"input_ids": torch.tensor([[10**6]]), "attention_mask": torch.ones(1, 1).long()}, 0)


def failed(outputs: Sequence[ChatOutput]) -> list[str]:
    assert all(output.is_last for output in outputs if isinstance(output.result, ModelUnavailable))
    return [output.request_id for output in outputs if isinstance(output.result, ModelUnavailable)]


def texts(outputs: Sequence[ChatOutput], answers: dict[str, list[ChatDelta]]) -> None:
    """Keep what was written, beside what failed."""
    for output in outputs:
        if isinstance(output.result, ChatDelta):
            answers.setdefault(output.request_id, []).append(output.result)


def test_a_prompt_that_fails_takes_nobody_aboard_with_it(engine: TransformersChat, answers: list[ChatDelta]) -> None:
    engine.add("good", engine.prepare(HELLO), GREEDY)
    found: dict[str, list[ChatDelta]] = {}
    advance(engine, found)
    engine.add("bad", broken(), GREEDY)
    outputs = engine.step()
    assert failed(outputs) == ["bad"]
    texts(outputs, found)
    finish(engine, found, 1)
    assert join_deltas(found["good"]).text == answers[0].text


@pytest.mark.parametrize("names", [("bad", "good", "other"), ("good", "bad", "other"), ("good", "other", "bad")])
def test_a_prompt_that_fails_takes_nobody_who_waits_with_it(
    engine: TransformersChat, answers: list[ChatDelta], names: Sequence[str]
) -> None:
    other = alone(engine, asks("And you?"))
    prompts = {"bad": broken(), "good": engine.prepare(HELLO), "other": engine.prepare(asks("And you?"))}
    for name in names:
        engine.add(name, prompts[name], GREEDY)
    outputs = engine.step()
    found: dict[str, list[ChatDelta]] = {}
    assert failed(outputs) == ["bad"]
    texts(outputs, found)
    finish(engine, found, 2)
    assert [join_deltas(found[name]).text for name in ("good", "other")] == [answers[0].text, other.text]


def test_alone_a_prompt_that_fails_is_a_failed_step(engine: TransformersChat, answers: list[ChatDelta]) -> None:
    engine.add("bad", broken(), GREEDY)
    with pytest.raises(IndexError):
        engine.step()
    engine.abort("bad")
    assert alone(engine, HELLO).text == answers[0].text


def test_a_model_that_reads_nothing_any_more_fails_however_many_wait(engine: TransformersChat) -> None:
    for number in range(3):
        engine.add(str(number), broken(), GREEDY)
    assert failed(engine.step()) == ["0"]
    with pytest.raises(IndexError):
        engine.step()
    for number in range(3):
        engine.abort(str(number))
    assert alone(engine, HELLO).text


def test_memory_that_runs_out_takes_nobody_with_it(
    engine: TransformersChat, conversations: list[Conversation], answers: list[ChatDelta]
) -> None:
    """While a prompt is read for which there is no room, others write on, and the next prompt finds room again."""
    engine.add("good", engine.prepare(HELLO), GREEDY)
    found: dict[str, list[ChatDelta]] = {}
    advance(engine, found)
    slots = engine._batch.slots
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine._batch.slots, "layer", partial(without_room, slots.layer))
        engine.add("large", engine.prepare(conversations[6]), GREEDY)
        outputs = engine.step()
    assert failed(outputs) == ["large"]
    texts(outputs, found)
    engine.add("late", engine.prepare(conversations[6]), GREEDY)
    finish(engine, found, 2)
    assert [join_deltas(found[name]).text for name in ("good", "late")] == [answers[0].text, answers[6].text]


def without_room(layer: Callable[..., Layer], number: int, *states_and_room: Any) -> Layer:
    """Memory for two rows is not to be had, but in the first layer."""
    if states_and_room[-2] > 1 and number:
        raise MemoryError("no room")
    return layer(number, *states_and_room)


# Reading


def test_prompts_are_read_together_and_others_write_meanwhile(engine: TransformersChat) -> None:
    for name in "abc":
        engine.add(name, engine.prepare(asks(f"Hello {name}")), replace(GREEDY, max_tokens=6))
    assert {output.request_id for output in engine.step()} == {"a", "b", "c"}
    engine.add("d", engine.prepare(HELLO), replace(GREEDY, max_tokens=6))
    assert {output.request_id for output in engine.step()} == {"a", "b", "c", "d"}


def test_a_long_prompt_is_read_in_pieces_and_holds_nobody_up(
    engine: TransformersChat, conversations: list[Conversation], answers: list[ChatDelta], monkeypatch: Any
) -> None:
    monkeypatch.setattr(engine, "_tokens_per_step", POSITIONS_AT_ONCE)
    found: dict[str, list[ChatDelta]] = {}
    engine.add("0", engine.prepare(HELLO), GREEDY)
    advance(engine, found)
    engine.add("6", engine.prepare(conversations[6]), GREEDY)
    num_steps = ceil(engine.prepare(conversations[6]).num_tokens / POSITIONS_AT_ONCE)
    assert num_steps > 2
    for _ in range(num_steps - 1):
        assert not advance(engine, found)
        assert "6" not in found
    advance(engine, found)
    assert len(found["0"]) == num_steps + 1
    assert len(found["6"]) == 1
    finish(engine, found, 2)
    assert [join_deltas(found[name]).text for name in "06"] == [answers[0].text, answers[6].text]


def test_short_prompts_pass_a_long_one(
    engine: TransformersChat, conversations: list[Conversation], answers: list[ChatDelta], monkeypatch: Any
) -> None:
    """OPS-02: who says Hello does not wait for somebody's transcript of an hour."""
    monkeypatch.setattr(engine, "_tokens_per_step", POSITIONS_AT_ONCE)
    found: dict[str, list[ChatDelta]] = {}
    num_steps = ceil(engine.prepare(conversations[6]).num_tokens / POSITIONS_AT_ONCE)
    engine.add("6", engine.prepare(conversations[6]), GREEDY)
    advance(engine, found)
    for name in ("first", "twin"):  # of which one is read, and copied
        engine.add(name, engine.prepare(HELLO), GREEDY)
    advance(engine, found)
    advance(engine, found)
    assert found.keys() == {"first", "twin"}
    assert [row.request_id for row in engine._batch.rows] == ["first", "twin", "6"]
    engine.abort("twin")
    for number in range(num_steps):  # however many come
        engine.add(f"more {number}", engine.prepare(asks(f"Hello {number}")), replace(GREEDY, max_tokens=1))
        advance(engine, found)
        advance(engine, found)
    assert "6" in found
    finish(engine, found, 2)
    assert [join_deltas(found[name]).text for name in ("first", "6")] == [answers[0].text, answers[6].text]


def test_a_long_prompt_begins_where_another_ends(
    engine: TransformersChat, conversations: list[Conversation], answers: list[ChatDelta], monkeypatch: Any
) -> None:
    """In the same step: who has been read writes from then on, and stands before who is half read."""
    options = replace(GREEDY, max_tokens=12)
    others = [asks(" ".join([word] * count)) for word, count in (("Hello", 150), ("there", 400), ("well", 300))]
    expected = [join_deltas(pieces(engine, one, options)).text for one in others]
    monkeypatch.setattr(engine, "_tokens_per_step", 2 * POSITIONS_AT_ONCE)
    found: dict[str, list[ChatDelta]] = {}
    for name, one in zip("abc", others, strict=True):
        engine.add(name, engine.prepare(one), options)
    has_met = False
    for _ in range(100):
        advance(engine, found)
        rows = engine._batch.rows
        assert [row for row in rows if row.is_reading] in ([], rows[-1:])
        has_met |= len(rows) > 1 and rows[-1].is_half_read
        engine.add(f"short {len(found)}", engine.prepare(HELLO), replace(GREEDY, max_tokens=1))
        if all(found.get(name) and found[name][-1].finish_reason for name in "abc"):
            break
    assert has_met
    assert [join_deltas(found[name]).text for name in "abc"] == expected


def test_who_finds_no_room_to_pass_comes_later(
    engine: TransformersChat, conversations: list[Conversation], answers: list[ChatDelta], monkeypatch: Any
) -> None:
    monkeypatch.setattr(engine, "_tokens_per_step", POSITIONS_AT_ONCE)
    found: dict[str, list[ChatDelta]] = {}
    engine.add("6", engine.prepare(conversations[6]), GREEDY)
    advance(engine, found)
    engine.add("0", engine.prepare(HELLO), GREEDY)
    with monkeypatch.context() as changed:
        changed.setattr(engine._batch.slots, "copy", lambda *_: 1 / 0)
        advance(engine, found)
        advance(engine, found)
    assert not found
    finish(engine, found, 2)
    assert [join_deltas(found[name]).text for name in "06"] == [answers[0].text, answers[6].text]


def test_one_who_leaves_while_read_leaves_the_others_as_they_were(
    engine: TransformersChat, conversations: list[Conversation], answers: list[ChatDelta], monkeypatch: Any
) -> None:
    monkeypatch.setattr(engine, "_tokens_per_step", POSITIONS_AT_ONCE)
    found: dict[str, list[ChatDelta]] = {}
    for number in (0, 1, 6):
        engine.add(str(number), engine.prepare(conversations[number]), GREEDY)
    for _ in range(3):
        advance(engine, found)
    assert [row.request_id for row in engine._batch.reading] == ["6"]
    engine.abort("0")  # whoever is read moves up
    advance(engine, found)
    engine.add("again", engine.prepare(conversations[6]), GREEDY)
    engine.abort("6")
    finish(engine, found, 2)
    assert [join_deltas(found[name]).text for name in ("1", "again")] == [answers[1].text, answers[6].text]


@pytest.mark.parametrize("number", [1, 6])
def test_several_answers_to_one_prompt_read_it_once(
    engine: TransformersChat, conversations: list[Conversation], number: int, monkeypatch: Any
) -> None:
    """CHT-11: also those that come while the first is already written."""
    conversation = conversations[number]
    options = [replace(SAMPLED, seed=seed, max_tokens=8) for seed in range(4)]
    expected = [join_deltas(pieces(engine, conversation, one)).text for one in options]
    read: list[int] = []
    model = engine._model
    monkeypatch.setattr(
        engine, "_model", SimpleNamespace(read=lambda batch, group: counted(read, group) or model.read(batch, group))
    )
    found: dict[str, list[ChatDelta]] = {}
    for name in "012":
        engine.add(name, engine.prepare(conversation), options[int(name)])
    for _ in range(5):
        advance(engine, found)
    engine.add("3", engine.prepare(conversation), options[3])
    finish(engine, found, 4)
    assert [join_deltas(found[name]).text for name in "0123"] == expected
    assert sum(read) == engine.prepare(conversation).num_tokens


def test_an_answer_that_goes_on_keeps_nobody_with_the_same_prompt_waiting(
    engine: TransformersChat, answers: list[ChatDelta], never_end: dict[int, float]
) -> None:
    engine.add("goes on", engine.prepare(HELLO), replace(GREEDY, max_tokens=60, logit_bias=never_end), [40, 41])
    found: dict[str, list[ChatDelta]] = {}
    advance(engine, found)
    engine.add("new", engine.prepare(HELLO), GREEDY)
    advance(engine, found)
    assert "new" in found
    finish(engine, found, 2)
    assert join_deltas(found["new"]).text == answers[0].text


def test_who_finds_no_room_beside_a_twin_fails_alone(
    engine: TransformersChat, answers: list[ChatDelta], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(engine._batch.slots, "copy", no_room)
    engine.add("first", engine.prepare(HELLO), GREEDY)
    engine.add("twin", engine.prepare(HELLO), GREEDY)
    outputs = engine.step()
    assert failed(outputs) == ["twin"]
    found: dict[str, list[ChatDelta]] = {}
    texts(outputs, found)
    finish(engine, found, 1)
    assert join_deltas(found["first"]).text == answers[0].text


def counted(read: list[int], group: Sequence[Piece]) -> None:
    """Tokens of prompts."""
    read += [piece.num_tokens for piece in group if piece.row.is_reading]


@pytest.mark.parametrize("number", [0, 1, 3, 6])
@pytest.mark.parametrize("options", [GREEDY, SAMPLED])
def test_an_answer_goes_on_behind_what_was_written_elsewhere(
    engine: TransformersChat, conversations: list[Conversation], number: int, options: SamplingOptions
) -> None:
    """CHT-13: whatever the stop texts and half characters that were held back when it was cut off."""
    prompt = engine.prepare(conversations[number])
    options = replace(options, stop=("\0", "never said"), frequency_penalty=0.5)
    deltas = pieces(engine, conversations[number], options)
    assert len(deltas) > 3
    for cut in range(1, len(deltas)):
        known = join_deltas(deltas[:cut])
        engine.add("again", prompt, options, known.token_ids)
        found: dict[str, list[ChatDelta]] = {}
        finish(engine, found, 1)
        rest, expected = join_deltas(found["again"]), join_deltas(deltas[cut:])
        assert (rest.text, rest.token_ids, rest.finish_reason, rest.usage) == (
            expected.text,
            expected.token_ids,
            expected.finish_reason,
            expected.usage,
        )
        assert token_ids(rest) == token_ids(expected)


# 8 bits


@pytest.fixture(scope="module")
def coarse(checkpoint: Path) -> TransformersChat:
    return TransformersChat(ChatEngineArgs(str(checkpoint), "cpu", "int8", num_threads=1))


@pytest.mark.skipif(not has_int8(), reason="this build of torch has no kernels for it")
def test_in_8_bits_an_answer_is_the_same_to_the_last_bit_in_any_company(
    coarse: TransformersChat, conversations: list[Conversation], monkeypatch: Any
) -> None:
    """Log-probabilities too, however its prompt is cut."""
    options = [replace(one, max_tokens=12, top_logprobs=2) for one in (GREEDY, SAMPLED)]
    requests = [(conversation, options[number % 2]) for number, conversation in enumerate(conversations)]
    expected = [join_deltas(pieces(coarse, *request)) for request in requests]
    for size in (POSITIONS_AT_ONCE, 2 * POSITIONS_AT_ONCE, 10_000):
        monkeypatch.setattr(coarse, "_tokens_per_step", size)
        assert together(coarse, requests) == expected
        found: dict[str, list[ChatDelta]] = {}
        num_left = len(requests)
        for number, (conversation, chosen) in enumerate(requests):
            coarse.add(str(number), coarse.prepare(conversation), chosen)
            num_left -= len(advance(coarse, found))
        finish(coarse, found, num_left)
        assert [join_deltas(found[str(number)]) for number in range(len(requests))] == expected


# Where memory is bounded


@pytest.fixture
def bounded_args(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> ChatEngineArgs:
    """Memory for 1024 tokens of all rows together, and some of a block."""
    monkeypatch.setattr("deployments.decoding.memory.resident_bytes", lambda: 0)
    config = AutoConfig.from_pretrained(checkpoint).get_text_config()
    heads = config.num_key_value_heads * getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    token_bytes = (config.num_hidden_layers + 1) * 2 * heads * 4
    max_bytes = int((1024 + 30) * token_bytes / (1 - WORKING_SHARE))
    return ChatEngineArgs(str(checkpoint), "cpu", "float32", num_threads=1, max_bytes=max_bytes)


@pytest.fixture
def bounded(bounded_args: ChatEngineArgs) -> TransformersChat:
    return TransformersChat(bounded_args)


def test_rows_that_there_is_no_memory_for_wait(bounded: TransformersChat, engine: TransformersChat) -> None:
    conversations = [asks(f"Say {number}, and " + "very " * number) for number in range(12)]
    expected = [token_ids(alone(engine, conversation)) for conversation in conversations]
    for number, conversation in enumerate(conversations):
        bounded.add(str(number), bounded.prepare(conversation), GREEDY)
    answers: dict[str, list[ChatDelta]] = {}
    most_bytes = num_ended = most_aboard = 0
    while num_ended < len(conversations):
        num_ended += len(advance(bounded, answers))
        most_bytes = max(most_bytes, bounded._batch.slots.num_bytes)
        most_aboard = max(most_aboard, len(bounded._batch.rows))
    assert [token_ids(join_deltas(answers[str(number)])) for number in range(12)] == expected
    assert 1 < most_aboard < 12
    assert 0 < most_bytes <= 1024 * _bytes_of_a_token(bounded)


def test_who_does_not_say_how_long_an_answer_may_be_takes_no_whole_context(
    checkpoint: Path, bounded_args: ChatEngineArgs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for four contexts, or eight rows of the usual length; all of them write on to the end of their contexts."""
    monkeypatch.setattr("deployments.chat.transformers_chat.USUAL_TOKENS", 128)
    monkeypatch.setattr("deployments.chat.transformers_chat.USUAL_ANSWER", 60)
    bounded = TransformersChat(replace(bounded_args, max_context_tokens=256))
    free = TransformersChat(replace(bounded_args, max_context_tokens=256, max_bytes=None))
    assert (bounded.max_rows, free.max_rows) == (8, None)
    options = replace(GREEDY, max_tokens=None, logit_bias={token: -100.0 for token in free._vocabulary.ends})
    conversations = [asks(f"Say {number}, and " + "very " * number) for number in range(8)]
    expected = [token_ids(join_deltas(pieces(free, conversation, options))) for conversation in conversations]
    for number, conversation in enumerate(conversations):
        bounded.add(str(number), bounded.prepare(conversation), options)
    token_bytes = _bytes_of_a_token(free)
    put_back: list[Row] = []
    start_over = Row.start_over
    monkeypatch.setattr(Row, "start_over", lambda row: [put_back.append(row), start_over(row)])
    answers: dict[str, list[ChatDelta]] = {}
    num_ended, num_aboard, most_bytes = 0, [], 0
    while num_ended < len(conversations):
        num_ended += len(advance(bounded, answers))
        num_aboard.append(len(bounded._batch.rows))
        most_bytes = max(most_bytes, bounded._batch.slots.num_bytes)
    assert [token_ids(join_deltas(answers[str(number)])) for number in range(8)] == expected
    assert max(num_aboard) == 8
    assert len(put_back) > 1
    assert most_bytes <= 1024 * token_bytes


def _bytes_of_a_token(engine: TransformersChat) -> int:
    engine.add("probe", engine.prepare(HELLO), GREEDY)
    engine.step()
    slots = engine._batch.slots
    shape = slots._layers[0].keys.shape
    num_bytes = slots.num_bytes // (shape[0] * shape[2])
    engine.abort("probe")
    return num_bytes


def test_who_always_says_the_most_takes_no_whole_context(
    bounded_args: ChatEngineArgs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.chat.transformers_chat.USUAL_TOKENS", 128)
    monkeypatch.setattr("deployments.chat.transformers_chat.USUAL_ANSWER", 60)
    bounded = TransformersChat(replace(bounded_args, max_context_tokens=1024))
    for number in range(4):
        bounded.add(str(number), bounded.prepare(asks(f"Say {number}")), replace(GREEDY, max_tokens=1_000))
    bounded.step()
    assert len(bounded._batch.rows) == 4


def test_a_token_takes_what_its_layers_keep_of_it() -> None:
    """Latent attention (DeepSeek V2): the width that its configuration tells is neither the keys' nor the values'."""
    model = DeepseekV2ForCausalLM(
        DeepseekV2Config(
            vocab_size=64,
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            kv_lora_rank=16,
            q_lora_rank=None,
            first_k_dense_replace=2,
            qk_nope_head_dim=48,
            qk_rope_head_dim=16,
            v_head_dim=32,
        )
    )
    assert set_attention(model.get_decoder(), NAME)
    assert _bytes_of_a_token_in(model) == (2 + 1) * 2 * (48 + 16 + 32) * 4


def test_whoever_is_alone_finds_room(
    bounded: TransformersChat, engine: TransformersChat, never_end: dict[int, float]
) -> None:
    """However long its answer may be: the context is as long as there is memory for."""
    assert bounded.info.max_context_tokens <= 1024
    answer = alone(bounded, HELLO, max_tokens=None, logit_bias=never_end)
    assert answer.finish_reason == "length"
    assert answer.usage
    assert answer.usage.num_prompt_tokens + answer.usage.num_output_tokens == bounded.info.max_context_tokens
    num_tokens = answer.usage.num_output_tokens
    assert token_ids(answer) == token_ids(alone(engine, HELLO, max_tokens=num_tokens, logit_bias=never_end))


def test_who_waits_for_room_is_not_overtaken_by_twins(bounded: TransformersChat, never_end: dict[int, float]) -> None:
    """Or those whose prompt is known, who find a place sooner, would keep it waiting as long as they come."""
    short = replace(GREEDY, max_tokens=40, logit_bias=never_end)
    for name in ("first", "second"):
        bounded.add(name, bounded.prepare(HELLO), short)
    answers: dict[str, list[ChatDelta]] = {}
    advance(bounded, answers)
    large = replace(GREEDY, max_tokens=700, logit_bias=never_end)
    bounded.add("large", bounded.prepare(asks("What else is there?")), large)
    bounded.add("twin", bounded.prepare(HELLO), short)
    for _ in range(5):
        advance(bounded, answers)
    assert answers.keys() == {"first", "second"}
    order: list[str] = []
    while len(order) < 4:
        order += advance(bounded, answers)
    assert order.index("large") < order.index("twin")


def test_no_memory_for_a_conversation_is_said_at_load(checkpoint: Path) -> None:
    with pytest.raises(ConfigurationError, match="max_memory_gb"):
        TransformersChat(ChatEngineArgs(str(checkpoint), "cpu", "float32", max_bytes=1_000_000))
