"""GET /v1/realtime, as a WebSocket, and POST /v1/realtime/client_secrets."""

import asyncio
import json
import logging
import time
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from deployments.ingress.catalogue import Catalogue
from deployments.ingress.http.errors import error_response
from deployments.ingress.http.json_body import inlined_schema, parse, read_json
from deployments.ingress.realtime.admission import PROTOCOL, OpenSessions, identify, offered_protocols
from deployments.ingress.realtime.client_secrets import Claims, ClientSecrets
from deployments.ingress.realtime.events import new_id
from deployments.ingress.realtime.rules import check_language, check_session
from deployments.ingress.realtime.schema import ClientSecretRequest, SessionConfig
from deployments.ingress.realtime.session import Session
from deployments.ingress.services import Services
from pipelines.errors import AudioServerError, InvalidRequest, Overloaded

logger = logging.getLogger("ray.serve")

ENDED, GOES_AWAY, TOO_MUCH, RESTARTS = 1000, 1001, 1008, 1012
"""Close codes (RFC 6455, section 7.4, and the registry that it opened)."""

WATCH_S = 1.0
FINISH_S, LAST_S = 45.0, 10.0
"""How long a client is heard whose replica goes, and how long what it committed meanwhile may take. Together less than
the ingress's graceful_shutdown_timeout_s."""

MAX_OUTGOING = 1_000
"""Events that a client may leave unread before it is no longer heard."""

MAX_UNREAD_CHARACTERS = 64 * 1_048_576
"""Of frames that have come and were not worked on yet: 17 minutes of PCM. Serve's proxy reads whatever comes, and holds
nobody up."""

MIN_FRAME_CHARACTERS = 100
"""As what a frame counts there at least: one that says nothing takes memory as well."""


def client_secrets_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["realtime"])
    schema = {"requestBody": {"content": {"application/json": {"schema": inlined_schema(ClientSecretRequest)}}}}

    @router.post("/v1/realtime/client_secrets", openapi_extra=schema)
    async def create_client_secret(request: Request) -> JSONResponse:
        body = parse(await read_json(request, services.limits.max_upload_s), ClientSecretRequest, frozenset())
        config = await initial_config(services, None, body.session)
        expires_at = int(time.time()) + body.expires_after.seconds
        owner = request.state.api_key.owner if request.state.api_key else ""
        value = ClientSecrets(services.signing_key).issue(Claims(owner, expires_at, config.on_wire()))
        session = {"id": new_id("sess"), "object": "realtime.transcription_session", "expires_at": expires_at}
        return JSONResponse({"value": value, "expires_at": expires_at, "session": {**session, **config.on_wire()}})

    return router


def realtime_router(services: Services) -> APIRouter:
    router = APIRouter()
    sessions = OpenSessions(services)

    @router.websocket("/v1/realtime")
    async def realtime(websocket: WebSocket) -> None:
        try:
            claims, key = identify(websocket, services)
            config = await initial_config(services, websocket.query_params.get("model"), claims.session)
            sessions.check(key)  # and nothing is waited for until it is held
            expires_at = int(time.time() + services.limits.max_session_s)
            session = Session(services, config, expires_at, key)
            services.quotas.check_audio(key)
            services.quotas.take_request(key)
        except AudioServerError as error:
            await websocket.send_denial_response(error_response(error))
            return
        with sessions.hold(session, key):
            await Connection(websocket, session, services).run()

    return router


async def initial_config(services: Services, model_id: str | None, given: dict[str, Any]) -> SessionConfig:
    """What a session begins with.

    Args:
        model_id: of the address.

    Raises:
        InvalidRequest, ModelNotFound
        ModelUnavailable: it cannot say which languages it knows.
    """
    config = SessionConfig.of_model(_default_model(services.catalogue)).updated(given)
    if model_id is not None:
        services.catalogue.speech_model(model_id)
        config = config.updated({"audio": {"input": {"transcription": {"model": model_id}}}})
    model = check_session(config, services.catalogue)
    await check_language(config, model, services.recognizers[model.root])
    return config


