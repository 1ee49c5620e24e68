"""From a body to a request, or to one sentence that names the field (GEN-03, CHT-02 to CHT-05, CHT-20, CHT-34)."""

import asyncio
import json
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from starlette.requests import Request

from deployments.ingress.chat.options import to_options
from deployments.ingress.chat.rules import check_chat
from deployments.ingress.chat.schema import UNION_TAGS, ChatRequest, TextContent
from deployments.ingress.http.errors import error_response
from deployments.ingress.http.json_body import parse, read_json, to_param
from pipelines.chat_types import SamplingDefaults, SamplingOptions
from pipelines.errors import DeadlineExceeded, InvalidRequest

LEAST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def parsed(**fields: Any) -> ChatRequest:
    return parse({**LEAST, **fields}, ChatRequest, UNION_TAGS)


def said(content: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"}, {"role": role, "content": content}]}


def mistake(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    error_response(caught.value)  # whatever is repeated of the request must be fit to be sent
    assert len(caught.value.message) < 500
    return caught.value


def request_of(*pieces: bytes, stall_before: int | None = None) -> Request:
    messages = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
        for number, piece in enumerate(pieces)
    ]

    async def receive() -> Any:
        if stall_before is not None and len(messages) == len(pieces) - stall_before:
            await asyncio.Event().wait()
        return messages.pop(0)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


# The body


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
async def test_cht_34_an_object_is_read_whatever_it_claims_to_be(encoding: str) -> None:
    body = json.dumps({"text": "Grüße 😀"}, ensure_ascii=False).encode(encoding)
    assert await read_json(request_of(body[:7], body[7:]), 5) == {"text": "Grüße 😀"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"hello",
        b'{"model": "m"',
        b'{"model": "m"} {}',
        b"{'model': 'm'}",
        b'{"model": "m",}',
        b'{"text": "\xff\xfe"}',
        b'{"text": "a\nb"}',
        b"model=m&messages=x",
        b'{"max_tokens": ' + b"9" * 5000 + b"}",
        b'{"tools": ' + b"[" * 200_000,
        b'{"tools": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_cht_34_what_is_no_json(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await read_json(request_of(body), 5)
    assert caught.value.message == "The body is not valid JSON."


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (rb'{"a": "x\ud83d"}', {"a": "x?"}),
        (rb'{"a": "\uDE00y"}', {"a": "?y"}),
        (rb'{"a": "\ude00\ud83d"}', {"a": "??"}),
        (rb'{"a": "\ud83d\ude00 \uD83D"}', {"a": "😀 ?"}),
        (rb'{"\ud83d": [{"b": "\ud83d"}], "n": 1.5}', {"?": [{"b": "?"}], "n": 1.5}),
        ('{"a": "x\\ud83d"}'.encode("utf-16"), {"a": "x?"}),
    ],
)
async def test_half_of_an_emoji_is_replaced(body: bytes, read: dict[str, Any]) -> None:
    """As of a text that was cut off between its two halves: no tokenizer takes them, and no answer can repeat them."""
    assert await read_json(request_of(body), 5) == read


async def test_half_of_an_emoji_as_deep_as_can_be_read() -> None:
    for depth in range(900, 1000):
        with suppress(InvalidRequest):
            await read_json(request_of(b'{"tools": ' + b"[" * depth + rb'"\ud83d"' + b"]" * depth + b"}"), 5)


async def test_half_of_an_emoji_in_bytes_that_are_no_utf_8() -> None:
    with suppress(InvalidRequest):  # or replaced
        assert await read_json(request_of(b'{"a": "\xed\xa0\xbd"}'), 5) in ({"a": "?"}, {"a": "\ufffd" * 3})


@pytest.mark.parametrize("body", [b"[]", b'"model"', b"7", b"null", b"true", b'[{"model": "m"}]'])
async def test_cht_34_what_is_no_object(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await read_json(request_of(body), 5)
    assert caught.value.message == "The body must be a JSON object."


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        await read_json(request_of(b'{"model":', b'"m"}', stall_before=1), 0.05)
    assert "to arrive" in caught.value.message


async def test_a_body_is_not_kept_beside_what_is_read_of_it() -> None:
    """The request lives as long as its answer is written."""
    tracemalloc.start()
    try:
        request = request_of(b'{"data": "', *([b"A" * 100_000] * 20), b'"}')
        data = await read_json(request, 5)
        assert len(data.pop("data")) == 2_000_000
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert request.method == "POST"
    assert kept < 500_000


# Good requests


def test_the_least_that_can_be_asked() -> None:
    request = parsed()
    assert (request.model, request.n, request.stream, request.temperature) == ("m", 1, False, None)
    assert request.stop == []
    assert request.max_tokens is None


def test_cht_20_null_is_not_given() -> None:
    nulls = {name: None for name in ChatRequest.model_fields if name not in LEAST}
    assert len(nulls) > 20
    assert parsed(**nulls) == parsed()


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"stream": True, "stream_options": {"include_usage": None}}, {"stream": True, "stream_options": {}}),
        (
            said([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": None}}]),
            said([{"type": "input_audio", "input_audio": {"data": "AAAA"}}]),
        ),
    ],
)
def test_cht_20_null_is_not_given_inside_of_objects_too(fields: dict[str, Any], same: dict[str, Any]) -> None:
    assert parsed(**fields) == parsed(**same)


