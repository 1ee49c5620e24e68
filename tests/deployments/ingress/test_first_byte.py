"""GEN-11 on the wire of a real HTTP server in this process: the status in time, blank lines until there is text."""

import asyncio
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from pipelines.errors import InvalidRequest, ModelUnavailable, UndecodableAudio
from tests.conftest import free_port
from tests.support.api import CHAT_MODEL, MODEL, api
from tests.support.clocked import Clocked, clocked_form, clocked_json
from tests.support.fake_chat_model import FakeChatModel, failing
from tests.support.fakes import FakeReader, FakeRecognizer

SLOW_S = 5.5
"""Longer than clients wait for a byte, and than the server waits before its status."""
MARGIN_S = 0.75
"""No other process is on the way."""

CLIENTS = ThreadPoolExecutor(16)
SPEECH = {"type": "input_audio", "input_audio": {"data": b64encode(b"audio").decode(), "format": "wav"}}
TRANSCRIPTIONS, TRANSLATIONS, CHAT = "/v1/audio/transcriptions", "/v1/audio/translations", "/v1/chat/completions"


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
        asked(api(recognizer=FakeRecognizer(**text)), TRANSCRIPTIONS),
        asked(api(recognizer=FakeRecognizer(**text)), TRANSLATIONS),
        asked(api(chat_model=FakeChatModel(**text)), CHAT),
        asked(api(recognizer=FakeRecognizer(**loading)), TRANSCRIPTIONS, language="en"),
        asked(api(recognizer=FakeRecognizer(**loading)), TRANSLATIONS),
        asked(api(chat_model=FakeChatModel(**loading)), CHAT, content=[SPEECH]),
        asked(api(FakeReader(slow_s=SLOW_S)), TRANSCRIPTIONS),
        asked(api(FakeReader(slow_s=SLOW_S)), CHAT, content=[SPEECH]),
    )
    for answer in answers:
        answer.check(min_s=SLOW_S, margin_s=MARGIN_S)
        assert "error" not in answer.events[-1]


async def test_trs_05_cht_33_what_is_found_later_is_an_event() -> None:
    late = FakeReader(slow_s=SLOW_S, error=UndecodableAudio("Not audio."))
    heard, chatted, lost = await asyncio.gather(
        asked(api(late), TRANSCRIPTIONS),
        asked(api(late), CHAT, content=[SPEECH]),
        asked(api(recognizer=FakeRecognizer(refusals={0: [ModelUnavailable("Lost.")]}, slow_s=SLOW_S)), TRANSCRIPTIONS),
    )
    for answer in (heard, chatted, lost):
        answer.check(min_s=SLOW_S, margin_s=MARGIN_S)
    assert [event["error"]["param"] for event in heard.events] == ["file"]
    assert [event["error"]["param"] for event in chatted.events] == ["messages[0].content[0].input_audio.data"]
    assert [event["error"]["code"] for event in lost.events] == ["service_unavailable"]


@pytest.mark.parametrize(
    ("app", "path", "fields", "param"),
    [
        (api(FakeReader(error=UndecodableAudio("No."))), TRANSCRIPTIONS, {}, "file"),
        (
            api(FakeReader(error=UndecodableAudio("No.")), FakeRecognizer(loading_s=SLOW_S)),
            TRANSCRIPTIONS,
            {"language": "en"},
            "file",
        ),
        (api(FakeReader(slow_s=SLOW_S)), TRANSCRIPTIONS, {"language": "fr"}, "language"),
        (api(FakeReader(slow_s=SLOW_S)), TRANSCRIPTIONS, {"temperature": 7}, "temperature"),
        (api(FakeReader(error=UndecodableAudio("No."))), CHAT, {"content": [SPEECH]}, "messages[0].content[0]"),
        (api(chat_model=FakeChatModel(failing(0, InvalidRequest("No.", "messages")))), CHAT, {}, "messages"),
        (api(chat_model=FakeChatModel(slow_s=SLOW_S)), CHAT, {"n": 0}, "n"),
    ],
    ids=["upload", "upload-loading", "language", "temperature", "chat-audio", "chat-model", "chat-n"],
)
async def test_what_is_known_in_time_is_a_status(app: FastAPI, path: str, fields: dict[str, Any], param: str) -> None:
    answer = await asked(app, path, **fields)
    assert answer.status == 400
    assert answer.error["param"].startswith(param)


async def test_who_does_not_stream_gets_its_status_however_late() -> None:
    late = FakeReader(slow_s=SLOW_S, error=UndecodableAudio("Not audio."))
    for answer in await asyncio.gather(
        asked(api(late), TRANSCRIPTIONS, stream=False), asked(api(late), CHAT, stream=False, content=[SPEECH])
    ):
        assert answer.times_s[0] >= SLOW_S
        assert answer.status == 400
