"""The page, and a /v1/realtime that says what it is told to, whatever it hears."""

import asyncio
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, WebSocket

from deployments.ingress.page.route import page_router

SECRET = "ek_scripted"
TRANSCRIPTION = "conversation.item.input_audio_transcription"
CARD = {"id": "whisper", "root": "whisper", "task": "transcription", "family": "whisper", "tasks": ["transcribe"]}

Script = list[dict[str, Any]]


@dataclass
class ScriptedRealtime:
    """`script` is said after the first sound, `last_words` when the client commits. What the client did is kept.

    hangs_up: when `script` was said.
    """

    script: Script
    last_words: Script = field(default_factory=list)
    hangs_up: bool = False
    sessions: list[Any] = field(default_factory=list)
    protocols: list[str] = field(default_factory=list)
    pcm: bytes = b""

    def app(self) -> FastAPI:
        app = FastAPI()
        app.include_router(page_router())
        app.get("/v1/models")(lambda: {"data": [CARD]})
        app.get("/health")(lambda: {"status": "healthy"})
        app.get("/metrics")(lambda: "")
        app.post("/v1/realtime/client_secrets")(self._secret)
        app.websocket("/v1/realtime")(self._talk)
        return app

    async def _secret(self, request: Request) -> dict[str, Any]:
        self.sessions.append(await request.json())
        return {"value": SECRET, "expires_at": 0}

    async def _talk(self, socket: WebSocket) -> None:
        self.protocols = socket.scope["subprotocols"]
        await socket.accept("realtime")
        await socket.send_json({"type": "session.created"})
        async for event in socket.iter_json():
            is_first = not self.pcm
            if event["type"] == "input_audio_buffer.append":
                self.pcm += b64decode(event["audio"])
            else:
                assert event == {"type": "input_audio_buffer.commit"}
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


def committed(item: str) -> dict[str, Any]:
    return {"type": "input_audio_buffer.committed", "item_id": item}


def delta(item: str, text: str) -> dict[str, Any]:
    return {"type": f"{TRANSCRIPTION}.delta", "item_id": item, "delta": text}


def completed(item: str, text: str) -> dict[str, Any]:
    return {"type": f"{TRANSCRIPTION}.completed", "item_id": item, "transcript": text}