def test_cht_20_what_is_ignored() -> None:
    ignored = {
        "user": "me",
        "metadata": {"a": 1},
        "store": True,
        "service_tier": "auto",
        "parallel_tool_calls": True,
        "reasoning_effort": "low",
        "verbosity": 7,
        "safety_identifier": [],
        "prompt_cache_key": "x",
        "min_tokens": 5,
        "ignore_eos": True,
        "string": {},
        "": 0,
        "\ud800": "\ud800",
    }
    assert parsed(**ignored) == parsed()


@pytest.mark.parametrize(("stop", "stops"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ([], []), (["a"] * 4, ["a"] * 4)])
def test_cht_12_one_stop_or_several(stop: Any, stops: list[str]) -> None:
    assert parsed(stop=stop).stop == stops


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"temperature": 0.0009}, {"temperature": 0.0}),
        ({"temperature": 2}, {"temperature": 2.0}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_k": 40}, {"top_k": 40}),
        ({"stop": "x"}, {"stop": ("x",)}),
        ({"logit_bias": {"007": -100, "8": 1.5}}, {"logit_bias": {7: -100.0, 8: 1.5}}),
        ({"logprobs": True}, {"top_logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 20}, {"top_logprobs": 20}),
        ({"logprobs": False, "top_logprobs": 0}, {"top_logprobs": None}),
        ({"seed": -(2**63)}, {"seed": -(2**63)}),
    ],
    ids=str,
)
def test_cht_09_to_cht_21_options(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    options = to_options(parsed(**{"seed": 7, **fields}), SamplingDefaults())
    assert options == SamplingOptions(**{"seed": 7, **expected})


def test_cht_10_what_is_left_out_is_as_the_model_s_makers_want_it() -> None:
    theirs = SamplingDefaults(temperature=0.7, top_p=0.5, top_k=20, min_p=0.1, repetition_penalty=1.1)
    options = to_options(parsed(seed=7, top_p=None), theirs)
    assert options == SamplingOptions(seed=7, temperature=0.7, top_p=0.5, top_k=20, min_p=0.1, repetition_penalty=1.1)


def test_cht_10_what_is_asked_for_comes_before_the_model_s_own_defaults() -> None:
    theirs = SamplingDefaults(temperature=0.7, top_p=0.5, top_k=20, min_p=0.1, repetition_penalty=1.1)
    asked = {"temperature": 0, "top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1}
    assert to_options(parsed(seed=7, **asked), theirs) == SamplingOptions(seed=7, temperature=0.0)


def test_cht_13_without_a_seed_one_is_drawn() -> None:
    seeds = {to_options(parsed(), SamplingDefaults()).seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed < 2**62 for seed in seeds)


# One mistake, one field


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"model": "\ud800"}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [[]]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "User", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": 7, "content": "x"}]}, "messages[0].role"),
        (said(7), "messages[1].content"),
        (said({}), "messages[1].content"),
        (said(["hi"]), "messages[1].content[0]"),
        (said([None]), "messages[1].content[0]"),
        (said([{}]), "messages[1].content[0].type"),
        (said([{"type": None}]), "messages[1].content[0].type"),
        (said([{"type": 7}]), "messages[1].content[0].type"),
        (said([{"type": ["text"], "text": "x"}]), "messages[1].content[0].type"),
        (said([{"type": "string", "text": "x"}]), "messages[1].content[0].type"),
        (said([{"type": "Text", "text": "x"}]), "messages[1].content[0].type"),
        (said([{"type": "text", "text": "x"}, {"type": "image_url"}]), "messages[1].content[1].type"),
        (said([{"type": "video_url", "text": "x"}], "assistant"), "messages[1].content[0].type"),
        (said([{"type": "x" * 100_000}]), "messages[1].content[0].type"),
        (said([{"type": "\ud800"}]), "messages[1].content[0].type"),
        (said([{"type": "text", "text": 7}]), "messages[1].content[0].text"),
        (said([{"type": "text", "text": ["x"]}]), "messages[1].content[0].text"),
        (said([{"type": "input_audio", "input_audio": "AAAA"}]), "messages[1].content[0].input_audio"),
        (said([{"type": "input_audio", "input_audio": {"data": 7}}]), "messages[1].content[0].input_audio.data"),
        (
            said([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "midi"}}]),
            "messages[1].content[0].input_audio.format",
        ),
        (said([{"type": "audio_url", "audio_url": "http://x"}]), "messages[1].content[0].audio_url"),
        (said([{"type": "audio_url", "audio_url": {"url": 7}}]), "messages[1].content[0].audio_url.url"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 3.0}, "max_tokens"),
        ({"max_tokens": "3"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_completion_tokens": 10**400}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"n": 1.0}, "n"),
        ({"stop": 7}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": ["a", None]}, "stop[1]"),
        ({"stop": ["\ud800"]}, "stop[0]"),
        ({"seed": 2**63}, "seed"),
        ({"seed": "7"}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"logprobs": "yes"}, "logprobs"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": float("-inf")}, "frequency_penalty"),
        ({"logit_bias": []}, "logit_bias"),
        ({"logit_bias": {"7": 101}}, "logit_bias.7"),
        ({"logit_bias": {"7": "1"}}, "logit_bias.7"),
        ({"logit_bias": {"text": None}}, "logit_bias.text"),
        ({"logit_bias": {str(number): 0 for number in range(1025)}}, "logit_bias"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.1}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"response_format": "text"}, "response_format"),
        ({"modalities": "text"}, "modalities"),
        ({"modalities": ["text", 7]}, "modalities[1]"),
        ({"tools": {}}, "tools"),
        ({"functions": "f"}, "functions"),
    ],
    ids=lambda value: str(value)[:80].encode("ascii", "replace").decode(),
)
def test_cht_02_a_mistake_names_its_field(fields: dict[str, Any], param: str) -> None:
    error = mistake(**fields)
    assert (error.param, error.code) == (param, "invalid_value")
    assert error.message.startswith(f"Invalid value for '{param}': ")
    assert error.message.endswith(".")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        (lambda data: data.pop("model"), "model"),
        (lambda data: data.update(model=None), "model"),
        (lambda data: data.pop("messages"), "messages"),
        (lambda data: data.update(messages=None), "messages"),
        (lambda data: data["messages"][1].pop("role"), "messages[1].role"),
        (lambda data: data["messages"][1].pop("content"), "messages[1].content"),
        (lambda data: data["messages"][1].update(content=[{"type": "text"}]), "messages[1].content[0].text"),
        (
            lambda data: data["messages"][1].update(content=[{"type": "input_audio"}]),
            "messages[1].content[0].input_audio",
        ),
        (
            lambda data: data["messages"][1].update(content=[{"type": "input_audio", "input_audio": {}}]),
            "messages[1].content[0].input_audio.data",
        ),
        (
            lambda data: data["messages"][1].update(content=[{"type": "audio_url", "audio_url": {}}]),
            "messages[1].content[0].audio_url.url",
        ),
    ],
)
def test_cht_02_what_is_missing_is_named(change: Callable[[dict[str, Any]], Any], param: str) -> None:
    data = json.loads(json.dumps({**LEAST, **said("hi")}))
    change(data)
    with pytest.raises(InvalidRequest) as caught:
        parse(data, ChatRequest, UNION_TAGS)
    assert (caught.value.param, caught.value.code) == (param, "missing_required_parameter")
    assert caught.value.message == f"The parameter '{param}' is required."


