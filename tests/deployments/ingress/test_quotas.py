"""What a key may ask for in an hour, over the API and the real SDK."""

import asyncio
from base64 import b64encode
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, RateLimitError
from prometheus_client.parser import text_string_to_metric_families

from deployments.ingress.gates import Gates
from deployments.ingress.http.keys import ApiKey, digest_of
from deployments.ingress.http.rate_headers import duration
from deployments.ingress.ledger import Ledger, Report
from deployments.ingress.metrics import IngressMetrics
from deployments.ingress.quotas import EXCHANGE_S, Quotas
from deployments.ingress.transcription.charging import AudioCharge, heard_s
from deployments.settings import LimitsConfig
from pipelines.audio_types import AudioInfo
from pipelines.errors import ModelUnavailable, Overloaded
from pipelines.transcript_types import Work
from pipelines.transcription_events import TextDelta
from tests.scripted.server import scripted_api
from tests.support.api import CHAT_MODEL, MODEL, api_client
from tests.support.fake_chat_model import FakeChatModel, failing
from tests.support.fakes import FakeReader, FakeRecognizer


def key(name: str = "anna", **limits: Any) -> ApiKey:
    return ApiKey(name, digest_of(f"sk-{name}"), **limits)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}"}


async def transcribe(
    client: httpx.AsyncClient,
    name: str = "anna",
    path: str = "transcriptions",
    upload: bytes = b"audio",
    stream: bool = False,
) -> httpx.Response:
    files, data = {"file": upload}, {"model": MODEL, "stream": str(stream)}
    return await client.post(f"/v1/audio/{path}", headers=bearer(name), files=files, data=data)


async def chat(client: httpx.AsyncClient, *parts: dict[str, Any], stream: bool = False) -> httpx.Response:
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": "Hi"}]}]
    body = {"model": CHAT_MODEL, "messages": messages, "stream": stream}
    return await client.post("/v1/chat/completions", headers=bearer("anna"), json=body)


