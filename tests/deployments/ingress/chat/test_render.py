"""CHT-14, CHT-30 to CHT-32: an answer whole and in chunks, as OpenAI's client reads them."""

import json
import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from deployments.ingress.chat.render import ChatRenderer
from deployments.ingress.chat.schema import ChatRequest
from deployments.ingress.http.sse import to_line
from pipelines.chat import ChoiceDelta
from pipelines.chat_types import ChatDelta, ChatUsage, ScoredToken
from pipelines.transcript_types import FinishReason, Token

USAGE = ChatUsage(num_prompt_tokens=11, num_audio_tokens=4, num_output_tokens=1)
CHUNK_KEYS = {"id", "object", "created", "model", "choices"}


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})


def scored(text: str, logprob: float = -0.5, alternatives: Sequence[Token] = ()) -> ScoredToken:
    return ScoredToken(Token(1, text, logprob, text.encode()), tuple(alternatives))


def piece(
    text: str,
    index: int = 0,
    num_output_tokens: int = 1,
    tokens: Sequence[ScoredToken] = (),
    finish_reason: FinishReason | None = None,
) -> ChoiceDelta:
    return ChoiceDelta(index, ChatDelta(text, ChatUsage(11, 4, num_output_tokens), tuple(tokens), finish_reason))


def chunked(request: ChatRequest, pieces: Sequence[ChoiceDelta]) -> list[dict[str, Any]]:
    renderer = ChatRenderer(request)
    return [on_the_wire(chunk) for one in pieces for chunk in renderer.chunks(one)]


def on_the_wire(answer: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(to_line(answer).removeprefix(b"data: "))
    return read


def joined(chunks: Sequence[dict[str, Any]], num_choices: int) -> dict[str, Any]:
    """The whole answer, as a client puts it together."""
    choices: list[dict[str, Any]] = [{"text": "", "logprobs": [], "finish_reason": None} for _ in range(num_choices)]
    for wire in (wire for chunk in chunks for wire in chunk["choices"]):
        choice = choices[wire["index"]]
        assert choice["finish_reason"] is None, "nothing follows the end"
        choice["text"] += wire["delta"].get("content", "")
        if wire["logprobs"]:
            choice["logprobs"] += wire["logprobs"]["content"]
        choice["finish_reason"] = wire["finish_reason"]
    return {"choices": choices, "usage": chunks[-1].get("usage")}


def whole(completion: dict[str, Any]) -> dict[str, Any]:
    """The same of what is not streamed."""
    choices = [
        {
            "text": choice["message"]["content"],
            "logprobs": choice["logprobs"]["content"] if choice["logprobs"] else [],
            "finish_reason": choice["finish_reason"],
        }
        for choice in completion["choices"]
    ]
    return {"choices": choices, "usage": completion["usage"]}


# Whole answers


def test_cht_30_every_key_of_a_completion() -> None:
    renderer = ChatRenderer(request())
    completion = on_the_wire(renderer.completion([piece("Hello", 0, 1), piece(".", 0, 2, finish_reason="stop")]))
    assert completion.pop("id").startswith("chatcmpl-")
    assert isinstance(completion.pop("created"), int)
    assert completion == {
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 2,
            "total_tokens": 13,
            "prompt_tokens_details": {"audio_tokens": 4, "cached_tokens": 0},
        },
    }


def test_cht_11_choices_stand_in_the_order_of_their_indices() -> None:
    pieces = [piece("b", 1), piece("c", 2, finish_reason="length"), piece("a", 0), piece("B", 1, finish_reason="stop")]
    completion = ChatRenderer(request(n=3)).completion([*pieces, piece("A", 0, finish_reason="stop")])
    assert [choice["index"] for choice in completion["choices"]] == [0, 1, 2]
    assert [choice["message"]["content"] for choice in completion["choices"]] == ["aA", "bB", "c"]
    assert [choice["finish_reason"] for choice in completion["choices"]] == ["stop", "stop", "length"]