def _default_model(catalogue: Catalogue) -> str:
    """
    Raises:
        InvalidRequest: there are models that chat, or translate, and no others.
    """
    for model in catalogue.models:
        if "transcribe" in model.tasks:
            return model.id
    raise InvalidRequest("No model of this server transcribes.", "model", "model_not_found")


class Connection:
    """A session's socket: frames in and out, until somebody ends it."""

    def __init__(self, websocket: WebSocket, session: Session, services: Services) -> None:
        self._websocket = websocket
        self._session = session
        self._services = services
        self._incoming: asyncio.Queue[str | None] = asyncio.Queue()
        self._num_unread = 0

    async def run(self) -> None:
        started_at = time.monotonic()
        protocol = PROTOCOL if PROTOCOL in offered_protocols(self._websocket) else None
        await self._websocket.accept(protocol)
        writing = asyncio.create_task(self._write())
        code = None
        try:
            code = await self._first_end(writing)
            if code in (RESTARTS, GOES_AWAY):
                await self._finish(LAST_S)
            await self._flush(writing)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await self._session.close()
            if code is not None and self._websocket.application_state is WebSocketState.CONNECTED:
                with suppress(RuntimeError, WebSocketDisconnect):
                    await self._websocket.close(code)
            numbers = {"session": self._session.id, "seconds": round(time.monotonic() - started_at, 3), "code": code}
            logger.info("A realtime session ended: %s", numbers, extra=numbers)

    async def _first_end(self, writing: "asyncio.Task[None]") -> int | None:
        """The code to close with; none where the client has gone, as reading or writing tells."""
        ends = [asyncio.create_task(end) for end in (self._read(), self._work(), self._expire(), self._watch())]
        try:
            await asyncio.wait([*ends, writing], return_when=asyncio.FIRST_COMPLETED)
            return next((end.result() for end in ends if end.done()), None)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _read(self) -> int | None:
        """All that comes, at once: so that a client is known to have gone however much it has left behind."""
        while self._num_unread <= MAX_UNREAD_CHARACTERS:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return None
            text = message.get("text")
            self._num_unread += _weight(text)
            self._incoming.put_nowait(text)
        self._session.fail(Overloaded("Too much was sent ahead of what is heard. Send audio at the pace of speech."))
        return TOO_MUCH

    async def _work(self) -> None:
        while True:
            text = await self._incoming.get()
            self._num_unread -= _weight(text)
            if text is None:
                self._session.fail(InvalidRequest("Frames must be text: events in JSON.", None, "invalid_json"))
            else:
                await self._session.handle(text)
            await asyncio.sleep(0)  # others wait for the event loop, however many frames are there
            while self._session.outgoing.qsize() > MAX_OUTGOING:
                await asyncio.sleep(WATCH_S)

    async def _expire(self) -> int:
        max_s = self._services.limits.max_session_s
        await asyncio.sleep(max_s)
        message = f"The session has reached its limit of {max_s / 60:g} minutes."
        self._session.fail(InvalidRequest(message, None, "session_expired"))
        return GOES_AWAY

    async def _watch(self) -> int:
        """Until this process shall end: then what was committed is finished, and the client may go to another one."""
        while not self._services.is_shutting_down():
            await asyncio.sleep(WATCH_S)
        await self._finish(FINISH_S)
        return RESTARTS

    async def _finish(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._session.finish(), timeout_s)

    async def _write(self) -> None:
        outgoing = self._session.outgoing
        while True:
            event = await outgoing.get()
            await self._websocket.send_text(json.dumps(event, allow_nan=False))
            outgoing.task_done()

    async def _flush(self, writing: "asyncio.Task[None]") -> None:
        flushing = asyncio.create_task(self._session.outgoing.join())
        await asyncio.wait({flushing, writing}, timeout=WATCH_S, return_when=asyncio.FIRST_COMPLETED)
        flushing.cancel()


def _weight(text: str | None) -> int:
    return max(len(text or ""), MIN_FRAME_CHARACTERS)
