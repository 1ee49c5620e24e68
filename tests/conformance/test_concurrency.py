"""CON: many at once, slow ones, and those that leave."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conformance.audio import encode, samples_of
from tests.conformance.chat import (
    MODEL,
    PATH,
    TRANSCRIBE,
    ChunkStream,
    Json,
    body,
    completion,
    input_audio,
    never_ending,
    reply,
    texts,
    user,
)
from tests.conformance.metrics import RUNNING, in_flight, total
from tests.conformance.scoring import word_error_rate
from tests.conformance.wire import TIMEOUT_S, Api
from tests.conftest import Clip, Server
from tests.scripted.engines import ENGLISH

NUM_CHAT_WAYS = 2
MAX_HEALTH_S = 1.0
"""In the median of so many answers."""
NUM_HEALTH_ANSWERS = 15

HEALTH_TIMEOUT_S = 5.0
"""What load balancers grant."""
SETTLED_WITHIN_S = 5.0

BOUNDARY = "a-boundary"

REQUESTS: list[dict[str, str]] = [
    {"model": "whisper-1"},
    {"model": "gpt-4o-transcribe", "stream": "true"},
    {"model": "whisper-1", "response_format": "verbose_json", "timestamp_granularities[]": "word"},
    {"model": "gpt-transcribe", "response_format": "text"},
    {"model": "openai/whisper-small", "response_format": "srt"},
    {"model": "whisper-1", "stream": "true", "language": "en"},
]


@pytest.fixture(scope="module")
def endless(clips: list[Clip]) -> bytes:
    """Four minutes of speech: far more work than `SETTLED_WITHIN_S` on the machines that run these tests."""
    english = np.concatenate([samples_of(clip) for clip in clips if clip.language == "en"])
    return encode(np.tile(english, 4), container="FLAC")


def understood(clips: list[Clip]) -> list[Clip]:
    """Sentences that Whisper base errs in by a word at most."""
    return [clip for clip in clips if clip.path.stem in {"en-01", "en-06", "en-08", "en-10", "en-13", "en-16"}]


def text_of(response: httpx.Response) -> str:
    if response.headers["content-type"].startswith("text/event-stream"):
        done = response.text.split("data: ")[-2]
        return str(json.loads(done)["text"])
    if response.headers["content-type"] == "application/json":
        return str(response.json()["text"])
    return " ".join(line for line in response.text.splitlines() if "-->" not in line and not line.isdigit())


def eventually(condition: Callable[[], bool], within_s: float = SETTLED_WITHIN_S) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return condition()


def connect(api: Api, upload: bytes, sent_share: float = 1.0, **fields: str) -> socket.socket:
    """Send a transcription request, or the first part of one, and read nothing."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {"model": "whisper-1", **fields}.items()
    ]
    file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n'
    body = "".join([*parts, file]).encode() + upload + f"\r\n--{BOUNDARY}--\r\n".encode()
    url = httpx.URL(api.url)
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    )
    connection = socket.create_connection((url.host, url.port or 80), timeout=TIMEOUT_S)
    connection.sendall(head.encode() + body[: int(len(body) * sent_share)])
    return connection


def ask_and_read_nothing(api: Api, **parameters: Any) -> socket.socket:
    """Send a chat request."""
    url, content = httpx.URL(api.url), json.dumps(body(**parameters)).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(content)}\r\n\r\n"
    connection = socket.create_connection((url.host, url.port or 80), timeout=TIMEOUT_S)
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.real
async def test_con_01_many_mixed_requests_do_not_mix(server: Server, clips: list[Clip]) -> None:
    """Each answer is nearer to its own sentence than to any other."""
    asked = list(zip(understood(clips), REQUESTS, strict=True))
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S) as client:
        responses = await asyncio.gather(
            *(client.post("/v1/audio/transcriptions", files={"file": clip.data}, data=fields) for clip, fields in asked)
        )
    assert [response.status_code for response in responses] == [200] * len(asked)
    for (clip, _), response in zip(asked, responses, strict=True):
        errors = {other.path.name: word_error_rate([other.text], [text_of(response)]) for other, _ in asked}
        assert min(errors, key=lambda name: errors[name]) == clip.path.name
        assert errors[clip.path.name] < 0.3


