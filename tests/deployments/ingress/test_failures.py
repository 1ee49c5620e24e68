"""Failures behind the API, before the status line and after it: the table of section 1, TRS-05 and CHT-33."""

import asyncio
import json
from base64 import b64encode
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from ray.serve.exceptions import BackPressureError

from deployments.remote.recognizer import RemoteRecognizer
from deployments.settings import LimitsConfig
from pipelines.errors import AudioServerError, InvalidRequest, ModelUnavailable, Overloaded, UndecodableAudio
from pipelines.ports import Recognizer
from pipelines.transcript_types import ChunkTranscript, RecognizerInfo, Segment, Work
from tests.support.api import CHAT_MODEL, MODEL, api, api_client
from tests.support.fake_chat_model import FakeChatModel, failing, waiting
from tests.support.fakes import FakeReader, FakeRecognizer
from tests.support.handles import FakeHandle, FakeMethod
from tests.support.sse import events_of

FAILURES = [
    (Overloaded("The server is busy.", 2.5), 429, "rate_limit_error", "rate_limit_exceeded", "3"),
    (ModelUnavailable("The model is loading.", 0.1), 503, "server_error", "service_unavailable", "1"),
    (UndecodableAudio("Not audio."), 400, "invalid_request_error", "invalid_value", None),
    (AudioServerError("Something known."), 500, "server_error", "internal_error", None),
    (RuntimeError("a secret path"), 500, "server_error", "internal_error", None),
]


async def transcribe(reader: FakeReader, recognizer: Recognizer, **fields: str) -> Any:
    async with api_client(reader, recognizer) as client:
        return await client.post("/v1/audio/transcriptions", files={"file": b"audio"}, data={"model": MODEL, **fields})


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize(("error", "status", "kind", "code", "retry_after"), FAILURES, ids=str)
async def test_a_failure_at_the_first_chunk_has_its_status(
    error: Exception, status: int, kind: str, code: str, retry_after: str | None, stream: str
) -> None:
    response = await transcribe(FakeReader(), FakeRecognizer(refusals={0: [error]}), stream=stream)
    assert response.status_code == status
    body = response.json()["error"]
    assert body.keys() == {"message", "type", "param", "code"}
    assert (body["type"], body["code"]) == (kind, code)
    assert "secret" not in response.text
    assert response.headers.get("retry-after") == retry_after
    assert response.headers.get("x-should-retry") == ("false" if status == 500 else None)


@pytest.mark.parametrize(
    ("error", "kind", "code"), [(error, kind, code) for error, _, kind, code, _ in FAILURES[1:]], ids=str
)
async def test_trs_05_a_failure_after_the_200_is_an_event(error: Exception, kind: str, code: str) -> None:
    response = await transcribe(FakeReader(3), FakeRecognizer(refusals={1: [error]}), stream="true", language="en")
    assert response.status_code == 200
    *deltas, failure = events_of(response.text)
    assert [event["type"] for event in deltas] == ["transcript.text.delta"]
    assert failure.keys() == {"error"}
    assert failure["error"].keys() == {"message", "type", "param", "code"}
    assert (failure["error"]["type"], failure["error"]["code"]) == (kind, code)
    assert "secret" not in response.text


async def test_a_full_queue_only_delays_what_has_begun() -> None:
    """A retry after the first chunk, when the answer can no longer be a 429."""

    segment = Segment(0.0, 1.0, " Hello.", (), 0.0, -0.1, 1.0, 0.0)
    answers = [(ChunkTranscript(index, "en", (segment,)), Work(0.0, 1.0, 1.0)) for index in range(3)]
    full = BackPressureError(num_queued_requests=9, max_queued_requests=9)
    method = FakeMethod([answers[0], full, *answers[1:]])
    recognizer = RemoteRecognizer(FakeHandle(transcribe=method), lambda work: None)  # type: ignore[arg-type]
    response = await transcribe(FakeReader(3), recognizer)
    assert response.json()["text"] == "Hello. Hello. Hello."
    assert len(method.asked) == 4


async def test_finish_reason_and_texts_of_the_fakes() -> None:
    response = await transcribe(FakeReader(2), FakeRecognizer(), response_format="verbose_json")
    assert response.json()["text"] == "Hello. Hello."
    assert [segment["start"] for segment in response.json()["segments"]] == [0.0, 1.0]


# Chat

HELLO = [{"role": "user", "content": "Hello"}]
SPOKEN = [
    {
        "role": "user",
        "content": [{"type": "input_audio", "input_audio": {"data": b64encode(b"audio").decode(), "format": "wav"}}],
    }
]


async def chat(model: FakeChatModel, limits: LimitsConfig | None = None, **fields: Any) -> httpx.Response:
    async with api_client(chat_model=model, limits=limits) as client:
        return await client.post("/v1/chat/completions", json={"model": CHAT_MODEL, "messages": HELLO, **fields})


def chunks_of(response: httpx.Response) -> list[Any]:
    assert response.status_code == 200, response.text
    return events_of(response.text)