@pytest.mark.parametrize("role", ["user", "system", "developer"])
def test_only_an_assistant_may_have_said_nothing(role: str) -> None:
    assert mistake(**said(None, role)).param == "messages[1].content"
    assert parsed(**said(None, "assistant")).messages[1].content == ""


def test_a_stop_that_is_no_list_is_named_as_it_was_sent() -> None:
    assert mistake(stop="").param == "stop"


@pytest.mark.parametrize("key", ["\ud800", "x" * 100_000])
def test_no_key_of_the_request_spoils_the_answer(key: str) -> None:
    assert (mistake(logit_bias={key: 1000}).param or "").startswith("logit_bias")


@pytest.mark.parametrize(
    ("loc", "param"),
    [
        ((), ""),
        (("model",), "model"),
        (("messages", 0, "content", "parts", 1, "input_audio", "input_audio", "data"), None),
        (("messages", 12, "content", "string"), "messages[12].content"),
        (("a", "b", 0, 1, "c"), "a.b[0][1].c"),
        (("text", "text"), "text.text"),
        (("logit_bias", "parts"), "logit_bias.parts"),
    ],
)
def test_to_param(loc: Sequence[int | str], param: str | None) -> None:
    assert to_param(loc, UNION_TAGS) == (param if param is not None else "messages[0].content[1].input_audio.data")


