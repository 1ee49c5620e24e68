"""What goes wrong on the way of a recording to its text, over a server that follows a script."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from playwright.sync_api import Page, expect

from tests.conftest import Clip
from tests.page.conftest import KEEP_STREAM, Visit
from tests.page.scripted_realtime import CARD, page_app
from tests.scripted.server import served

DELTA = {"type": "transcript.text.delta", "delta": "One.", "start": 0.0, "end": 1.0, "words": []}
DONE = {"type": "transcript.text.done", "text": "One."}
FAILED = {"error": {"message": "It was too much.", "type": "server_error", "code": None, "param": None}}
CUT_OFF = "The server's answer ended before the transcript was whole."


@dataclass
class ScriptedTranscription:
    """`script`: the events of a streamed answer. num_busy: how often the models are not told."""

    script: list[dict[str, Any]] = field(default_factory=lambda: [DELTA, DONE])
    num_busy: int = 0
    num_uploads: int = 0

    def app(self) -> FastAPI:
        app = page_app()
        app.get("/v1/models")(self._models)
        app.post("/v1/audio/transcriptions")(self._transcribe)
        return app

    def _models(self) -> Response:
        self.num_busy -= 1
        if self.num_busy >= 0:
            return JSONResponse({"error": {"message": "Not yet.", "code": None}}, 429)
        return JSONResponse({"data": [CARD]})

    async def _transcribe(self, request: Request) -> Response:
        self.num_uploads += 1
        await request.form()
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[str]:
        for event in self.script:
            yield f"data: {json.dumps(event)}\n\n"


@contextmanager
def visiting(visit: Visit, server: ScriptedTranscription) -> Iterator[Page]:
    with served(server.app()) as running:
        page = visit(running.url)
        try:
            yield page
        finally:
            page.close()  # it would go on to ask a server that is no more


@pytest.mark.parametrize(("rest", "problem"), [([FAILED], "It was too much."), ([], CUT_OFF)])
def test_a_stream_that_fails(visit: Visit, clip: Clip, rest: list[dict[str, Any]], problem: str) -> None:
    """The server's sentence is told, what was heard stays, and nothing is sent again."""
    server = ScriptedTranscription([DELTA, *rest])
    with visiting(visit, server) as page:
        expect(page.locator("#model")).to_be_enabled()
        page.locator("#file").set_input_files(clip.path)
        expect(page.locator("#problem")).to_have_text(problem)
        expect(page.locator("#work")).to_be_hidden()
        expect(page.locator("#stage")).to_be_empty()
        expect(page.locator("#streamed")).to_have_text("One.")
        expect(page.locator("#downloads")).to_be_hidden()
    assert server.num_uploads == 1


def test_models_are_asked_for_until_they_are_told(visit: Visit) -> None:
    with visiting(visit, ScriptedTranscription(num_busy=1)) as page:
        expect(page.locator("#model")).to_be_enabled(timeout=30_000)
        expect(page.locator("#problem")).to_be_empty()
        expect(page.locator("#listen")).to_be_enabled()


def test_a_microphone_that_is_called_away(visit: Visit) -> None:
    """What it heard until then is taken all the same."""
    server = ScriptedTranscription()
    with visiting(visit, server) as page:
        expect(page.locator("#model")).to_be_enabled()
        page.evaluate(KEEP_STREAM)
        page.locator("#record").press("Enter")
        expect(page.locator("#record")).to_contain_text("0:01", timeout=30_000)
        expect(page.locator("#record")).to_be_focused()
        page.evaluate("window.stream.getTracks().forEach((track) => track.stop())")
        page.locator("#record").click()
        expect(page.locator("#transcript")).to_contain_text("One.")
        expect(page.locator("#record")).to_have_text("Record")
        expect(page.locator("#record")).to_be_enabled()


def test_a_text_that_cannot_be_copied(visit: Visit, clip: Clip) -> None:
    with visiting(visit, ScriptedTranscription()) as page:
        expect(page.locator("#model")).to_be_enabled()
        page.locator("#file").set_input_files(clip.path)
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('No.')); }")
        page.locator("#copy-text").click()
        expect(page.locator("#copied")).to_have_text("It could not be copied.")
        expect(page.locator("#copy-text")).to_have_text("Copy text")
