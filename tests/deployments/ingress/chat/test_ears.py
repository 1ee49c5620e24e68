"""CHT-35 over the API: a chat model that reads what a transcription model of the graph has heard."""

import asyncio
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.settings import LimitsConfig
from pipelines.audio_types import AudioChunk
from pipelines.chat_types import TextPart
from pipelines.errors import (
    AudioServerError,
    AudioTooLong,
    ContextLengthExceeded,
    ModelUnavailable,
    Overloaded,
    UndecodableAudio,
)
from pipelines.transcript_types import ChunkTranscript, DecodingOptions
from tests.support.api import CHAT_MODEL, MODEL, api_client
from tests.support.fake_chat_model import FakeChatModel, failing
from tests.support.fakes import FakeReader, FakeRecognizer
from tests.support.sse import events_of

SPEECH = {"type": "input_audio", "input_audio": {"data": b64encode(b"audio").decode(), "format": "wav"}}
QUESTION = {"type": "text", "text": "What is said?"}
SPOKEN = [{"role": "user", "content": [SPEECH, QUESTION]}]


class Reader(FakeReader):
    async def read_recording(self, *args: Any) -> Any:
        raise AssertionError("nobody needs the samples of what is only read")


def reading(**services: Any) -> httpx.AsyncClient:
    """A server whose chat model does not hear by itself."""
    chat_model = services.pop("chat_model", None) or FakeChatModel(hears_audio=False)
    return api_client(services.pop("reader", Reader()), chat_model=chat_model, hears=MODEL, **services)


async def chat(client: httpx.AsyncClient, messages: Any = SPOKEN, **fields: Any) -> httpx.Response:
    body = {"model": CHAT_MODEL, "messages": messages, **fields}
    async with client:
        return await client.post("/v1/chat/completions", json=body)


async def test_a_transcript_stands_where_its_audio_stood() -> None:
    model = FakeChatModel(hears_audio=False)
    first, second = {"role": "user", "content": [QUESTION, SPEECH]}, {"role": "user", "content": [SPEECH, QUESTION]}
    messages = [first, {"role": "assistant", "content": "Hm."}, second]
    response = await chat(reading(chat_model=model, reader=Reader(2)), messages)
    assert response.status_code == 200, response.text
    ((read, _, _),) = model.asked
    question, heard = read[0].parts
    assert question == TextPart("What is said?")
    assert isinstance(heard, TextPart)
    assert '"Hello. Hello."' in heard.text
    assert "2 seconds, English" in heard.text
    assert read[2].parts == (heard, question)


@pytest.mark.parametrize("num_audios", [0, 1, 3])
async def test_cht_30_usage_counts_25_tokens_a_second(num_audios: int) -> None:
    messages = [{"role": "user", "content": [*[SPEECH] * num_audios, QUESTION]}]
    usage = (await chat(reading(reader=Reader(2)), messages, n=2)).json()["usage"]
    num_audio_tokens = 2 + 50 * num_audios  # two are the fake's own
    assert usage["prompt_tokens_details"]["audio_tokens"] == num_audio_tokens
    assert usage["prompt_tokens"] == 5 + 50 * num_audios
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_an_audio_may_be_as_long_as_an_upload() -> None:
    """Ten times as long as what a model may have that hears by itself."""
    model = FakeChatModel(hears_audio=False)
    response = await chat(reading(chat_model=model, reader=Reader(6_000)))
    assert response.json()["usage"]["prompt_tokens_details"]["audio_tokens"] == 2 + 150_000
    assert "100 minutes" in str(model.asked)