async def samples(client: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """The numbers of keys, by name and labels."""
    text = (await client.get("/metrics")).text
    assert "sk-" not in text
    assert digest_of("sk-anna") not in text
    return {
        (sample.name, *(value for label, value in sample.labels.items() if label != "replica")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("auricle_key_")
    }


def audio(text: str) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": b64encode(text.encode()).decode(), "format": "wav"}}


AUDIO = audio("audio")


async def test_requests_are_counted_and_refused_by_key() -> None:
    async with api_client(api_keys=[key(requests_per_hour=2), key("ben"), "sk-other"]) as client:
        answers = [await transcribe(client), await transcribe(client, path="translations"), await transcribe(client)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["x-ratelimit-limit-requests"] for answer in answers] == ["2", "2", "2"]
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
        assert all(answer.headers["x-ratelimit-reset-requests"].startswith("1h0m") for answer in answers)
        error = answers[-1].json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert (error["type"], error["param"], error["code"]) == ("rate_limit_error", None, "rate_limit_exceeded")
        assert "'anna'" in error["message"]
        assert 3_600 <= int(answers[-1].headers["retry-after"]) <= 3_660
        assert (await chat(client)).status_code == 429
        others = [await transcribe(client, "ben") for _ in range(3)] + [await transcribe(client, "other")]
        assert [answer.status_code for answer in others] == [200] * 4
        assert not any(name.startswith("x-ratelimit") for answer in others for name in answer.headers)
        assert await samples(client) == {
            ("auricle_key_requests_total", "anna"): 2,
            ("auricle_key_requests_total", "ben"): 3,
            ("auricle_key_requests_total", "key-1"): 1,
            ("auricle_key_refusals_total", "anna", "requests"): 2,
            ("auricle_key_audio_seconds_total", "anna"): 2,
            ("auricle_key_audio_seconds_total", "ben"): 3,
            ("auricle_key_audio_seconds_total", "key-1"): 1,
        }


async def test_lists_and_operations_use_nothing_up() -> None:
    async with api_client(api_keys=[key(requests_per_hour=1)]) as client:
        for _ in range(3):
            assert (await client.get("/v1/models", headers=bearer("anna"))).status_code == 200
        assert (await transcribe(client)).status_code == 200
        assert (await client.get("/v1/models", headers=bearer("anna"))).status_code == 200


async def test_who_is_refused_sends_no_body() -> None:
    """It is refused before anything is read, and so is one that could not be parsed."""
    async with api_client(api_keys=[key(requests_per_hour=1)]) as client:
        first = await client.post("/v1/audio/transcriptions", content=b"no form", headers=bearer("anna"))
        assert first.status_code == 400
        assert first.headers["x-ratelimit-remaining-requests"] == "0"

        async def body() -> Any:
            raise AssertionError("the body is read")
            yield b""

        refused = await client.post("/v1/audio/transcriptions", content=body(), headers=bearer("anna"))
        assert refused.status_code == 429


async def test_a_wrong_key_is_a_401_however_much_it_asks() -> None:
    async with api_client(api_keys=[key(requests_per_hour=1)]) as client:
        assert [(await transcribe(client, "ben")).status_code for _ in range(3)] == [401] * 3
        assert (await transcribe(client)).status_code == 200


async def test_a_file_that_says_that_it_is_short_counts_as_long_as_it_is() -> None:
    reader = FakeReader(duration_s=90.0, chunk_s=10.0, claimed_s=61.0)
    async with api_client(reader, api_keys=[key(audio_minutes_per_hour=1)]) as client:
        assert (await transcribe(client)).status_code == 200
        assert (await samples(client))["auricle_key_audio_seconds_total", "anna"] == 90
        assert (await transcribe(client)).status_code == 429


async def test_a_file_that_says_that_it_is_long_counts_as_long_as_it_is() -> None:
    reader = FakeReader(duration_s=90.0, chunk_s=10.0, claimed_s=14_000.0)
    async with api_client(reader, api_keys=[key(audio_minutes_per_hour=2)]) as client:
        assert (await transcribe(client)).status_code == 200
        assert (await samples(client))["auricle_key_audio_seconds_total", "anna"] == 90
        assert (await transcribe(client)).status_code == 200


@pytest.mark.parametrize("is_measured", [True, False])
def test_who_leaves_early_pays_for_what_was_heard(is_measured: bool) -> None:
    charged: list[float] = []
    charge = AudioCharge(charged.append, AudioInfo(4_000.0, "flac", "flac", is_measured=is_measured))
    assert sum(charged) == (4_000 if is_measured else 60)
    for event in (TextDelta("a", end_s=30.0), TextDelta("b", end_s=600.0), TextDelta("c", end_s=590.0)):
        charge.up_to(heard_s(event))
    assert sum(charged) == (4_000 if is_measured else 600)


# Whom there is no room for


BUSY = Overloaded("The server is busy.", 1.0)


def assert_is_busy(answer: httpx.Response, num_left: int) -> None:
    """And none of the hour's requests is used up, as its own answer tells."""
    assert (answer.status_code, answer.json()["error"]["message"][:18]) == (429, "The server is busy")
    assert answer.headers["x-ratelimit-remaining-requests"] == str(num_left)


async def test_who_is_refused_for_want_of_room_has_used_up_no_request() -> None:
    gates = Gates(0.0)
    async with api_client(gates=gates, api_keys=[key(requests_per_hour=2)]) as client:
        with gates[MODEL].enter(500):
            await asyncio.sleep(0.01)
            gates[MODEL].observe(Work(0.0, 0.01, 8.0, 8))
            for _ in range(5):
                assert_is_busy(await transcribe(client), 2)
        assert [(await transcribe(client)).status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("ask", [transcribe, chat])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_queue_uses_up_no_request(ask: Any, stream: bool) -> None:
    busy: dict[str, Any] = {
        "recognizer": FakeRecognizer(refusals={0: [BUSY, BUSY]}),
        "chat_model": FakeChatModel(failing(0, BUSY)),
    }
    async with api_client(**busy, api_keys=[key(requests_per_hour=2)]) as client:
        for _ in range(2):
            assert_is_busy(await ask(client, stream=stream), 2)


@pytest.mark.parametrize("limits", [{"max_concurrent_requests": 1}, {"max_bytes_in_flight": 100_000}])
async def test_no_room_for_an_upload_uses_up_no_request(limits: dict[str, int]) -> None:
    gate = asyncio.Event()
    recognizer = FakeRecognizer(lambda index: gate)
    keys = [key(requests_per_hour=2), key("ben")]
    async with api_client(recognizer=recognizer, limits=LimitsConfig(**limits), api_keys=keys) as client:
        first = asyncio.create_task(transcribe(client, "ben", upload=bytes(90_000)))
        while not recognizer.running:
            await asyncio.sleep(0.001)
        assert_is_busy(await transcribe(client, upload=bytes(90_000)), 2)
        if "max_concurrent_requests" in limits:
            assert_is_busy(await chat(client), 2)
        gate.set()
        assert (await first).status_code == 200


async def test_no_room_for_what_is_fetched_uses_up_no_request() -> None:
    class Fetcher:
        async def fetch(self, *asked: Any) -> bytes:
            raise BUSY

    app = scripted_api(fetcher=Fetcher(), api_keys=(key(requests_per_hour=2),))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://auricle") as client:
        form = {"model": (None, "whisper-1"), "url": (None, "http://example.com/a.wav")}
        assert_is_busy(await client.post("/v1/audio/transcriptions", headers=bearer("anna"), files=form), 2)


async def test_a_chat_without_minutes_for_its_audio_uses_up_no_request() -> None:
    reader = FakeReader(duration_s=60.0, chunk_s=60.0)
    async with api_client(reader, api_keys=[key(requests_per_hour=3, audio_minutes_per_hour=1)]) as client:
        assert (await transcribe(client)).status_code == 200
        for _ in range(3):
            refused = await chat(client, AUDIO)
            assert (refused.status_code, refused.headers["x-ratelimit-remaining-requests"]) == (429, "2")


async def test_what_goes_wrong_behind_the_head_of_a_stream_is_a_request() -> None:
    model = FakeChatModel(failing(2, BUSY))
    async with api_client(chat_model=model, api_keys=[key(requests_per_hour=1)]) as client:
        assert (await chat(client, stream=True)).status_code == 200
        assert (await chat(client)).headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", [BUSY, ModelUnavailable("Lost.", 1.0)])
async def test_minutes_of_which_nothing_was_heard_are_given_back(error: Exception, stream: bool) -> None:
    reader, recognizer = FakeReader(duration_s=90.0, chunk_s=30.0), FakeRecognizer(refusals={0: [error] * 3})
    async with api_client(reader, recognizer, api_keys=[key(audio_minutes_per_hour=1)]) as client:
        statuses = [(await transcribe(client, stream=stream)).status_code for _ in range(5)]
        assert statuses == [429 if error is BUSY else 503] * 3 + [200, 429]


async def test_minutes_of_which_something_was_heard_are_paid() -> None:
    lost = ModelUnavailable("Lost.", 1.0)
    reader, recognizer = FakeReader(duration_s=90.0, chunk_s=30.0), FakeRecognizer(refusals={1: [lost]})
    async with api_client(reader, recognizer, api_keys=[key(audio_minutes_per_hour=1)]) as client:
        assert "Lost." in (await transcribe(client, stream=True)).text
        assert (await transcribe(client)).status_code == 429


async def test_minutes_of_audio_end_when_more_than_there_were_is_heard() -> None:
    reader = FakeReader(duration_s=40.0, chunk_s=40.0)
    async with api_client(reader, api_keys=[key(audio_minutes_per_hour=1)]) as client:
        assert [(await transcribe(client)).status_code for _ in range(3)] == [200, 200, 429]
        assert (await samples(client))["auricle_key_audio_seconds_total", "anna"] == 80
        assert (await samples(client))["auricle_key_refusals_total", "anna", "audio"] == 1
        assert (await samples(client))["auricle_key_requests_total", "anna"] == 2
        assert (await chat(client)).status_code == 200  # it hears nothing
        refused = await chat(client, AUDIO)
        assert refused.status_code == 429
        assert "1 minutes of audio" in refused.json()["error"]["message"]


async def test_a_chat_s_audio_is_charged() -> None:
    reader = FakeReader(duration_s=30.0, chunk_s=30.0)
    async with api_client(reader, api_keys=[key(audio_minutes_per_hour=0.5)]) as client:
        assert (await chat(client, AUDIO)).status_code == 200
        assert (await chat(client, AUDIO)).status_code == 429
        assert (await transcribe(client)).status_code == 429


async def test_a_chat_s_audio_is_charged_also_where_another_one_is_wrong() -> None:
    async with api_client(FakeReader(duration_s=None), api_keys=[key(audio_minutes_per_hour=0.5)]) as client:
        assert (await chat(client, audio("40"), audio("1000000"))).status_code == 400
        assert (await samples(client))["auricle_key_audio_seconds_total", "anna"] == 40
        assert (await chat(client, audio("1"))).status_code == 429


async def test_a_stream_is_charged_and_tells_what_is_left() -> None:
    async with api_client(api_keys=[key(requests_per_hour=5)]) as client:
        files, data = {"file": b"audio"}, {"model": MODEL, "stream": "true"}
        answer = await client.post("/v1/audio/transcriptions", headers=bearer("anna"), files=files, data=data)
        assert answer.headers["x-ratelimit-remaining-requests"] == "4"
        assert (await samples(client))["auricle_key_audio_seconds_total", "anna"] == 1


async def test_nobody_is_counted_where_nobody_needs_a_key() -> None:
    async with api_client() as client:
        assert (await transcribe(client)).status_code == 200
        assert await samples(client) == {}


async def test_the_sdk_sees_a_rate_limit_error_and_does_not_try_again() -> None:
    keys = [key(requests_per_hour=1)]
    async with api_client(api_keys=keys) as http:
        client = AsyncOpenAI(base_url="http://auricle/v1", api_key="sk-anna", http_client=http, max_retries=2)
        first = await client.audio.transcriptions.with_raw_response.create(model=MODEL, file=("a.wav", b"audio"))
        assert first.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(RateLimitError) as refused:
            await client.audio.transcriptions.create(model=MODEL, file=("a.wav", b"audio"))
        assert int(refused.value.response.headers["retry-after"]) >= 3_600
        assert refused.value.code == "rate_limit_exceeded"
        assert (await samples(http))["auricle_key_refusals_total", "anna", "requests"] == 1


# Several replicas


class Peers:
    """Ingress replicas that can be asked, at a time of the test's own."""

    def __init__(self, count: int) -> None:
        self.now = 6_000.0
        self.silent: set[int] = set()
        self.asked_since: list[int] = []
        self.quotas = [Quotas(IngressMetrics(), Ledger(lambda: self.now), self.ask) for _ in range(count)]

    async def ask(self, since_slot: int) -> list[Report | None]:
        self.asked_since.append(since_slot)
        return [None if number in self.silent else one.report(since_slot) for number, one in enumerate(self.quotas)]

    async def take(self, replica: int, key: ApiKey) -> bool:
        """As a request that comes a while after the one before it."""
        quotas = self.quotas[replica]
        quotas._exchanged_at = float("-inf")
        try:
            quotas.take_request(key)
        except Overloaded:
            return False
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return True


async def test_a_limit_holds_for_all_replicas_together() -> None:
    peers, limited = Peers(3), key(requests_per_hour=30)
    admitted = [await peers.take(number % 3, limited) for number in range(90)]
    assert 30 <= sum(admitted) <= 30 + 2  # each of the others may admit one before it hears
    assert not any(admitted[36:])
    peers.now += 3_661
    assert [await peers.take(replica, limited) for replica in range(3)] == [True] * 3


async def test_peers_are_asked_once_in_a_while_and_for_what_is_new() -> None:
    peers, limited = Peers(1), key(requests_per_hour=1_000)
    for _ in range(50):
        peers.quotas[0].take_request(limited)
        await asyncio.sleep(0)
    assert len(peers.asked_since) == 1
    await asyncio.sleep(EXCHANGE_S)
    peers.quotas[0].take_request(limited)
    await asyncio.sleep(0)
    assert peers.asked_since == [-1, 99]  # one minute more, for clocks that differ


async def test_peers_are_not_asked_for_keys_without_limits() -> None:
    peers = Peers(1)
    peers.quotas[0].take_request(key())
    peers.quotas[0].take_request(None)
    await asyncio.sleep(0)
    assert peers.asked_since == []


async def test_what_peers_did_not_tell_they_are_asked_for_again() -> None:
    peers, limited = Peers(2), key(requests_per_hour=4)
    peers.silent = {0, 1}
    assert [await peers.take(1, limited) for _ in range(4)] == [True] * 4
    peers.now += 600
    assert await peers.take(0, limited)
    peers.silent = set()
    await peers.take(0, limited)
    assert not await peers.take(0, limited)


async def test_peers_are_told_of_what_was_given_back_in_a_later_minute() -> None:
    """They have heard of the minute in which it was taken, and do not ask for it again."""
    peers, limited = Peers(2), key(requests_per_hour=2)
    assert [await peers.take(0, limited) for _ in range(2)] == [True] * 2
    await peers.take(1, limited)  # hears that there is nothing left, but too late for this one
    peers.now += 600
    assert not await peers.take(1, limited)
    peers.quotas[0].give_back_request(limited)
    peers.quotas[0].give_back_request(limited)
    assert not await peers.take(1, limited)
    assert await peers.take(1, limited)


async def test_one_that_is_silent_costs_only_its_own_counts() -> None:
    peers, limited = Peers(3), key(requests_per_hour=10)
    peers.silent = {2}
    admitted = [await peers.take(number % 2, limited) for number in range(20)]
    assert 10 <= sum(admitted) <= 11
    assert not any(admitted[12:])


async def test_what_one_did_not_tell_while_others_did_is_heard_when_it_speaks() -> None:
    peers, limited = Peers(3), key(requests_per_hour=10)
    peers.silent = {2}
    assert [await peers.take(2, limited) for _ in range(4)] == [True] * 4
    assert [await peers.take(0, limited) for _ in range(5)] == [True] * 5
    peers.now += 600
    assert await peers.take(0, limited)
    peers.silent = set()
    await peers.take(0, limited)
    assert not await peers.take(0, limited)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.2, "1s"), (59, "59s"), (60, "1m0s"), (3_599.5, "1h0m0s"), (3_661, "1h1m1s")]
)
def test_durations_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
