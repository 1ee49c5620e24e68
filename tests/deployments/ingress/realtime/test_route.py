"""Who may open a session, and how it ends: over a real socket, with limits of a test's own."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise, repeat
from typing import Any

import httpx
import pytest
import soundfile
from starlette.datastructures import Headers
from starlette.websockets import WebSocketDisconnect, WebSocketState
from websockets.exceptions import ConnectionClosed, InvalidStatus

from deployments.ingress.api import create_api
from deployments.ingress.catalogue import Catalogue
from deployments.ingress.http.keys import ApiKey, digest_of
from deployments.ingress.realtime.admission import MAX_OVERDUE_S
from deployments.ingress.realtime.route import Connection
from deployments.ingress.realtime.schema import SessionConfig
from deployments.ingress.realtime.session import Session
from deployments.settings import LimitsConfig, Settings
from tests.conformance.realtime import Session as ClientSession
from tests.conformance.realtime import connected, opened, pcm, with_pauses
from tests.conftest import DATA, Server
from tests.deployments.ingress.realtime.test_session import MODEL, Knowing, services
from tests.scripted.server import served
from tests.support.api import api
from tests.support.fakes import FakeRecognizer

KEYS = frozenset({"first-key", "second-key"})


@contextmanager
def serving(
    limits: dict[str, Any] | None = None, recognizer: FakeRecognizer | None = None, **more: Any
) -> Iterator[Server]:
    with served(api(limits=LimitsConfig(**limits or {}), recognizer=recognizer, **more)) as server:
        yield server


def refusal(server: Server, query: str = "", **headers: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as refused, connected(server, query, **headers):
        pass
    response = refused.value.response
    return response.status_code, {**json.loads(response.body or b"")["error"], **response.headers}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def close_code(session: ClientSession) -> int:
    """With which the server closes it, without another word."""
    with pytest.raises(ConnectionClosed) as closed:
        session.next()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_keys() -> None:
    with serving(api_keys=KEYS) as server:
        assert refusal(server)[0] == 401
        status, error = refusal(server, **bearer("wrong"))
        assert status == 401
        assert error["code"] == "invalid_api_key"
        with connected(server, **bearer("first-key")) as session:
            session.answers()
        protocols = ["realtime", "openai-insecure-api-key.second-key"]
        with connected(server, protocols=protocols, Origin="https://elsewhere.example") as session:
            session.answers()


def test_a_client_secret_needs_a_key_and_is_none() -> None:
    with serving(api_keys=KEYS) as server, httpx.Client(base_url=server.url) as client:
        path = "/v1/realtime/client_secrets"
        assert client.post(path, json={}).status_code == 401
        secret = client.post(path, json={}, headers=bearer("first-key")).json()["value"]
        assert "first-key" not in secret
        with connected(server, **bearer(secret)) as session:
            session.answers()
        assert client.get("/v1/models", headers=bearer(secret)).status_code == 401
        assert client.post(path, json={}, headers=bearer(secret)).status_code == 401


def test_a_client_secret_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        body = {"expires_after": {"anchor": "created_at", "seconds": 10}}
        secret = httpx.post(f"{server.url}/v1/realtime/client_secrets", json=body).json()
        later = time.time() + 11
        monkeypatch.setattr("deployments.ingress.realtime.client_secrets.time.time", lambda: later)
        status, error = refusal(server, **bearer(secret["value"]))
        assert status == 401
        assert "expired" in error["message"]


def test_client_secrets_are_signed_with_one_key_everywhere() -> None:
    """That of another cluster opens nothing."""
    with serving() as server, serving() as other:
        secret = httpx.post(f"{server.url}/v1/realtime/client_secrets", json={}).json()["value"]
        assert refusal(other, **bearer(secret))[0] == 401


def test_a_language_that_the_model_does_not_know() -> None:
    """RTW-11: "with that session as its start": one of which every turn would fail is none."""
    recognizer = Knowing()
    with serving(recognizer=recognizer) as server:
        path = f"{server.url}/v1/realtime/client_secrets"
        session = {"audio": {"input": {"transcription": {"language": "de"}}}}
        secret = httpx.post(path, json={"session": session}).json()["value"]
        with connected(server, **bearer(secret)) as opened_one:
            opened_one.answers()
        recognizer.languages = frozenset({"en"})
        answer = httpx.post(path, json={"session": session})
        param = "session.audio.input.transcription.language"
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        status, error = refusal(server, **bearer(secret))
        assert (status, error["param"]) == (400, param)


def test_a_server_that_only_chats_says_so() -> None:
    """GEN-01, also of the socket."""
    chatting = Catalogue(Settings.model_validate({"models": [{"id": "chat", "task": "chat"}]}), created_at=0)
    with served(create_api(replace(services(FakeRecognizer()), catalogue=chatting))) as server:
        answer = httpx.post(f"{server.url}/v1/realtime/client_secrets", json={})
        told = (answer.status_code, answer.json()["error"])
        for status, error in (told, refusal(server), refusal(server, "?model=x")):
            assert (status, error["type"], error["code"]) == (400, "invalid_request_error", "model_not_found")
            assert "transcribes" in error["message"]


def test_sessions_are_bounded() -> None:
    """RTW-14."""
    with serving({"max_sessions": 2}) as server:
        with opened(server), opened(server) as second:
            status, error = refusal(server)
            assert status == 429
            assert error["code"] == "rate_limit_exceeded"
            assert int(error["retry-after"]) >= 1
            second.answers()
        until_free(server)


def test_sessions_of_one_key_are_bounded() -> None:
    with serving({"max_sessions_per_key": 1}, api_keys=KEYS) as server:
        secret = httpx.post(f"{server.url}/v1/realtime/client_secrets", json={}, headers=bearer("first-key")).json()[
            "value"
        ]
        with connected(server, **bearer("first-key")):
            assert refusal(server, **bearer("first-key"))[0] == 429
            assert refusal(server, **bearer(secret))[0] == 429
            with connected(server, **bearer("second-key")) as session:
                session.answers()


def test_a_key_may_have_a_number_of_sessions_of_its_own() -> None:
    keys = [ApiKey(name, digest_of(name), max_sessions=most) for name, most in (("none", 0), ("two", 2), ("any", None))]
    with serving({"max_sessions_per_key": 1}, api_keys=keys) as server:
        assert refusal(server, **bearer("none"))[0] == 429
        with connected(server, **bearer("two")), connected(server, **bearer("two")), connected(server, **bearer("any")):
            for name in ("two", "any"):
                status, error = refusal(server, **bearer(name))
                assert (status, error["code"]) == (429, "rate_limit_exceeded")
        metrics = httpx.get(f"{server.url}/metrics").text
        assert re.search(r'auricle_key_refusals_total{key="two",limit="sessions"[^}]*} 1.0', metrics)


def test_a_session_is_a_request_of_its_key() -> None:
    """Also one that a client secret opens; making the secret is none, and a session that is refused is none either."""
    keys = [ApiKey("anna", digest_of("sk-anna"), requests_per_hour=1)]
    with serving(api_keys=keys) as server:
        path = f"{server.url}/v1/realtime/client_secrets"
        secret = httpx.post(path, json={}, headers=bearer("sk-anna")).json()["value"]
        assert refusal(server, "?model=none", **bearer("sk-anna"))[0] == 404
        with connected(server, **bearer(secret)) as session:
            session.answers()
        status, error = refusal(server, **bearer("sk-anna"))
        assert (status, error["type"], error["code"]) == (429, "rate_limit_error", "rate_limit_exceeded")
        assert int(error["retry-after"]) >= 3_600


def test_where_somebody_waits_for_long_nobody_more_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server, opened(server):
        monkeypatch.setattr(Session, "overdue_s", MAX_OVERDUE_S + 1)
        assert refusal(server)[0] == 429


def test_a_session_ends_at_its_limit() -> None:
    """RTW-10."""
    with serving({"max_session_s": 1.0}) as server, opened(server) as session:
        error = session.next()
        assert error["error"]["code"] == "session_expired"
        assert close_code(session) == 1001


def test_what_was_committed_before_its_limit_is_told() -> None:
    gate = asyncio.Event()
    recognizer = FakeRecognizer(gate=lambda index: gate)
    with (
        serving({"max_session_s": 2.0}, recognizer=recognizer) as server,
        opened(server, turn_detection=None) as session,
    ):
        session.append(speech())
        session.commit()
        session.until("error")
        gate._loop.call_soon_threadsafe(gate.set)  # type: ignore[attr-defined]
        (completed,) = session.completed()
        assert completed["transcript"] == "Hello."
        assert close_code(session) == 1001


@contextmanager
def going_away(recognizer: FakeRecognizer) -> Iterator[tuple[Server, ClientSession]]:
    """A replica that is about to end, and has a turn that is committed."""
    is_ending: list[bool] = []
    with (
        serving(recognizer=recognizer, is_shutting_down=lambda: bool(is_ending)) as server,
        opened(server, turn_detection=None) as session,
    ):
        session.append(speech())
        session.commit()
        session.until("input_audio_buffer.committed")
        is_ending.append(True)
        yield server, session


def test_a_replica_that_goes_away_finishes_what_was_committed() -> None:
    """RTW-14."""
    gate = asyncio.Event()
    recognizer = FakeRecognizer(gate=lambda index: gate)
    with going_away(recognizer) as (server, session):
        time.sleep(1.5)
        assert refusal(server)[0] == 503
        recognizer.gate = lambda index: None
        gate._loop.call_soon_threadsafe(gate.set)  # type: ignore[attr-defined]
        (completed,) = session.completed()
        assert completed["transcript"] == "Hello."
        assert close_code(session) == 1012


def test_what_is_committed_until_the_last_moment_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that goes away does not listen for ever, and tells of all that it took."""
    monkeypatch.setattr("deployments.ingress.realtime.route.FINISH_S", 0.1)
    gate = asyncio.Event()
    recognizer = FakeRecognizer(gate=lambda index: gate)
    with going_away(recognizer) as (_, session):
        time.sleep(2.5)
        gate._loop.call_soon_threadsafe(gate.set)  # type: ignore[attr-defined]
        (completed,) = session.completed()
        assert completed["transcript"] == "Hello."
        assert close_code(session) == 1012


