"""CHT-31 to CHT-33: an answer in chunks, as OpenAI's SDK reads it and as those read it who only know lines."""

import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from pipelines.errors import ModelUnavailable
from tests.conformance.chat import (
    ABOUT_ITSELF,
    MODEL,
    PATH,
    TRANSCRIBE,
    ChunkStream,
    body,
    chat,
    chunks,
    completion,
    input_audio,
    never_ending,
    reply,
    text_of_bytes,
    texts,
    user,
)
from tests.conformance.metrics import RUNNING, total
from tests.conformance.wire import Api, assert_refused
from tests.conftest import Clip, Server
from tests.support.api import CHAT_MODEL, api_client
from tests.support.fake_chat_model import FakeChatModel, failing

QUESTION = user(ABOUT_ITSELF)
SDK_QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": ABOUT_ITSELF}]

LIMIT = 60
"""More tokens than the scripted model writes; the real one would go on."""

CHUNK_KEYS = {"id", "object", "created", "model", "choices"}
CHOICE_KEYS = {"index", "delta", "finish_reason", "logprobs"}


@pytest.fixture(scope="module")
def stream(api: Api) -> ChunkStream:
    return chunks(api, QUESTION, max_tokens=LIMIT)


@pytest.fixture(scope="module")
def text(api: Api) -> str:
    """The same, not streamed."""
    return reply(api, QUESTION, max_tokens=LIMIT)


# CHT-31 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
def test_cht_31_head_of_the_answer(api: Api) -> None:
    """GEN-07, GEN-08: what the client accepts makes no difference, and nothing is compressed."""
    headers = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate, br, zstd"}
    response = api.client.post(PATH, json=body(max_tokens=2, stream=True), headers=headers)
    assert response.headers["content-type"].split(";")[0] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert "content-encoding" not in response.headers


def test_cht_31_wire_is_only_data_lines_and_blank_ones(stream: ChunkStream) -> None:
    assert all(line.startswith(b"data: ") for line in stream.data_lines)
    assert all(stream.body.count(line + b"\n\n") >= 1 for line in stream.data_lines)
    assert stream.data_lines.count(b"data: [DONE]") == 1
    assert stream.body.endswith(b"data: [DONE]\n\n")


def test_cht_31_every_line_is_json(stream: ChunkStream) -> None:
    """As vLLM's raw reader takes it: `choices[0]` of every line, up to [DONE]."""
    *lines, end = stream.data_lines
    assert end == b"data: [DONE]"
    contents = [json.loads(line[6:])["choices"][0].get("delta", {}).get("content", "") for line in lines]
    assert "".join(contents) == stream.text()


def test_cht_31_text_outside_ascii_is_escaped(api: Api, clips: list[Clip]) -> None:
    """Some readers break lines at more than "\\n"."""
    clip = next(clip for clip in clips if not clip.text.isascii())
    question = user(input_audio(clip.data), TRANSCRIBE)
    whole, streamed = reply(api, question), chunks(api, question)
    assert streamed.body.isascii()
    assert not whole.isascii()
    assert streamed.text() == whole


@pytest.mark.also_real
def test_cht_31_chunks(stream: ChunkStream) -> None:
    assert len({event["id"] for event in stream.events}) == 1
    assert len({event["created"] for event in stream.events}) == 1
    for event in stream.events:
        assert event.keys() == CHUNK_KEYS
        assert event["id"].startswith("chatcmpl-")
        assert event["object"] == "chat.completion.chunk"
        assert event["model"] == MODEL
        (choice,) = event["choices"]
        assert choice.keys() == CHOICE_KEYS
        assert (choice["index"], choice["logprobs"]) == (0, None)


def test_cht_31_a_role_then_text_then_the_reason(stream: ChunkStream, text: str) -> None:
    first, *middle, last = stream.choices()
    assert (first["delta"], first["finish_reason"]) == ({"role": "assistant", "content": ""}, None)
    assert len(middle) > 5
    for choice in middle:
        assert choice["delta"].keys() == {"content"}
        assert choice["delta"]["content"]
        assert choice["finish_reason"] is None
    assert last["finish_reason"] == "stop"
    assert "role" not in last["delta"]
    assert stream.text() == text


