"""Live captions: the browser's microphone to /v1/realtime, and captions back. First over a server that follows a
script, then over the real one."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from playwright.sync_api import Page, WebSocket, expect

from tests.conftest import Server
from tests.page.conftest import KEEP_STREAM, Visit, assert_accessible
from tests.page.scripted_realtime import (
    SECRET,
    TRANSCRIPTION,
    ScriptedRealtime,
    committed,
    completed,
    delta,
    segment,
    started,
    stopped,
)
from tests.scripted.server import served

pytestmark = pytest.mark.xdist_group("real")

TIMEOUT_MS = 60_000
ENDED = "The server ended the live connection."


def listen(page: Page) -> None:
    expect(page.locator("#listen")).to_be_enabled()
    page.locator("#listen").click()


@contextmanager
def listening(visit: Visit, server: ScriptedRealtime) -> Iterator[Page]:
    with served(server.app()) as running:
        page = visit(running.url)
        try:
            listen(page)
            yield page
        finally:
            page.close()  # it would go on to ask a server that is no more


def test_the_protocol(visit: Visit) -> None:
    """A secret in the socket, 24 kHz in, captions out, and the last words waited for."""
    begun = [started("a"), delta("a", "One"), committed("a"), completed("a", "One."), started("b"), delta("b", "Tw")]
    server = ScriptedRealtime(begun, last_words=[committed("b"), delta("b", "o"), completed("b", "Two.")])
    with listening(visit, server) as page:
        expect(page.locator("#captions")).to_have_text("One.")
        expect(page.locator("#partial")).to_have_text("Tw")
        expect(page.locator("#live-state")).to_have_text("Hearing you")
        assert_accessible(page)
        page.locator("#listen").press("Enter")
        expect(page.locator("#listen-text")).to_have_text("Start listening")
        expect(page.locator("#listen")).to_be_focused()
        assert page.locator("#captions p").all_inner_texts() == ["One.", "Two."]
        expect(page.locator("#save-captions")).to_be_visible()
    transcription = {"model": "whisper", "delay": "low"}
    audio = {"input": {"transcription": transcription, "turn_detection": {"type": "server_vad"}}}
    assert server.sessions == [{"session": {"type": "transcription", "audio": audio}}]
    assert server.protocols == ["realtime", f"openai-insecure-api-key.{SECRET}"]
    assert np.abs(np.frombuffer(server.pcm, "<i2")).max() > 1_000


def test_speakers(visit: Visit) -> None:
    """Whose turn is told once: the whole transcript that follows says nothing new."""
    turn = [committed("a"), segment("a", "A", "Hello."), segment("a", "B", "Hi."), completed("a", "Hello. Hi.")]
    with listening(visit, ScriptedRealtime([started("a"), *turn, started("b"), delta("b", "And")])) as page:
        expect(page.locator("#partial")).to_have_text("And")
        assert page.locator("#captions p").all_text_contents() == ["Speaker AHello.", "Speaker BHi."]


def test_what_goes_wrong_is_said_in_the_server_s_words(visit: Visit) -> None:
    failed = {"type": f"{TRANSCRIPTION}.failed", "item_id": "a", "error": {"message": "It was too much."}}
    with listening(visit, ScriptedRealtime([started("a"), delta("a", "One"), failed])) as page:
        expect(page.locator("#live-problem")).to_have_text("It was too much.")
        expect(page.locator("#captions")).to_have_text("One")
        expect(page.locator("#partial")).to_be_empty()


def test_a_connection_that_ends(visit: Visit) -> None:
    with listening(visit, ScriptedRealtime([], hangs_up=True)) as page:
        expect(page.locator("#live-problem")).to_have_text(ENDED)
        expect(page.locator("#listen-text")).to_have_text("Start listening")


def test_words_outlive_a_lost_connection(visit: Visit) -> None:
    with listening(visit, ScriptedRealtime([started("a"), delta("a", "One")], hangs_up=True)) as page:
        expect(page.locator("#live-problem")).to_have_text(ENDED)
        expect(page.locator("#captions")).to_have_text("One")
        expect(page.locator("#partial")).to_be_empty()


def test_a_connection_that_ends_before_the_last_words(visit: Visit) -> None:
    server = ScriptedRealtime([started("a"), delta("a", "One")])
    with listening(visit, server) as page:
        expect(page.locator("#partial")).to_have_text("One")
        page.locator("#listen").click()
        server.hang_up()
        expect(page.locator("#live-problem")).to_have_text(ENDED)
        expect(page.locator("#captions")).to_have_text("One")
        expect(page.locator("#save-captions")).to_be_visible()


def test_speech_that_begins_as_it_stops(visit: Visit) -> None:
    """It was on its way when the button was pressed: it is waited for, too."""
    server = ScriptedRealtime([started("a"), committed("a"), delta("a", "One")])
    with listening(visit, server) as page:
        expect(page.locator("#partial")).to_have_text("One")
        page.locator("#listen").click()
        server.say(started("b"), stopped("b"), completed("a", "One."))
        expect(page.locator("#captions")).to_have_text("One.")
        expect(page.locator("#live-state")).to_have_text("Waiting for the last words")
        server.say(committed("b"), completed("b", "Two."))
        expect(page.locator("#listen-text")).to_have_text("Start listening")
        assert page.locator("#captions p").all_inner_texts() == ["One.", "Two."]
        expect(page.locator("#live-problem")).to_be_empty()
    assert server.num_commits == 1


def test_a_microphone_that_cannot_be_used_is_let_go(visit: Visit) -> None:
    with served(ScriptedRealtime([]).app()) as running:
        page = visit(running.url)
        page.evaluate(KEEP_STREAM)
        page.evaluate("() => { AudioWorklet.prototype.addModule = () => Promise.reject(new Error('No worklet.')); }")
        listen(page)
        expect(page.locator("#live-problem")).to_have_text("No worklet.")
        assert page.evaluate("window.stream.getTracks().map((track) => track.readyState)") == ["ended"]
        page.close()


def test_captions(visit: Visit, real_server: Server) -> None:
    page = visit(real_server.url)
    sockets: list[WebSocket] = []
    page.on("websocket", lambda socket: sockets.append(socket))
    listen(page)
    expect(page.locator("#captions-box")).to_contain_text("you can do", timeout=TIMEOUT_MS)
    page.wait_for_timeout(2_000)  # the rest of the sentence
    page.locator("#listen").click()
    expect(page.locator("#listen-text")).to_have_text("Start listening", timeout=TIMEOUT_MS)
    expect(page.locator("#captions")).to_contain_text("can do for your country")
    expect(page.locator("#partial")).to_be_empty()
    expect(page.locator("#live-problem")).to_be_empty()
    (socket,) = sockets
    assert socket.is_closed()


def test_captions_with_speakers(visit: Visit, real_server: Server) -> None:
    page = visit(real_server.url)
    page.locator("#model").select_option("gpt-4o-transcribe-diarize")
    listen(page)
    expect(page.locator("#captions-box")).to_contain_text("country", timeout=TIMEOUT_MS)
    expect(page.locator("#captions-box")).to_contain_text("Speaker A")
    expect(page.locator("#live-problem")).to_be_empty()
