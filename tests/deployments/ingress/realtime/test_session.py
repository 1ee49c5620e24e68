"""A session without a socket: events in, events out, over a fake recogniser and ears for two kinds of bytes."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from deployments.ingress.catalogue import Catalogue
from deployments.ingress.http.keys import ApiKey
from deployments.ingress.metrics import IngressMetrics
from deployments.ingress.quotas import Quotas
from deployments.ingress.realtime.schema import MAX_UPDATE_CHARACTERS, SessionConfig
from deployments.ingress.realtime.session import MAX_PENDING_S, MAX_UNCHECKED_S, Session
from deployments.ingress.services import Services
from deployments.settings import LimitsConfig, Settings
from pipelines.audio_types import AudioChunk, LiveFormat
from pipelines.errors import ModelUnavailable
from pipelines.realtime_types import AudioAppended
from pipelines.transcript_types import ChunkTranscript, RecognizerInfo
from pipelines.vad import FRAME_S, FRAME_SAMPLES
from tests.support.fakes import FakeReader, FakeRecognizer, hello
from tests.support.ports import settle

MODEL, OTHER_MODEL = "a-model", "another-model"
TRANSCRIPTION = "conversation.item.input_audio_transcription"
LOUD, QUIET, FAINT = b"L", b"Q", b"F"
PROBABILITIES = {LOUD[0]: 1.0, QUIET[0]: 0.0, FAINT[0]: 0.3}


class FrameEar:
    """Each byte is a frame: loud, quiet or faint."""

    def __init__(self, format: LiveFormat) -> None:
        self.formats = [format]

    def hear(self, data: bytes) -> AudioAppended:
        samples = np.zeros(len(data) * FRAME_SAMPLES, np.float32)
        return AudioAppended(samples, [PROBABILITIES[byte] for byte in data])

    def finish(self) -> AudioAppended:
        return self.hear(b"")

    def change(self, format: LiveFormat) -> AudioAppended:
        self.formats.append(format)
        return self.hear(b"")


class Client:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.seen: list[dict[str, Any]] = []

    async def send(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """What it answers as far as nobody has to be waited for."""
        await self.session.handle(json.dumps({"type": kind, **fields}))
        await settle()
        return self.news()

    async def speak(self, frames: bytes) -> list[dict[str, Any]]:
        return await self.send("input_audio_buffer.append", audio=base64.b64encode(frames).decode())

    def news(self) -> list[dict[str, Any]]:
        new = [self.session.outgoing.get_nowait() for _ in range(self.session.outgoing.qsize())]
        self.seen += new
        return new


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


@dataclass
class Knowing(FakeRecognizer):
    """Of these languages."""

    languages: frozenset[str] = frozenset({"en", "de"})

    async def info(self) -> RecognizerInfo:
        return RecognizerInfo(self.languages)


def services(recognizer: FakeRecognizer, other: FakeRecognizer | None = None) -> Services:
    """other: behind the model `OTHER_MODEL`, of the family 4o."""

    async def nothing() -> dict[str, str | None]:
        return {}

    async def no_text() -> bytes:
        return b""

    metrics = IngressMetrics()
    models = [{"id": MODEL}, {"id": OTHER_MODEL, "family": "4o"}]
    return Services(
        catalogue=Catalogue(Settings.model_validate({"models": models}), created_at=0),
        limits=LimitsConfig(),
        api_keys=(),
        quotas=Quotas(metrics),
        reader=FakeReader(),
        recognizers={MODEL: recognizer, OTHER_MODEL: other or FakeRecognizer()},
        metrics=metrics,
        unavailable=nothing,
        metrics_text=no_text,
        new_ear=FrameEar,
    )


@asynccontextmanager
async def opened(
    recognizer: FakeRecognizer,
    detection: dict[str, Any] | None = None,
    key: ApiKey | None = None,
    other: FakeRecognizer | None = None,
) -> AsyncIterator[Client]:
    config = SessionConfig.of_model(MODEL).updated({"audio": {"input": {"turn_detection": detection}}})
    client = Client(Session(services(recognizer, other), config, 0, key))
    assert kinds(client.news()) == ["session.created"]
    try:
        yield client
    finally:
        await client.session.close()


async def test_a_turn_that_fails_is_told_and_the_next_one_is_heard() -> None:
    recognizer = FakeRecognizer(refusals={0: [ModelUnavailable("gone")]})
    async with opened(recognizer) as client:
        await client.speak(LOUD * 50)
        failed = (await client.send("input_audio_buffer.commit"))[-1]
        assert failed["type"] == f"{TRANSCRIPTION}.failed"
        assert failed["error"] == {
            "message": "gone",
            "type": "server_error",
            "param": None,
            "code": "service_unavailable",
        }
        await client.speak(LOUD * 50)
        completed = (await client.send("input_audio_buffer.commit"))[-1]
        assert completed["type"] == f"{TRANSCRIPTION}.completed"
        assert completed["transcript"] == "Hello."


async def test_what_nobody_expected_does_not_say_what_it_was() -> None:
    recognizer = FakeRecognizer(refusals={0: [ZeroDivisionError("secret")]})
    async with opened(recognizer) as client:
        await client.speak(LOUD * 50)
        failed = (await client.send("input_audio_buffer.commit"))[-1]
        assert failed["error"]["type"] == "server_error"
        assert "secret" not in json.dumps(failed)


async def test_a_turn_fails_before_it_is_committed() -> None:
    """It is told at once, and what comes behind it is a turn of its own, which is heard."""
    recognizer = FakeRecognizer(refusals={0: [ModelUnavailable("gone")]})
    async with opened(recognizer) as client:
        news = kinds(await client.speak(LOUD * round(40 / FRAME_S)))
        assert "input_audio_buffer.committed" in news
        assert news[-1] == f"{TRANSCRIPTION}.failed"
        recognizer.refusals.clear()
        assert await client.speak(LOUD * round(40 / FRAME_S)) == []
        assert kinds(await client.send("input_audio_buffer.commit"))[-1] == f"{TRANSCRIPTION}.completed"


@pytest.mark.parametrize("seconds", [0.2, 20.0])
async def test_turns_far_ahead_of_their_text_are_refused_too(seconds: float) -> None:
    """Each of them is with the model at once: that is no reason to take ever more; a short one is work as well."""
    gate = asyncio.Event()
    async with opened(FakeRecognizer(gate=lambda index: gate)) as client:
        num_turns = 0
        while not any(event["type"] == "error" for event in await client.speak(LOUD * round(seconds / FRAME_S))):
            await client.send("input_audio_buffer.commit")
            num_turns += 1
        assert num_turns == pytest.approx(MAX_PENDING_S / max(seconds, 1.0), abs=2)
        gate.set()
        await client.session.finish()
        client.news()
        assert await client.speak(LOUD * 50) == []


async def test_a_session_is_configured_in_few_words() -> None:
    async with opened(FakeRecognizer()) as client:
        (error,) = await transcribing(client, prompt="x" * MAX_UPDATE_CHARACTERS)
        assert error["error"]["param"] == "session"
        assert kinds(await transcribing(client, prompt="x" * 10_000)) == ["session.updated"]


async def test_closing_ends_whatever_runs() -> None:
    recognizer = FakeRecognizer(gate=lambda index: asyncio.Event())
    async with opened(recognizer) as client:
        await client.speak(LOUD * 50)
        await client.send("input_audio_buffer.commit")
        assert recognizer.running == {0}
        await client.session.close()
        assert recognizer.cancelled == [0]


async def test_clearing_ends_what_it_clears() -> None:
    recognizer = FakeRecognizer(gate=lambda index: asyncio.Event())
    async with opened(recognizer) as client:
        await client.speak(LOUD * round(40 / FRAME_S))
        assert recognizer.running == {0}
        assert kinds(await client.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
        assert recognizer.cancelled == [0]


async def test_finishing_waits_for_what_was_committed_and_for_nothing_else() -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    recognizer = FakeRecognizer(gate=lambda index: gates[index])
    async with opened(recognizer) as client:
        await client.speak(LOUD * 50)
        await client.send("input_audio_buffer.commit")
        await client.speak(LOUD * 50)
        finishing = asyncio.create_task(client.session.finish())
        await settle()
        assert not finishing.done()
        gates[0].set()
        await finishing
        assert kinds(client.news())[-1] == f"{TRANSCRIPTION}.completed"


async def test_audio_far_ahead_of_its_text_is_refused_and_the_rest_is_not_lost() -> None:
    gate = asyncio.Event()
    recognizer = FakeRecognizer(gate=lambda index: gate)
    async with opened(recognizer) as client:
        num_pieces = 0
        while not (answer := await client.speak(LOUD * round(30 / FRAME_S))):
            num_pieces += 1
        assert answer[0]["error"]["code"] == "rate_limit_exceeded"
        assert MAX_PENDING_S <= num_pieces * 30 <= MAX_PENDING_S + 300
        gate.set()
        while len(recognizer.running) or client.session._turns:
            await settle()
            if not await client.speak(LOUD):
                break
        await client.send("input_audio_buffer.commit")
        await client.session.finish()
        completed = client.news() or client.seen
        assert len(completed[-1]["transcript"].split()) >= num_pieces


async def test_a_key_that_is_used_up_is_told_when_its_turn_is_over() -> None:
    """What was begun is heard to its end; then no audio is taken, and the session goes on."""
    key = ApiKey("anna", "digest", audio_minutes_per_hour=0.1)
    async with opened(FakeRecognizer(), key=key) as client:
        assert await client.speak(LOUD * round(5 / FRAME_S)) == []
        assert await client.speak(LOUD * round(5 / FRAME_S)) == []
        assert await client.speak(LOUD * round(5 / FRAME_S)) == []
        completed = (await client.send("input_audio_buffer.commit"))[-1]
        assert completed["type"] == f"{TRANSCRIPTION}.completed"
        (refused,) = await client.speak(LOUD * 10)
        assert (refused["type"], refused["error"]["type"]) == ("error", "rate_limit_error")
        assert refused["error"]["code"] == "rate_limit_exceeded"
        assert "'anna'" in refused["error"]["message"]
        assert kinds(await client.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
        charged = client.session._services.metrics.key_audio_seconds.labels("anna")._value.get()
        assert charged == pytest.approx(3 * round(5 / FRAME_S) * FRAME_S)


async def test_a_turn_without_end_is_not_heard_for_ever_for_a_key_that_is_used_up() -> None:
    key = ApiKey("anna", "digest", audio_minutes_per_hour=0.1)
    async with opened(FakeRecognizer(), key=key) as client:
        for _ in range(100):
            if news := await client.speak(LOUD * round(5 / FRAME_S)):
                break
        assert [event["error"]["code"] for event in news] == ["rate_limit_exceeded"]
        charged = client.session._services.metrics.key_audio_seconds.labels("anna")._value.get()
        assert MAX_UNCHECKED_S < charged < MAX_UNCHECKED_S + 15


async def test_how_late_it_is() -> None:
    gate = asyncio.Event()
    async with opened(FakeRecognizer(gate=lambda index: gate)) as client:
        assert client.session.overdue_s == 0.0
        await client.speak(LOUD * 4)
        assert client.session.overdue_s == 0.0
        await client.send("input_audio_buffer.commit")
        await asyncio.sleep(0.2)
        assert client.session.overdue_s >= 0.2 - 0.25 * 4 * FRAME_S
        gate.set()
        await client.session.finish()
        assert client.session.overdue_s == 0.0


async def test_a_turn_behind_long_ones_of_its_session_is_not_late() -> None:
    """Who is far ahead of the model keeps nobody else out."""
    gate = asyncio.Event()
    async with opened(FakeRecognizer(gate=lambda index: gate)) as client:
        for seconds in (40.0, 0.2):
            await client.speak(LOUD * round(seconds / FRAME_S))
            await client.send("input_audio_buffer.commit")
        long, short = client.session._turns.values()
        assert long.committed_at
        assert short.committed_at
        long.committed_at, short.committed_at = long.committed_at - 5, short.committed_at - 5
        assert client.session.overdue_s == 0.0
        short.committed_at -= 10
        assert client.session.overdue_s > 4
        gate.set()


async def test_an_update_holds_for_the_turns_after_it() -> None:
    recognizer = FakeRecognizer()
    async with opened(recognizer) as client:
        for language in ("en", None):
            await client.speak(LOUD * 50)
            change = {"transcription": {"language": language}, "format": {"type": "audio/pcmu"}}
            await client.send("session.update", session={"audio": {"input": change}})
            await client.send("input_audio_buffer.commit")
            assert recognizer.options[0].language == (None if language else "en")
        assert client.session._ear.formats == ["audio/pcm", "audio/pcmu"]  # type: ignore[attr-defined]


async def test_a_language_that_the_model_does_not_know() -> None:
    async with opened(FakeRecognizer()) as client:
        change = {"transcription": {"language": "de"}}
        (error,) = await client.send("session.update", session={"audio": {"input": change}})
        assert error["error"]["param"] == "session.audio.input.transcription.language"
        await client.speak(LOUD * 50)
        assert kinds(await client.send("input_audio_buffer.commit"))[-1] == f"{TRANSCRIPTION}.completed"


async def test_a_language_that_the_new_model_does_not_know() -> None:
    """RTW-02: "Bad value → `error`, nothing changed"."""
    recognizer = Knowing()
    async with opened(recognizer, other=Knowing(languages=frozenset({"en"}))) as client:
        assert kinds(await transcribing(client, language="de")) == ["session.updated"]
        (error,) = await transcribing(client, model=OTHER_MODEL)
        assert error["error"]["param"] == "session.audio.input.transcription.language"
        await client.speak(LOUD * 50)
        assert kinds(await client.send("input_audio_buffer.commit"))[-1] == f"{TRANSCRIPTION}.completed"
        assert recognizer.options[0].language == "de"
        assert kinds(await transcribing(client, model=OTHER_MODEL, language="en")) == ["session.updated"]


async def transcribing(client: Client, **changes: str | None) -> list[dict[str, Any]]:
    return await client.send("session.update", session={"audio": {"input": {"transcription": changes}}})


async def test_a_turn_is_told_as_was_asked_for_when_it_began() -> None:
    """RTW-06: its usage, logprobs and languages are those of its model."""
    gate = asyncio.Event()
    recognizer, other = (FakeRecognizer(gate=lambda index: gate) for _ in range(2))
    async with opened(recognizer, other=other) as client:
        await client.speak(LOUD * 50)
        await client.send("input_audio_buffer.commit")
        assert kinds(await transcribing(client, model=OTHER_MODEL)) == ["session.updated"]
        include = ["item.input_audio_transcription.logprobs"]
        assert kinds(await client.send("session.update", session={"include": include})) == ["session.updated"]
        await client.speak(LOUD * 50)
        await client.send("input_audio_buffer.commit")
        gate.set()
        await client.session.finish()
        one, another = (event for event in client.news() if event["type"] == f"{TRANSCRIPTION}.completed")
        assert (one["usage"]["type"], "logprobs" in one) == ("duration", False)
        assert (another["usage"]["type"], "logprobs" in another) == ("tokens", True)


async def test_a_commit_of_too_little_is_refused_by_its_name() -> None:
    """RTW-08: `"event_id":<client's event_id or null>`."""
    async with opened(FakeRecognizer()) as client:
        (error,) = await client.send("input_audio_buffer.commit", event_id="mine")
        assert error["type"] == "error"
        assert error["error"]["code"] == "input_audio_buffer_commit_empty"
        assert error["error"]["event_id"] == "mine"


@pytest.mark.parametrize("delay", [None, "low"])
async def test_whom_a_low_threshold_finds_is_heard(delay: str | None) -> None:
    recognizer = FakeRecognizer()
    async with opened(recognizer, {"type": "server_vad", "threshold": 0.2}) as client:
        await transcribing(client, delay=delay)
        assert f"{TRANSCRIPTION}.completed" in kinds(await client.speak(FAINT * 50 + QUIET * 20))
        assert recognizer.finished


@pytest.mark.parametrize("delay", [None, "low"])
async def test_all_of_a_long_prefix_is_heard(delay: str | None) -> None:
    chunks: list[AudioChunk] = []

    def remembered(chunk: AudioChunk) -> ChunkTranscript:
        chunks.append(chunk)
        return hello(chunk)

    async with opened(FakeRecognizer(answer=remembered), {"type": "server_vad", "prefix_padding_ms": 2_000}) as client:
        await transcribing(client, delay=delay)
        await client.speak(QUIET * 100 + LOUD * 50 + QUIET * 20)
        assert max(chunk.offset_s for chunk in chunks) < FRAME_S
        assert max(chunk.waveform.duration_s for chunk in chunks) == pytest.approx(2 + 50 * FRAME_S + 0.2, abs=FRAME_S)


async def test_turns_that_the_server_finds_are_urgent_and_know_the_last_language() -> None:
    recognizer = FakeRecognizer()
    async with opened(recognizer, {"type": "server_vad"}) as client:
        for neighbour in (None, "en"):
            await client.speak(LOUD * 50 + QUIET * 20)
            assert recognizer.options[0].head_start_s > 0
            assert recognizer.options[0].neighbour == neighbour


@pytest.mark.parametrize("num_turns", [1, 20])
async def test_nothing_is_kept_of_turns_that_are_over(num_turns: int) -> None:
    async with opened(FakeRecognizer(), {"type": "server_vad"}) as client:
        for _ in range(num_turns):
            await client.speak(LOUD * 50 + QUIET * 50)
        assert kinds(client.seen).count(f"{TRANSCRIPTION}.completed") == num_turns
        assert client.session._turns == {}
        assert client.session._machine._told == {}
        assert client.session._asked == {}
