"""What a chat model is sent of a recording, on the scripted server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from tests.conformance.audio import encode, samples_of, silence
from tests.conftest import Clip, Server
from tests.page.conftest import Visit
from tests.scripted.server import scripted_api, served

BIG_S = 130.0
"""Of WAV, more than 4 MB."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served(scripted_api()) as server:
        yield server


@pytest.fixture
def page(server: Server, visit: Visit) -> Page:
    return visit(server.url)


def ask(page: Page, question: str) -> list[dict[str, Any]]:
    """The messages that are sent."""
    expect(page.locator("#send")).to_be_enabled()
    page.locator("#question").fill(question)
    with page.expect_request("**/v1/chat/completions") as sending:
        page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_hidden()
    messages: list[dict[str, Any]] = sending.value.post_data_json["messages"]
    return messages


def test_nothing_is_asked_without_a_recording(page: Page) -> None:
    expect(page.locator("#ask-hint")).to_have_text("Needs a recording.")
    expect(page.locator("#question")).to_be_disabled()


def test_a_small_file_is_sent_once(page: Page, clip: Clip) -> None:
    page.locator("#file").set_input_files(clip.path)
    (first,) = ask(page, "What is it?")
    assert [part["type"] for part in first["content"]] == ["text", "input_audio"]
    assert first["content"][1]["input_audio"]["format"] == "flac"
    again = ask(page, "And what else?")
    assert [message["role"] for message in again] == ["user", "assistant", "user"]
    assert again[1]["content"] == page.locator(".said.assistant").first.inner_text()
    assert again[2]["content"] == "And what else?"


def test_a_model_that_hears_nothing_reads_the_transcript(page: Page, clip: Clip) -> None:
    asked: list[Any] = []

    def refuse_audio(route: Route) -> None:
        asked.append(content := route.request.post_data_json["messages"][0]["content"])
        error = {
            "error": {"message": "It hears nothing.", "type": "invalid_request_error", "param": None, "code": None}
        }
        if isinstance(content, list):
            route.fulfill(status=400, json=error)
        else:
            route.continue_()

    page.route("**/v1/chat/completions", refuse_audio)
    page.locator("#file").set_input_files(clip.path)
    expect(page.locator("#transcript")).to_be_visible()
    ask(page, "What is it?")
    heard, read = asked
    assert heard[1]["type"] == "input_audio"
    assert clip.text in read
    expect(page.locator("#ask-problem")).to_be_empty()
    assert page.locator(".said.assistant").last.inner_text() not in ("", "…", "No answer.")


def test_of_a_big_file_the_transcript_is_sent(page: Page, clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(encode(np.concatenate([samples_of(clip), silence(BIG_S)])))
    page.locator("#file").set_input_files(path)
    (message,) = ask(page, "What is it?")
    assert clip.text in message["content"]
    curl = page.locator("#curl").inner_text()
    assert "/v1/chat/completions" in curl
    assert "input_audio" not in curl + page.locator("#python").inner_text()
