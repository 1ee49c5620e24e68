"""GEN-11 on the wire of a real HTTP server in this process: the status in time, blank lines until there is text."""

import asyncio
import threading
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from pipelines.audio_types import AudioChunk, AudioClip
from pipelines.errors import InvalidRequest, ModelUnavailable, UndecodableAudio
from pipelines.ports import OpenUpload
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo
from tests.conftest import free_port
from tests.deployments.ingress.fakes import CHAT_MODEL, MODEL, FakeChatModel, FakeReader, FakeRecognizer, api
from tests.support.clocked import Clocked, clocked_form, clocked_json

SLOW_S = 5.5
"""Longer than clients wait for a byte, and than the server waits before its status."""

CLIENTS = ThreadPoolExecutor(16)
SPEECH = {"type": "input_audio", "input_audio": {"data": b64encode(b"audio").decode(), "format": "wav"}}
TRANSCRIPTIONS, TRANSLATIONS, CHAT = "/v1/audio/transcriptions", "/v1/audio/translations", "/v1/chat/completions"


@dataclass
class SlowReader(FakeReader):
    """`slow_s` to decode anything, and then perhaps an error."""

    slow_s: float = 0.0
    error: Exception | None = None

    @asynccontextmanager
    async def open(self, *args: Any) -> AsyncGenerator[OpenUpload, None]:
        await self._decode()
        async with super().open(*args) as upload:
            yield upload

    async def read_recording(self, *args: Any) -> Any:
        await self._decode()
        return await super().read_recording(*args)

    async def read_clip(self, upload: bytes, max_duration_s: float) -> AudioClip:
        await self._decode()
        raise UndecodableAudio("No reference.")

    async def _decode(self) -> None:
        await asyncio.sleep(self.slow_s)
        if self.error:
            raise self.error


@dataclass
class SlowRecognizer(FakeRecognizer):
    """`slow_s` for each chunk, `loading_s` to tell what it is."""

    slow_s: float = 0.0
    loading_s: float = 0.0

    async def transcribe(
        self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
    ) -> ChunkTranscript:
        await asyncio.sleep(self.slow_s)
        return await super().transcribe(chunk, options)

    async def info(self) -> RecognizerInfo:
        await asyncio.sleep(self.loading_s)
        return await super().info()


@dataclass
class SlowChatModel(FakeChatModel):
    slow_s: float = 0.0
    loading_s: float = 0.0

    async def generate(self, *args: Any) -> Any:
        await asyncio.sleep(self.slow_s)
        async for delta in super().generate(*args):
            yield delta

    async def info(self) -> Any:
        await asyncio.sleep(self.loading_s)
        return await super().info()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Its URL, over TCP."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


async def asked(app: FastAPI, path: str, **fields: Any) -> Clocked:
    return await asyncio.get_running_loop().run_in_executor(CLIENTS, _asked, app, path, fields)


def _asked(app: FastAPI, path: str, fields: dict[str, Any]) -> Clocked:
    body = {"model": CHAT_MODEL if path == CHAT else MODEL, "stream": True, **fields}
    with served(app) as url:
        if path == CHAT:
            messages = [{"role": "user", "content": body.pop("content", "Hello")}]
            return clocked_json(url + path, messages=messages, **body)
        return clocked_form(url + path, b"audio", **{name: str(value) for name, value in body.items()})


async def test_gen_11_whatever_takes_its_time() -> None:
    """All at once, so that this test takes no longer than one of them."""
    text, loading = {"slow_s": SLOW_S}, {"loading_s": SLOW_S}
    answers = await asyncio.gather(
        asked(api(recognizer=SlowRecognizer(**text)), TRANSCRIPTIONS),
        asked(api(recognizer=SlowRecognizer(**text)), TRANSLATIONS),
        asked(api(chat_model=SlowChatModel(**text)), CHAT),
        asked(api(recognizer=SlowRecognizer(**loading)), TRANSCRIPTIONS, language="en"),
        asked(api(recognizer=SlowRecognizer(**loading)), TRANSLATIONS),
        asked(api(chat_model=SlowChatModel(**loading)), CHAT, content=[SPEECH]),
        asked(api(SlowReader(slow_s=SLOW_S)), TRANSCRIPTIONS),
        asked(api(SlowReader(slow_s=SLOW_S)), CHAT, content=[SPEECH]),
    )
    for answer in answers:
        answer.check(min_s=SLOW_S)
        assert "error" not in answer.events[-1]


async def test_trs_05_cht_33_what_is_found_later_is_an_event() -> None:
    late = SlowReader(slow_s=SLOW_S, error=UndecodableAudio("Not audio."))
    heard, chatted, lost = await asyncio.gather(
        asked(api(late), TRANSCRIPTIONS),
        asked(api(late), CHAT, content=[SPEECH]),
        asked(api(recognizer=SlowRecognizer([ModelUnavailable("Lost.")], slow_s=SLOW_S)), TRANSCRIPTIONS),
    )
    for answer in (heard, chatted, lost):
        answer.check(min_s=SLOW_S)
    assert [event["error"]["param"] for event in heard.events] == ["file"]
    assert [event["error"]["param"] for event in chatted.events] == ["messages[0].content[0].input_audio.data"]
    assert [event["error"]["code"] for event in lost.events] == ["service_unavailable"]


@pytest.mark.parametrize(
    ("app", "path", "fields", "param"),
    [
        (api(SlowReader(error=UndecodableAudio("No."))), TRANSCRIPTIONS, {}, "file"),
        (
            api(SlowReader(error=UndecodableAudio("No.")), SlowRecognizer(loading_s=SLOW_S)),
            TRANSCRIPTIONS,
            {"language": "en"},
            "file",
        ),
        (api(SlowReader(slow_s=SLOW_S)), TRANSCRIPTIONS, {"language": "fr"}, "language"),
        (api(SlowReader(slow_s=SLOW_S)), TRANSCRIPTIONS, {"temperature": 7}, "temperature"),
        (api(SlowReader(error=UndecodableAudio("No."))), CHAT, {"content": [SPEECH]}, "messages[0].content[0]"),
        (api(chat_model=SlowChatModel([InvalidRequest("No.", "messages")])), CHAT, {}, "messages"),
        (api(chat_model=SlowChatModel(slow_s=SLOW_S)), CHAT, {"n": 0}, "n"),
    ],
    ids=["upload", "upload-loading", "language", "temperature", "chat-audio", "chat-model", "chat-n"],
)
async def test_what_is_known_in_time_is_a_status(app: FastAPI, path: str, fields: dict[str, Any], param: str) -> None:
    answer = await asked(app, path, **fields)
    assert answer.status == 400
    assert answer.error["param"].startswith(param)


async def test_who_does_not_stream_gets_its_status_however_late() -> None:
    late = SlowReader(slow_s=SLOW_S, error=UndecodableAudio("Not audio."))
    for answer in await asyncio.gather(
        asked(api(late), TRANSCRIPTIONS, stream=False), asked(api(late), CHAT, stream=False, content=[SPEECH])
    ):
        assert answer.times_s[0] >= SLOW_S
        assert answer.status == 400