async def numbers_of(client: httpx.AsyncClient) -> dict[str, float]:
    """What /metrics tells of the chat model, by name and by the first of its other labels."""
    text = (await client.get("/metrics")).text
    return {
        f"{sample.name} {sample.labels.get('kind', sample.labels.get('task', ''))}".strip(): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if CHAT_MODEL in (sample.labels.get("model"), sample.labels.get("model_name"))
    }


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("error", "status", "kind", "code", "retry_after"), FAILURES, ids=str)
async def test_a_chat_that_fails_at_its_first_token_has_its_status(
    error: Exception, status: int, kind: str, code: str, retry_after: str | None, stream: bool
) -> None:
    response = await chat(FakeChatModel(failing(0, error)), stream=stream)
    assert response.status_code == status
    body = response.json()["error"]
    assert body.keys() == {"message", "type", "param", "code"}
    assert (body["type"], body["code"]) == (kind, code)
    assert "secret" not in response.text
    assert response.headers.get("retry-after") == retry_after


@pytest.mark.parametrize(("error", "status", "kind", "code", "retry_after"), FAILURES, ids=str)
async def test_cht_33_a_chat_that_fails_after_its_200_ends_with_an_event(
    error: Exception, status: int, kind: str, code: str, retry_after: str | None
) -> None:
    model = FakeChatModel(failing(2, error))
    *chunks, failure = chunks_of(await chat(model, stream=True))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "0 1 "
    assert not any(chunk["choices"][0]["finish_reason"] for chunk in chunks)
    assert failure.keys() == {"error"}
    assert (failure["error"]["type"], failure["error"]["code"]) == (kind, code)
    assert "secret" not in json.dumps(failure)
    assert (await chat(model)).status_code == status
    assert not model.writing


async def test_cht_11_one_answer_that_fails_ends_the_others() -> None:
    class OneFails(FakeChatModel):
        async def generate(self, messages: Any, options: Any, in_pieces: bool, is_first_step: bool = True) -> Any:
            if options.seed == 9:
                raise InvalidRequest("No.", "messages", "refused")
            async for delta in super().generate(messages, options, in_pieces):
                yield delta

    model = OneFails(gate=waiting(1, asyncio.Event()))
    response = await chat(model, n=3, seed=7)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "refused")
    assert not model.writing


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_that_takes_longer_than_a_request_may(stream: bool) -> None:
    model = FakeChatModel(gate=waiting(1, asyncio.Event()))
    async with api_client(chat_model=model, limits=LimitsConfig(max_request_s=1)) as client:
        body = {"model": CHAT_MODEL, "messages": HELLO, "stream": stream}
        response = await asyncio.wait_for(client.post("/v1/chat/completions", json=body), 10)
        assert (await numbers_of(client))["vllm:num_requests_running"] == 0
    if stream:
        *chunks, failure = chunks_of(response)
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "0 "
        assert failure["error"]["code"] == "deadline_exceeded"
    else:
        assert (response.status_code, response.json()["error"]["code"]) == (503, "deadline_exceeded")
        assert response.headers["retry-after"] == "60"
    assert not model.writing


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_does_not_even_tell_what_it_is_keeps_nobody_for_longer(stream: bool) -> None:
    """As when no replica of it starts; with audio, its abilities are asked for first."""
    body = {"model": CHAT_MODEL, "messages": SPOKEN, "stream": stream}
    async with api_client(chat_model=FakeChatModel(loading_s=60), limits=LimitsConfig(max_request_s=0.2)) as client:
        response = await asyncio.wait_for(client.post("/v1/chat/completions", json=body), 3)
    code = chunks_of(response)[-1]["error"]["code"] if response.status_code == 200 else response.json()["error"]["code"]
    assert code == "deadline_exceeded"


async def post_and_leave(app: FastAPI, num_messages: int, **fields: Any) -> None:
    """The connection breaks when so many messages of the answer were sent."""
    body = json.dumps({"model": CHAT_MODEL, "messages": HELLO, **fields}).encode()
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [], "query_string": b""}
    asked = [{"type": "http.request", "body": body}]
    num_sent = 0

    async def receive() -> Any:
        if not asked:
            await asyncio.Event().wait()
        return asked.pop()

    async def send(message: Any) -> None:
        nonlocal num_sent
        if num_sent >= num_messages:
            raise OSError("the client has left")
        num_sent += 1

    await app({**scope, "asgi": {"version": "3.0", "spec_version": "2.4"}}, receive, send)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_messages", [0, 1, 2])
async def test_a_client_that_leaves_its_chat_gives_its_place_back(num_messages: int) -> None:
    """Also just before the head; the server has one place."""
    gate = asyncio.Event()
    model = FakeChatModel(gate=waiting(2, gate))
    app = api(chat_model=model, limits=LimitsConfig(max_concurrent_requests=1))
    await asyncio.wait_for(post_and_leave(app, num_messages, stream=True), 10)
    await asyncio.sleep(0.01)
    assert not model.writing
    gate.set()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://auricle") as client:
        response = await client.post("/v1/chat/completions", json={"model": CHAT_MODEL, "messages": HELLO})
        assert response.status_code == 200
        assert (await numbers_of(client))["vllm:num_requests_running"] == 0