@pytest.mark.parametrize(
    "messages",
    [[1] * 20_000, [{"role": "user", "content": [1] * 20_000}], [{"role": "user", "content": 1}] * 20_000],
    ids=["messages", "parts", "contents"],
)
def test_a_body_full_of_mistakes_costs_no_more_than_one(messages: list[Any]) -> None:
    """Of a body of 40 MB, a record of every mistake would take tens of gigabytes."""
    tracemalloc.start()
    try:
        mistake(messages=messages)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


# Anything whatsoever

DIGITS = "9" * 5000
KEYS = [*ChatRequest.model_fields, "user", "string", "type", "\ud800", ""]
TEXTS = ["", "m", "hi", "user", "text", "input_audio", "auto", "none", "\x00", "😀", "\ud83d", "x" * 1000, DIGITS, "7"]
NUMBERS = [0, 1, -1, 0.5, 2, 20, 1e308, -1e308, 2**63, 10**400, float("nan"), float("inf"), True, False]


def anything(random: Random, depth: int = 3) -> Any:
    kind = random.random()
    if depth and kind < 0.25:
        return [anything(random, depth - 1) for _ in range(random.randint(0, 3))]
    if depth and kind < 0.5:
        return {some_key(random): anything(random, depth - 1) for _ in range(random.randint(0, 4))}
    return random.choice([*TEXTS, *NUMBERS, None])


def some_key(random: Random) -> str:
    digits = "0" * random.randint(0, 13) + random.choice(["7", "1234567890123", DIGITS])
    return random.choice(["role", "content", "data", "url", "include_usage", "format", digits, *KEYS, *TEXTS])


def some_bias(random: Random) -> dict[str, float]:
    """Of which only the keys may be wrong."""
    return {some_key(random): random.choice([0, 1, -100.0, 0.5]) for _ in range(random.randint(0, 2))}


def some_part(random: Random) -> Any:
    kind = random.choice(["text", "text", "input_audio", "audio_url"])
    said = random.choice(TEXTS)
    part = {"type": kind, "text": said, "input_audio": {"data": "AAAA"}, "audio_url": {"url": "http://x"}}
    return spoilt(part, random)


def some_message(random: Random) -> Any:
    parts = [some_part(random) for _ in range(random.randint(0, 3))]
    role = random.choice(["user", "user", "system", "assistant", "developer"])
    return spoilt({"role": role, "content": random.choice([random.choice(TEXTS), parts])}, random)


def spoilt(data: dict[str, Any], random: Random) -> Any:
    """Sometimes a value is missing or something else, and sometimes all of it is."""
    kind = random.random()
    if kind < 0.03:
        return anything(random)
    if kind < 0.1:
        data[random.choice(list(data))] = anything(random, 2)
    elif kind < 0.13:
        del data[random.choice(list(data))]
    return data


def some_body(random: Random) -> Any:
    body: dict[str, Any] = {"model": "m", "messages": [some_message(random) for _ in range(random.randint(1, 3))]}
    if random.random() < 0.3:
        body["logit_bias"] = some_bias(random)
    for _ in range(random.choice([0, 0, 0, 1, 1, 2, 5])):
        body[random.choice(KEYS)] = anything(random, 2)
    return spoilt(body, random)


async def outcome(body: bytes) -> ChatRequest | InvalidRequest:
    """What the route makes of a body before it knows of any model."""
    try:
        request = parse(await read_json(request_of(body), 5), ChatRequest, UNION_TAGS)
        check_chat(request)
    except InvalidRequest as error:
        return error
    return request


def texts_of(request: ChatRequest) -> list[str]:
    contents = [message.content for message in request.messages]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return [
        *(content for content in contents if isinstance(content, str)),
        *(part.text for part in parts if isinstance(part, TextContent)),
    ]


@pytest.mark.parametrize("seed", range(20))
async def test_gen_03_whatever_is_sent_is_a_request_or_one_clear_sentence(seed: int) -> None:
    random, num_requests, num_mistakes = Random(seed), 0, 0
    for _ in range(250):
        body = json.dumps(some_body(random), ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
        result = await outcome(body)
        if isinstance(result, InvalidRequest):
            num_mistakes += 1
            assert error_response(result).status_code == 400
            assert result.message.endswith(".")
            assert result.param != ""
        else:
            num_requests += 1
            assert isinstance(to_options(result, SamplingDefaults()), SamplingOptions)
            "".join(texts_of(result)).encode()  # else no tokenizer would take it
    assert min(num_requests, num_mistakes) > 25  # else it means little


async def test_values_without_end_are_refused_before_they_are_made() -> None:
    with pytest.raises(InvalidRequest, match="too many values"):
        await read_json(request_of(b'{"x": [' + b"{}," * 1_100_000 + b"1]}"), 5)
    text = "One, two. " * 100_000
    assert await read_json(request_of(json.dumps({"text": text}).encode()), 5) == {"text": text}
