"""The page, and a /v1/realtime that says what it is told to, whatever it hears."""

import asyncio
from base64 import b64decode
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, WebSocket

from deployments.ingress.page.route import page_router

SECRET = "ek_scripted"
TRANSCRIPTION = "conversation.item.input_audio_transcription"
CARD = {"id": "whisper", "root": "whisper", "task": "transcription", "family": "whisper", "tasks": ["transcribe"]}

SPEAK_TIMEOUT_S = 30

Script = list[dict[str, Any]]


def page_app() -> FastAPI:
    """The page, and what it looks at all the time."""
    app = FastAPI(docs_url=None)
    app.include_router(page_router())
    app.get("/health")(lambda: {"status": "healthy"})
    app.get("/metrics")(lambda: "")
    return app


@dataclass
class ScriptedRealtime:
    """`script` is said after the first sound, `last_words` when the client commits. What the client did is kept.

    hangs_up: when `script` was said.
    """

    script: Script
    last_words: Script = field(default_factory=list)
    hangs_up: bool = False
    num_commits: int = 0
    sessions: list[Any] = field(default_factory=list)
    protocols: list[str] = field(default_factory=list)
    pcm: bytes = b""
    _loop: asyncio.AbstractEventLoop | None = None
    _socket: WebSocket | None = None

    def app(self) -> FastAPI:
        app = page_app()
        app.get("/v1/models")(lambda: {"data": [CARD]})
        app.post("/v1/realtime/client_secrets")(self._secret)
        app.websocket("/v1/realtime")(self._talk)
        return app

    def say(self, *script: dict[str, Any]) -> None:
        """Now, from the test's thread."""
        assert self._socket
        self._do(_say(self._socket, list(script)))

    def hang_up(self) -> None:
        assert self._socket
        self._do(self._socket.close())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop
        asyncio.run_coroutine_threadsafe(work, self._loop).result(SPEAK_TIMEOUT_S)

    async def _secret(self, request: Request) -> dict[str, Any]:
        self.sessions.append(await request.json())
        return {"value": SECRET, "expires_at": 0}

    async def _talk(self, socket: WebSocket) -> None:
        self.protocols = socket.scope["subprotocols"]
        await socket.accept("realtime")
        self._loop, self._socket = asyncio.get_running_loop(), socket
        await socket.send_json({"type": "session.created"})
        async for event in socket.iter_json():
            is_first = not self.pcm
            if event["type"] == "input_audio_buffer.append":
                self.pcm += b64decode(event["audio"])
            else:
                assert event == {"type": "input_audio_buffer.commit"}
                self.num_commits += 1
                await _say(socket, self.last_words)
            if is_first:
                await _say(socket, self.script)
                if self.hangs_up:
                    await socket.close()
                    return


async def _say(socket: WebSocket, script: Script) -> None:
    for event in script:
        await asyncio.sleep(0.02)
        await socket.send_json(event)


def started(item: str) -> dict[str, Any]:
    return {"type": "input_audio_buffer.speech_started", "item_id": item}


def stopped(item: str) -> dict[str, Any]:
    return {"type": "input_audio_buffer.speech_stopped", "item_id": item}


def committed(item: str) -> dict[str, Any]:
    return {"type": "input_audio_buffer.committed", "item_id": item}


def delta(item: str, text: str) -> dict[str, Any]:
    return {"type": f"{TRANSCRIPTION}.delta", "item_id": item, "delta": text}


def segment(item: str, speaker: str, text: str) -> dict[str, Any]:
    return {"type": f"{TRANSCRIPTION}.segment", "item_id": item, "speaker": speaker, "text": text, "start": 0, "end": 1}


def completed(item: str, text: str) -> dict[str, Any]:
    return {"type": f"{TRANSCRIPTION}.completed", "item_id": item, "transcript": text}