@pytest.mark.also_real
@pytest.mark.parametrize(
    "parameters",
    [
        {"max_tokens": 1},
        {"max_tokens": 7},
        {"temperature": 1.5, "seed": 5, "max_tokens": 30},
        {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "seed": -1, "max_tokens": 30},
        {"repetition_penalty": 1.3, "max_tokens": 30},
        {"frequency_penalty": 1, "presence_penalty": 1, "max_tokens": 30},
        {"max_tokens": 30, "logit_bias": {"300": 100}},
        {"max_tokens": 40, **never_ending()},
    ],
    ids=str,
)
def test_cht_31_streamed_is_whole(api: Api, parameters: dict[str, Any]) -> None:
    whole, streamed = completion(api, QUESTION, **parameters), chunks(api, QUESTION, **parameters)
    assert [streamed.text()] == texts(whole)
    assert streamed.finish_reason() == whole["choices"][0]["finish_reason"]


@pytest.mark.parametrize("number", [0, 5, 20, 25, 28, 33, 36, 41])
def test_cht_31_streamed_is_whole_about_audio(api: Api, clips: list[Clip], number: int) -> None:
    question = user(input_audio(clips[number].data), TRANSCRIBE)
    assert chunks(api, question).text() == reply(api, question)


@pytest.mark.also_real
@pytest.mark.parametrize("n", [2, 3, 8])
def test_cht_31_several_answers_at_once(api: Api, n: int) -> None:
    parameters = {"n": n, "temperature": 1.5, "seed": 11, "max_tokens": 12}
    whole, streamed = completion(api, QUESTION, **parameters), chunks(api, QUESTION, **parameters)
    for index, expected in enumerate(texts(whole)):
        first, *_, last = streamed.choices(index)
        assert first["delta"] == {"role": "assistant", "content": ""}
        assert last["finish_reason"] == whole["choices"][index]["finish_reason"]
        assert streamed.finish_reason(index) == last["finish_reason"]
        assert streamed.text(index) == expected
    assert {choice["index"] for event in streamed.events for choice in event["choices"]} == set(range(n))


@pytest.mark.parametrize("length", [1, 3, 9, 30])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6])
def test_cht_12_stop_texts_across_chunks(api: Api, text: str, place: float, length: int) -> None:
    """Not a character of the stop text is ever shown, though it comes in several chunks."""
    start = int(place * len(text))
    stop = text[start : start + length]
    streamed = chunks(api, QUESTION, stop=["☃", stop])
    assert streamed.text() == text[: text.index(stop)]
    assert streamed.finish_reason() == "stop"


def test_cht_12_what_only_looks_like_a_stop_text_comes_later(api: Api, text: str) -> None:
    plain, held = chunks(api, QUESTION), chunks(api, QUESTION, stop=text[10:30] + "☃")
    assert held.text() == plain.text() == text
    assert len(held.contents()) < len(plain.contents())


def test_cht_14_logprobs(api: Api) -> None:
    parameters = {"logprobs": True, "top_logprobs": 3}
    whole, streamed = completion(api, QUESTION, **parameters), chunks(api, QUESTION, **parameters)
    expected = whole["choices"][0]["logprobs"]["content"]
    tokens = streamed.logprobs()
    assert [token["token"] for token in tokens] == [token["token"] for token in expected]
    assert [token["logprob"] for token in tokens] == pytest.approx([token["logprob"] for token in expected], abs=1e-3)
    assert text_of_bytes(tokens) == streamed.text()
    assert all(len(token["top_logprobs"]) == 3 for token in tokens)


@pytest.mark.also_real
def test_cht_14_logprobs_come_with_their_text(api: Api) -> None:
    for choice in chunks(api, QUESTION, logprobs=True, max_tokens=12).choices():
        content, logprobs = choice["delta"].get("content", ""), choice["logprobs"]
        assert text_of_bytes(logprobs["content"] if logprobs else []) == content


@pytest.mark.real
def test_cht_31_the_first_chunk_comes_while_the_model_is_at_work(api: Api) -> None:
    request = body(QUESTION, stream=True, max_tokens=40, **never_ending())
    with api.client.stream("POST", PATH, json=request) as response:
        lines = (line for line in response.iter_lines() if '"content":' in line)
        for _ in range(3):
            next(lines)
        assert total(api, RUNNING, model_name=MODEL) == 1
        assert len(list(lines)) > 20


def test_cht_31_the_sdk_reads_chunks(server: Server, text: str) -> None:
    received = list(
        server.client.chat.completions.create(
            model=MODEL, messages=SDK_QUESTION, temperature=0, stream=True, max_tokens=LIMIT
        )
    )
    assert all(isinstance(chunk, ChatCompletionChunk) for chunk in received)
    assert received[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in received) == text
    assert [chunk.choices[0].finish_reason is None for chunk in received] == [True] * (len(received) - 1) + [False]