def test_whoever_reads_nothing_is_not_heard() -> None:
    """What it is told does not grow without bound; when it reads, all is there."""
    with serving() as server, opened(server) as session:
        for _ in range(3_000):
            session.send("response.create")
        errors = 0
        while errors < 3_000:
            errors += session.next()["type"] == "error"
        session.answers()


class Socket:
    """Of a client that reads nothing; `frames` have come before anybody asks, as behind Serve's proxy."""

    application_state = WebSocketState.CONNECTED
    headers = Headers()

    def __init__(self, frames: Iterator[dict[str, Any]]) -> None:
        self.frames = frames
        self.code: int | None = None

    async def accept(self, protocol: str | None) -> None: ...

    async def receive(self) -> dict[str, Any]:
        return next(self.frames)

    async def send_text(self, text: str) -> None: ...

    async def close(self, code: int) -> None:
        self.code = code


async def run(socket: Socket) -> None:
    session = Session(services(FakeRecognizer()), SessionConfig.of_model(MODEL), 0)
    await asyncio.wait_for(Connection(socket, session, session._services).run(), 5)  # type: ignore[arg-type]


async def test_whoever_leaves_with_much_unread_has_left() -> None:
    """Nothing can be written any more, and nobody reads: the session ends all the same."""

    class Gone(Socket):
        async def receive(self) -> dict[str, Any]:
            await asyncio.sleep(0)
            return await super().receive()

        async def send_text(self, text: str) -> None:
            await asyncio.sleep(0.2)
            raise WebSocketDisconnect(1006)

        async def close(self, code: int) -> None:
            raise RuntimeError("it is closed")

    await run(Gone(repeat({"type": "websocket.receive", "text": "{}"})))