async def test_a_stream_holds_its_place_to_its_end() -> None:
    gate = asyncio.Event()
    model = FakeChatModel(gate=waiting(1, gate))
    async with api_client(chat_model=model, limits=LimitsConfig(max_concurrent_requests=1)) as client:
        body = {"model": CHAT_MODEL, "messages": HELLO}
        first = asyncio.create_task(client.post("/v1/chat/completions", json={**body, "stream": True}))
        while not model.writing:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)  # now its 200 has been sent
        refused = await client.post("/v1/chat/completions", json=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert (await numbers_of(client))["vllm:num_requests_running"] == 1
        gate.set()
        assert len(chunks_of(await first)) == 5
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200


async def test_the_work_of_chats_is_counted() -> None:
    async with api_client(reader=FakeReader(7)) as client:
        body = {"model": "an-alias", "messages": SPOKEN, "n": 2}
        answer = (await client.post("/v1/chat/completions", json=body)).json()
        counted = await numbers_of(client)
    assert answer["model"] == "an-alias"
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["0 1 2 ", "0 1 2 "]
    assert counted["auricle_tokens_total completion"] == 6
    assert counted["auricle_tokens_total prompt"] == answer["usage"]["prompt_tokens"]  # once for both
    assert counted["auricle_audio_seconds_total chat"] == 7.0
    assert counted["vllm:num_requests_running"] == 0
    assert counted["vllm:num_requests_waiting"] == 0


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_only_a_streamed_chat_has_a_first_text(is_streamed: bool) -> None:
    """The first that comes of another is all of it."""
    async with api_client() as client:
        body = {"model": "an-alias", "messages": HELLO, "stream": is_streamed}
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
        counted = await numbers_of(client)
    assert counted.get("auricle_time_to_first_delta_seconds_count", 0) == is_streamed


async def test_cht_01_models_of_other_tasks_and_of_none() -> None:
    async with api_client() as client:
        for model, status, code in ((MODEL, 400, "invalid_value"), ("none", 404, "model_not_found")):
            response = await client.post("/v1/chat/completions", json={"model": model, "messages": HELLO})
            error = response.json()["error"]
            assert (response.status_code, error["param"], error["code"]) == (status, "model", code)
        files, data = {"file": b"audio"}, {"model": CHAT_MODEL}
        response = await client.post("/v1/audio/transcriptions", files=files, data=data)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "model")


async def test_gen_02_chat_needs_a_key_where_keys_are_configured() -> None:
    body = {"model": CHAT_MODEL, "messages": HELLO}
    async with api_client(api_keys=frozenset({"sk-key"})) as client:
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 401
        headers = {"Authorization": "Bearer sk-key"}
        assert (await client.post("/v1/chat/completions", json=body, headers=headers)).status_code == 200


@pytest.mark.parametrize("stream", ["false", "true"])
async def test_trl_03_what_the_checkpoint_cannot_do_is_refused_as_what_the_configuration_excludes(stream: str) -> None:
    class Turbo(FakeRecognizer):
        async def info(self) -> RecognizerInfo:
            return RecognizerInfo(frozenset({"en"}))

    async with api_client(recognizer=Turbo()) as client:
        response = await client.post(
            "/v1/audio/translations", data={"model": MODEL, "stream": stream}, files={"file": b"audio"}
        )
    told = response.json()["error"]
    assert (response.status_code, told["param"]) == (400, "model")
    assert told["message"] == f"The model '{MODEL}' does not translate."


async def test_more_text_than_any_context_has_is_not_even_sent_to_the_model() -> None:
    model = FakeChatModel()
    async with api_client(chat_model=model) as client:
        messages = [{"role": "user", "content": " " * 2_000_000}]
        answer = await client.post("/v1/chat/completions", json={"model": CHAT_MODEL, "messages": messages})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert not model.asked


async def test_errors_do_not_repeat_megabytes() -> None:
    async with api_client() as client:
        for fields in ({"model": "m" * 1_000_000}, {"model": MODEL, "language": "l" * 1_000_000}):
            answer = await client.post("/v1/audio/transcriptions", files={"file": b"audio"}, data=fields)
            assert answer.status_code in (400, 404)
            assert len(answer.json()["error"]["message"]) < 1_100


async def test_dia_04_references_may_come_in_one_field() -> None:
    """Four of 10 s of uncompressed stereo, as a JSON array."""
    reference = f"data:audio/wav;base64,{'A' * 2_560_000}"
    fields = {"model": MODEL, "known_speaker_references": json.dumps([reference] * 4)}
    async with api_client() as client:
        answer = await client.post("/v1/audio/transcriptions", files={"file": b"audio"}, data=fields)
    assert answer.status_code == 400  # this model knows no speakers
    assert answer.json()["error"]["param"] == "known_speaker_references"