def test_the_messages_are_counted_once_however_many_answers_there_are() -> None:
    pieces = [piece("a", index, 3 + index, finish_reason="stop") for index in range(3)]
    usage = ChatRenderer(request(n=3)).completion(pieces)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (11, 12, 23)


def test_an_empty_answer() -> None:
    completion = ChatRenderer(request()).completion([piece("", finish_reason="stop")])
    assert completion["choices"][0]["message"]["content"] == ""


# Log-probabilities


def test_cht_14_the_logprobs_of_each_token() -> None:
    other = Token(2, "Hi", -1.5, b"Hi")
    token = scored("Hello", -0.25, [Token(1, "Hello", -0.25, b"Hello"), other])
    completion = ChatRenderer(request(logprobs=True, top_logprobs=2)).completion(
        [piece("Hello", tokens=[token], finish_reason="stop")]
    )
    assert completion["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": "Hello",
                "logprob": -0.25,
                "bytes": [72, 101, 108, 108, 111],
                "top_logprobs": [
                    {"token": "Hello", "logprob": -0.25, "bytes": [72, 101, 108, 108, 111]},
                    {"token": "Hi", "logprob": -1.5, "bytes": [72, 105]},
                ],
            }
        ],
        "refusal": None,
    }


def test_a_part_of_a_character_is_told_by_its_bytes() -> None:
    token = ScoredToken(Token(1, "\ufffd", -0.5, b"\xf0\x9f"))
    (wire,) = ChatRenderer(request(logprobs=True)).completion([piece("", tokens=[token], finish_reason="stop")])[
        "choices"
    ]
    assert wire["logprobs"]["content"][0]["bytes"] == [0xF0, 0x9F]


def test_what_was_impossible_is_still_json() -> None:
    token = scored("a", -0.1, [Token(2, "b", -math.inf, b"b")])
    pieces = [piece("a", tokens=[token], finish_reason="stop")]
    asked = request(logprobs=True, top_logprobs=1)
    assert joined(chunked(asked, pieces), 1)["choices"][0]["logprobs"][0]["top_logprobs"][0]["logprob"] == -9999.0
    json.dumps(ChatRenderer(asked).completion(pieces), allow_nan=False)


@pytest.mark.parametrize("fields", [{}, {"logprobs": False}])
def test_without_logprobs_they_are_null(fields: dict[str, Any]) -> None:
    pieces = [piece("Hello", finish_reason="stop")]
    assert ChatRenderer(request(**fields)).completion(pieces)["choices"][0]["logprobs"] is None
    assert {choice["logprobs"] for chunk in chunked(request(**fields), pieces) for choice in chunk["choices"]} == {None}


# Chunks


def test_cht_31_the_role_then_the_text_then_the_end() -> None:
    chunks = chunked(request(), [piece("Hel"), piece("lo", 0, 2, finish_reason="length")])
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "Hel"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "lo"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}],
    ]
    assert {tuple(sorted(chunk)) for chunk in chunks} == {tuple(sorted(CHUNK_KEYS))}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["model"] for chunk in chunks} == {"m"}
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert chunks[0]["id"].startswith("chatcmpl-")


def test_cht_31_an_empty_answer_has_a_role_and_an_end() -> None:
    role, end = chunked(request(), [piece("", finish_reason="stop")])
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert (end["choices"][0]["delta"], end["choices"][0]["finish_reason"]) == ({}, "stop")