async def test_seconds_that_were_heard_are_counted() -> None:
    client = reading(reader=Reader(7))
    async with client:
        await client.post("/v1/chat/completions", json={"model": CHAT_MODEL, "messages": SPOKEN})
        metrics = (await client.get("/metrics")).text
    counted = {
        sample.labels["model"]: sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "auricle_audio_seconds_total"
    }
    assert counted == {CHAT_MODEL: 7.0}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UndecodableAudio("It is no audio."), 400, "invalid_value"),
        (AudioTooLong("It is too long."), 400, "invalid_value"),
        (Overloaded("Busy."), 429, "rate_limit_exceeded"),
        (ModelUnavailable("Lost."), 503, "service_unavailable"),
        (AudioServerError("Known."), 500, "internal_error"),
    ],
    ids=repr,
)
async def test_what_is_wrong_is_told_as_of_an_upload(error: Exception, status: int, code: str, stream: bool) -> None:
    response = await chat(reading(reader=Reader(error=error)), stream=stream)
    told = response.json()["error"]
    assert (response.status_code, told["code"]) == (status, code)
    assert told["param"] == ("messages[0].content[0].input_audio.data" if status == 400 else None)


async def test_a_full_queue_is_a_429() -> None:
    assert (await chat(reading(recognizer=FakeRecognizer(refusals={0: [Overloaded("Busy.")]})))).status_code == 429


@pytest.mark.parametrize("num_audios", [0, 1])
async def test_an_answer_is_a_first_step_only_where_nothing_was_heard_before(num_audios: int) -> None:
    """A full queue would refuse it, and minutes of transcription would be lost."""
    model = FakeChatModel(hears_audio=False)
    messages = [{"role": "user", "content": [*[SPEECH] * num_audios, QUESTION]}]
    assert (await chat(reading(chat_model=model), messages, n=2)).status_code == 200
    assert model.first_steps == [num_audios == 0] * 2


async def test_audio_that_a_model_hears_by_itself_is_its_first_step() -> None:
    model = FakeChatModel()
    assert (await chat(api_client(chat_model=model))).status_code == 200
    assert model.first_steps == [True]


async def test_a_transcript_beyond_the_context() -> None:
    response = await chat(
        reading(chat_model=FakeChatModel(failing(0, ContextLengthExceeded("Too long.")), hears_audio=False))
    )
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_who_neither_hears_nor_reads_refuses_audio() -> None:
    response = await chat(api_client(chat_model=FakeChatModel(hears_audio=False)))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "unsupported_content_type")


async def test_streaming_begins_with_the_last_transcript() -> None:
    gate, model = asyncio.Event(), FakeChatModel(hears_audio=False)
    asked = asyncio.create_task(
        chat(reading(chat_model=model, recognizer=FakeRecognizer(lambda index: gate)), stream=True)
    )
    await asyncio.sleep(0.05)
    assert not model.asked
    gate.set()
    texts = [event["choices"][0]["delta"].get("content", "") for event in events_of((await asked).text)]
    assert "".join(texts) == "0 1 2 "


@dataclass
class CountingRecognizer(FakeRecognizer):
    num_now: int = 0
    most: int = 0

    async def transcribe(
        self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
    ) -> ChunkTranscript:
        self.num_now += 1
        self.most = max(self.most, self.num_now)
        try:
            await asyncio.sleep(0.01)
            return await super().transcribe(chunk, options, is_first_step)
        finally:
            self.num_now -= 1


@pytest.mark.parametrize("num_recordings", [1, 4])
@pytest.mark.parametrize("limit", [1, 3, 4])
async def test_recordings_of_a_request_share_its_chunks_in_flight(num_recordings: int, limit: int) -> None:
    recognizer = CountingRecognizer()
    client = reading(reader=Reader(12.0), recognizer=recognizer, limits=LimitsConfig(max_chunks_in_flight=limit))
    response = await chat(client, [{"role": "user", "content": [*[SPEECH] * num_recordings, QUESTION]}])
    assert response.status_code == 200, response.text
    assert recognizer.most == limit


async def test_settings_say_how_answers_are_written_where_a_request_does_not() -> None:
    model = FakeChatModel()
    client = api_client(chat_model=model, sampling={"temperature": 0.2, "top_p": 0.9})
    async with client:
        for fields in ({}, {"temperature": 1.5}):
            body = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Hi"}], **fields}
            await client.post("/v1/chat/completions", json=body)
    assert [(options.temperature, options.top_p) for _, options, _ in model.asked] == [(0.2, 0.9), (1.5, 0.9)]