@pytest.mark.real
async def test_con_01_chats_transcripts_and_speakers_do_not_mix(server: Server, clips: list[Clip]) -> None:
    english = understood(clips)[:5]
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S) as client:
        alone = [await heard(client, clip, way) for way, clip in enumerate(english[:NUM_CHAT_WAYS])]
        said = await asyncio.gather(*(heard(client, clip, way) for way, clip in enumerate(english)))
    for own, text in zip(alone, said, strict=False):  # chats say it in their own words
        assert word_error_rate([own], [text]) < 0.3, (own, text)
    for clip, text in list(zip(english, said, strict=True))[NUM_CHAT_WAYS:]:
        errors = {other.path.name: word_error_rate([other.text], [text]) for other in english}
        assert min(errors, key=lambda name: errors[name]) == clip.path.name, text
        assert errors[clip.path.name] < 0.3


async def test_con_01_every_chat_tells_its_own_recording(server: Server, clips: list[Clip]) -> None:
    """More chats than chunks in flight, streamed and whole, over a model that repeats what it reads."""
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S) as client:
        said = await asyncio.gather(*(chatted(client, clip, number % 2 == 1) for number, clip in enumerate(clips)))
    assert said == [clip.text for clip in clips]


async def test_con_01_translations_and_transcriptions_do_not_mix(server: Server, clips: list[Clip]) -> None:
    """What is said of a recording in its own language and in English, both at once."""
    foreign = [clip for clip in clips if clip.text in ENGLISH]
    assert len(foreign) == len(ENGLISH)
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S) as client:
        responses = await asyncio.gather(
            *(
                client.post(f"/v1/audio/{endpoint}", files={"file": clip.data}, data={"model": "whisper-1"})
                for clip in foreign
                for endpoint in ("transcriptions", "translations")
            )
        )
    told = [response.json()["text"] for response in responses]
    assert told == [text for clip in foreign for text in (clip.text, ENGLISH[clip.text])]


async def chatted(client: httpx.AsyncClient, clip: Clip, stream: bool, **parameters: Any) -> str:
    request = body(user(input_audio(clip.data), TRANSCRIBE), stream=stream, **parameters)
    response = await client.post(PATH, json=request)
    assert response.status_code == 200, response.text
    return ChunkStream(response.content).text() if stream else texts(response.json())[0]


async def heard(client: httpx.AsyncClient, clip: Clip, way: int) -> str:
    """What a chat model or a transcription says of a clip."""
    if way < NUM_CHAT_WAYS:
        return await chatted(client, clip, stream=way == 1, max_tokens=16)
    fields = [
        {"model": "whisper-1"},
        {"model": "gpt-4o-transcribe", "stream": "true"},
        {"model": "gpt-4o-transcribe-diarize", "response_format": "diarized_json"},
    ][way - NUM_CHAT_WAYS]
    response = await client.post("/v1/audio/transcriptions", files={"file": clip.data}, data=fields)
    assert response.status_code == 200, response.text
    return text_of(response)


@pytest.mark.real
async def test_con_01_chats_of_one_batch_do_not_mix(server: Server) -> None:
    """Each with its own limit, stop text, bias and number of answers; more of them than fit into a batch."""
    wanted: list[tuple[Json, Callable[[Json], bool]]] = [
        ({"max_tokens": 2}, lambda answer: answer["usage"]["completion_tokens"] == 2),
        ({"max_tokens": 5}, lambda answer: answer["usage"]["completion_tokens"] == 5),
        ({"stop": "o"}, lambda answer: "o" not in answer["choices"][0]["message"]["content"]),
        ({"n": 3, "max_tokens": 4}, lambda answer: len(answer["choices"]) == 3),
        ({"max_tokens": 40, **never_ending()}, lambda answer: answer["usage"]["completion_tokens"] == 40),
        ({"logprobs": True}, lambda answer: answer["choices"][0]["logprobs"] is not None),
        ({}, lambda answer: answer["choices"][0]["finish_reason"] == "stop"),
    ]
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S) as client:
        responses = await asyncio.gather(
            *(client.post(PATH, json=body(user("Hello"), **parameters)) for parameters, _ in wanted * 2)
        )
    for (parameters, holds), response in zip(wanted * 2, responses, strict=True):
        assert response.status_code == 200, response.text
        assert holds(response.json()), (parameters, response.text)