async def test_cht_31_the_async_sdk_reads_chunks(server: Server, text: str) -> None:
    client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0)
    stream = await client.chat.completions.create(model=MODEL, messages=SDK_QUESTION, temperature=0, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == text


def test_cht_31_the_sdk_puts_a_stream_together(server: Server, text: str) -> None:
    """Its own accumulating helper, which is strict about what a chunk may hold."""
    with server.client.chat.completions.stream(
        model=MODEL,
        messages=SDK_QUESTION,
        temperature=0,
        n=2,
        logprobs=True,
        top_logprobs=1,
        stream_options={"include_usage": True},
    ) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done", "logprobs.content.delta"} <= kinds
    assert [choice.message.content for choice in answer.choices] == [text, text]
    assert answer.usage is not None
    for choice in answer.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert "".join(token.token for token in choice.logprobs.content) == text
    assert sum(len(choice.logprobs.content or []) for choice in answer.choices if choice.logprobs) == (
        answer.usage.completion_tokens
    )


# CHT-32 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize("n", [1, 3])
def test_cht_32_usage_comes_last(api: Api, n: int) -> None:
    parameters = {"n": n, "max_tokens": 9, "temperature": 1.2, "seed": 3}
    streamed = chunks(api, QUESTION, stream_options={"include_usage": True}, **parameters)
    *others, last = streamed.events
    assert all(event.keys() == CHUNK_KEYS | {"usage"} for event in streamed.events)
    assert all(event["usage"] is None and event["choices"] for event in others)
    assert last["choices"] == []
    assert last["id"] == others[0]["id"]
    assert last["usage"] == completion(api, QUESTION, **parameters)["usage"]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_obfuscation": False}], ids=str)
def test_cht_32_none_unasked(api: Api, options: dict[str, Any] | None) -> None:
    """Readers of `choices[0]` never meet an empty list."""
    streamed = chunks(api, max_tokens=3, stream_options=options)
    assert all(event["choices"] and not event.get("usage") for event in streamed.events)


@pytest.mark.parametrize("stream", [False, None])
@pytest.mark.parametrize("options", [{"include_usage": True}, {"include_usage": False}, {}], ids=str)
def test_cht_32_options_need_a_stream(api: Api, stream: bool | None, options: dict[str, bool]) -> None:
    assert_refused(chat(api, stream=stream, stream_options=options), 400, "stream_options")


@pytest.mark.parametrize("options", ["usage", [], {"include_usage": "yes"}, {"include_usage": 1}], ids=str)
def test_cht_32_wrong_options(api: Api, options: Any) -> None:
    response = chat(api, stream=True, stream_options=options)
    assert_refused(response, 400, "stream_options", "stream_options.include_usage")


def test_cht_32_the_sdk_reads_usage(server: Server) -> None:
    *others, last = server.client.chat.completions.create(
        model=MODEL, messages=SDK_QUESTION, stream=True, max_tokens=4, stream_options={"include_usage": True}
    )
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens
    assert all(chunk.usage is None for chunk in others)


# CHT-33 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 3},
        {"model": "nobody"},
        {"messages": []},
        {"messages": [user({"type": "audio_url", "audio_url": {"url": "http://127.0.0.1:1/a.wav"}})]},
        {"messages": [user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})]},
        {"logit_bias": {"99999999": 1}},
    ],
    ids=str,
)
def test_cht_33_what_is_refused_is_refused_before_the_200(api: Api, parameters: dict[str, Any]) -> None:
    status = 404 if "model" in parameters else 400
    response = chat(api, **{"stream": True, **parameters})
    assert response.status_code == status, response.text
    assert_refused(response, status, response.json()["error"]["param"])


async def test_cht_33_the_sdk_raises_in_mid_stream() -> None:
    """In this process, because no healthy graph fails when it is asked to."""
    model = FakeChatModel(failing(1, ModelUnavailable("The replica was lost.")))
    async with api_client(chat_model=model) as http_client:
        client = AsyncOpenAI(base_url="http://auricle/v1", api_key="unused", max_retries=0, http_client=http_client)
        stream = await client.chat.completions.create(model=CHAT_MODEL, messages=SDK_QUESTION, stream=True)
        deltas = [(await anext(stream)).choices[0].delta for _ in range(2)]
        assert [delta.content for delta in deltas] == ["", "0 "]
        with pytest.raises(openai.APIError) as caught:
            await anext(stream)
    assert caught.value.code == "service_unavailable"