def test_tokens_whose_text_is_held_back_are_told() -> None:
    chunks = chunked(request(logprobs=True), [piece("", tokens=[scored("a")]), piece("ab", finish_reason="stop")])
    assert [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]] == ["", "", "ab", None]
    assert joined(chunks, 1)["choices"][0]["logprobs"] == [
        {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    ]


def test_cht_11_every_answer_has_its_role_and_its_end() -> None:
    pieces = [piece("b", 1), piece("a", 0), piece("B", 1, finish_reason="stop"), piece("A", 0, finish_reason="length")]
    chunks = chunked(request(n=2), pieces)
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    for index, reason in ((0, "length"), (1, "stop")):
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert [choice["delta"].get("role") for choice in own] == ["assistant", None, None, None]
        assert [choice["finish_reason"] for choice in own] == [None, None, None, reason]


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0), (0, 2, 1)], ids=str)
def test_cht_31_the_sdk_puts_answers_together_whichever_comes_first(order: Sequence[int]) -> None:
    state = ChatCompletionStreamState()
    for chunk in chunked(request(n=3), [piece(f"number {index}", index, finish_reason="stop") for index in order]):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    choices = state.get_final_completion().choices
    assert [choice.message.content for choice in choices] == ["number 0", "number 1", "number 2"]


def test_cht_32_usage_stands_in_a_chunk_of_its_own() -> None:
    asked = request(n=2, stream=True, stream_options={"include_usage": True})
    pieces = [piece("a", 0, 1), piece("b", 1, 5, finish_reason="stop"), piece("A", 0, 2, finish_reason="stop")]
    *others, last = chunked(asked, pieces)
    assert {"usage"} <= set.intersection(*map(set, others))
    assert {chunk["usage"] for chunk in others} == {None}
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "total_tokens": 18,
        "prompt_tokens_details": {"audio_tokens": 4, "cached_tokens": 0},
    }
    assert others[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}])
def test_cht_32_without_being_asked_for_there_is_no_usage(options: Any) -> None:
    chunks = chunked(request(stream=True, stream_options=options), [piece("a"), piece("b", finish_reason="stop")])
    assert {tuple(sorted(chunk)) for chunk in chunks} == {tuple(sorted(CHUNK_KEYS))}
    assert all(chunk["choices"] for chunk in chunks)


def test_requests_have_ids_of_their_own() -> None:
    ids = {chunked(request(), [piece("a")])[0]["id"] for _ in range(50)}
    assert len(ids) == 50


# Both alike


def some_pieces(random: Random, num_choices: int, with_logprobs: bool) -> list[ChoiceDelta]:
    """Answers of any lengths, cut anywhere and mixed, each in its own order."""
    answers = [list(some_answer(random, index, with_logprobs)) for index in range(num_choices)]
    order = [index for index, answer in enumerate(answers) for _ in answer]
    random.shuffle(order)
    return [answers[index].pop(0) for index in order]


def some_answer(random: Random, index: int, with_logprobs: bool) -> Iterator[ChoiceDelta]:
    num_pieces, num_tokens = random.randint(1, 8), 0
    for number in range(num_pieces):
        text = "".join(random.choices('ab \n😀é\u2028"\\', k=random.choice([0, 1, 3, 20])))
        tokens = [
            scored(text, -random.random(), [Token(2, "x", -random.random(), b"x")] * random.randint(0, 2))
            for _ in range(random.randint(0, 3) if with_logprobs else 0)
        ]
        num_tokens += random.randint(0, 3)
        reason: FinishReason | None = random.choice(["stop", "length"]) if number == num_pieces - 1 else None
        yield piece(text, index, num_tokens, tokens, reason)


@pytest.mark.parametrize("seed", range(150))
def test_chunks_put_together_are_the_whole_answer(seed: int) -> None:
    random = Random(seed)
    num_choices, with_logprobs = random.randint(1, 8), random.random() < 0.5
    asked = request(n=num_choices, stream=True, stream_options={"include_usage": True}, logprobs=with_logprobs)
    pieces = some_pieces(random, num_choices, with_logprobs)
    chunks, completion = chunked(asked, pieces), on_the_wire(ChatRenderer(asked).completion(pieces))
    assert joined(chunks, num_choices) == whole(completion)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    ChatCompletion.model_validate(completion, strict=True)