async def test_whoever_leaves_is_not_heard_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """RTW-10, CON-03: of an hour that is there already."""
    handled: list[str] = []

    async def handle(self: Session, text: str) -> None:
        handled.append(text)

    monkeypatch.setattr(Session, "handle", handle)
    frames = [*[{"type": "websocket.receive", "text": "{}"}] * 50_000, {"type": "websocket.disconnect"}]
    await run(socket := Socket(iter(frames)))
    assert len(handled) < 100
    assert socket.code is None


@pytest.mark.parametrize("content", [{"text": "x" * 1_000_000}, {"text": ""}, {"bytes": b"x"}])
async def test_what_is_sent_ahead_is_bounded(content: dict[str, Any]) -> None:
    """Serve's proxy holds nobody up, so that a session ends that would fill the memory, also with nothing."""
    await run(socket := Socket(repeat({"type": "websocket.receive", **content})))
    assert socket.code == 1008


async def test_others_are_served_between_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """CON-02."""
    num_turns, seen = 0, []

    async def handle(self: Session, text: str) -> None:
        seen.append(num_turns)

    async def take_turns() -> None:
        nonlocal num_turns
        while True:
            num_turns += 1
            await asyncio.sleep(0)

    class Staying(Socket):
        async def receive(self) -> dict[str, Any]:
            while (frame := next(self.frames, None)) is None:
                await asyncio.sleep(0)
                if len(seen) == 100:
                    return {"type": "websocket.disconnect"}
            return frame

    monkeypatch.setattr(Session, "handle", handle)
    others = asyncio.create_task(take_turns())
    await run(Staying(iter([{"type": "websocket.receive", "text": "{}"}] * 100)))
    others.cancel()
    assert all(before < after for before, after in pairwise(seen))


def speech() -> bytes:
    samples, _ = soundfile.read(DATA / "en-08.flac", dtype="float32")
    return pcm(with_pauses(samples))


def until_free(server: Server) -> None:
    """The server notices that its clients have gone."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with opened(server):
                return
        except InvalidStatus:
            time.sleep(0.05)
    raise AssertionError("the places of sessions that have ended are not free")