@pytest.mark.real
async def test_con_01_options_do_not_mix(server: Server, clip: Clip) -> None:
    """Rows of one batch, each with its own language, task and limits."""
    wanted: list[tuple[str, dict[str, str], Callable[[dict[str, Any]], bool]]] = [
        ("transcriptions", {}, lambda answer: answer["language"] == "english"),
        ("transcriptions", {"language": "fr"}, lambda answer: answer["language"] == "french"),
        ("transcriptions", {"max_completion_tokens": "2"}, lambda answer: len(answer["text"]) < 12),
        ("translations", {}, lambda answer: "Lisbon" in answer["text"]),
        ("transcriptions", {}, lambda answer: "Lisbon." in answer["text"]),
        ("transcriptions", {"timestamp_granularities[]": "word"}, lambda answer: bool(answer["words"])),
        ("transcriptions", {"language": "de"}, lambda answer: answer["language"] == "german"),
        ("transcriptions", {"temperature": "0.4"}, lambda answer: answer["segments"][0]["temperature"] == 0.4),
    ]
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S) as client:
        responses = await asyncio.gather(
            *(
                client.post(
                    f"/v1/audio/{endpoint}",
                    files={"file": clip.data},
                    data={"model": "whisper-1", "response_format": "verbose_json", **fields},
                )
                for endpoint, fields, _ in wanted
            )
        )
    for (_, fields, holds), response in zip(wanted, responses, strict=True):
        assert holds(response.json()), (fields, response.text)


@pytest.mark.real
async def test_con_01_failures_do_not_spoil_the_others(server: Server, clips: list[Clip]) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S) as client:
        responses = await asyncio.gather(
            *(
                client.post(
                    "/v1/audio/transcriptions",
                    files={"file": clip.data if number % 2 else b"no audio"},
                    data={"model": "whisper-1"},
                )
                for number, clip in enumerate(clips[:12])
            )
        )
    assert [response.status_code for response in responses] == [400, 200] * 6


@pytest.mark.real
async def test_con_02_health_answers_under_load(server: Server, long_audio: bytes) -> None:
    answered_in_s: list[float] = []
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S) as client,
        httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S) as probe,
        asyncio.TaskGroup() as load,
    ):

        async def keep_busy() -> None:
            """Until health was asked for often enough, however quick the machine is."""
            while len(answered_in_s) < NUM_HEALTH_ANSWERS:
                response = await client.post(
                    "/v1/audio/transcriptions", files={"file": long_audio}, data={"model": "whisper-1"}
                )
                assert response.status_code == 200, response.text

        work = [load.create_task(keep_busy()) for _ in range(2)]
        while not all(task.done() for task in work):
            health = await probe.get("/health", timeout=HEALTH_TIMEOUT_S)
            assert health.status_code == 200, health.text
            answered_in_s.append(health.elapsed.total_seconds())
            await asyncio.sleep(0.25)
    assert len(answered_in_s) >= NUM_HEALTH_ANSWERS
    assert median(answered_in_s) < MAX_HEALTH_S


@pytest.mark.real
@pytest.mark.parametrize("sent_share", [1.0, 0.5], ids=["does-not-read", "stalls-in-its-upload"])
def test_con_02_a_stalled_client_blocks_nobody(api: Api, clip: Clip, long_audio: bytes, sent_share: float) -> None:
    with connect(api, long_audio, sent_share, stream="true"):
        assert word_error_rate([clip.text], [api.transcribe(clip.data).json()["text"]]) < 0.35
        assert api.get("/health").status_code == 200
    assert eventually(lambda: in_flight(api) == 0)


@pytest.mark.real
def test_con_03_leaving_in_mid_stream(api: Api, clip: Clip, endless: bytes) -> None:
    with api.open_stream(endless) as response:
        lines = (line for line in response.iter_lines() if line)
        assert "transcript.text.delta" in next(lines)
        assert total(api, RUNNING) == 1
    assert eventually(lambda: in_flight(api) == 0)
    assert word_error_rate([clip.text], [api.transcribe(clip.data).json()["text"]]) < 0.35


@pytest.mark.real
def test_con_03_leaving_while_waiting_for_a_whole_answer(api: Api, clip: Clip, endless: bytes) -> None:
    def num_left() -> float:
        return total(api, "auricle_requests_total", status="499")

    before = num_left()
    with connect(api, endless):
        assert eventually(lambda: total(api, RUNNING) == 1, within_s=30)
    assert eventually(lambda: in_flight(api) == 0)
    assert num_left() == before + 1
    assert word_error_rate([clip.text], [api.transcribe(clip.data).json()["text"]]) < 0.35


@pytest.mark.real
def test_con_03_leaving_a_chat_in_mid_stream(api: Api) -> None:
    with api.client.stream("POST", PATH, json=body(stream=True, **never_ending())) as response:
        lines = (line for line in response.iter_lines() if line)
        for _ in range(3):
            assert "chat.completion.chunk" in next(lines)
        assert total(api, RUNNING, model_name=MODEL) == 1
    assert eventually(lambda: in_flight(api) == 0)
    assert reply(api)


@pytest.mark.real
def test_con_03_leaving_a_chat_while_waiting_for_a_whole_answer(api: Api) -> None:
    def num_left() -> float:
        return total(api, "auricle_requests_total", endpoint=PATH, status="499")

    before = num_left()
    with ask_and_read_nothing(api, **never_ending()):
        assert eventually(lambda: total(api, RUNNING, model_name=MODEL) == 1, within_s=30)
    assert eventually(lambda: in_flight(api) == 0)
    assert num_left() == before + 1
    assert reply(api)


@pytest.mark.real
def test_con_03_leaving_frees_the_places_in_the_batch(api: Api) -> None:
    """More chats leave than fit into a batch, some of them before they were written at all."""
    connections = [ask_and_read_nothing(api, n=3, stream=bool(number % 2), **never_ending()) for number in range(6)]
    assert eventually(lambda: total(api, RUNNING, model_name=MODEL) == 6, within_s=30)
    for connection in connections:
        connection.close()
    assert eventually(lambda: in_flight(api) == 0)
    assert completion(api, max_tokens=3)["usage"]["completion_tokens"] == 3


@pytest.mark.real
def test_con_03_the_sdk_s_stream_is_closed(server: Server, api: Api) -> None:
    stream = server.client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}], stream=True, extra_body=never_ending()
    )
    assert next(iter(stream)).choices
    assert total(api, RUNNING, model_name=MODEL) == 1
    stream.close()
    assert eventually(lambda: in_flight(api) == 0)


@pytest.mark.real
def test_con_02_a_long_chat_blocks_nobody(api: Api, clip: Clip) -> None:
    with ask_and_read_nothing(api, stream=True, **never_ending()):
        assert eventually(lambda: total(api, RUNNING, model_name=MODEL) == 1, within_s=30)
        assert word_error_rate([clip.text], [api.transcribe(clip.data).json()["text"]]) < 0.35
        assert reply(api)
        assert api.get("/health").status_code == 200
    assert eventually(lambda: in_flight(api) == 0)


@pytest.mark.real
def test_con_04_chats_that_fail_leave_no_slot_taken(api: Api) -> None:
    wrong = body(user(input_audio(b"no audio"), TRANSCRIBE))
    for _ in range(20):
        assert api.client.post(PATH, json=wrong).status_code == 400
    assert in_flight(api) == 0
    assert reply(api)


@pytest.mark.real
def test_con_03_leaving_in_mid_upload(api: Api, clip: Clip, endless: bytes) -> None:
    for sent_share in (0.0, 0.001, 0.5):
        connect(api, endless, sent_share).close()
    assert eventually(lambda: in_flight(api) == 0)
    assert word_error_rate([clip.text], [api.transcribe(clip.data).json()["text"]]) < 0.35


@pytest.mark.real
def test_con_04_failures_leave_no_slot_taken(api: Api, clip: Clip) -> None:
    """More bad uploads than there are places in any queue."""
    for _ in range(40):
        assert api.transcribe(b"no audio").status_code == 400
    assert in_flight(api) == 0
    assert api.transcribe(clip.data).status_code == 200
