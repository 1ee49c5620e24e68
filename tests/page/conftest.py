"""A browser, and what every visit must not do: complain, or ask another host."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import soundfile
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.conftest import JFK

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next((path for name in PROGRAMS if (path := shutil.which(name))), None)

Visit = Callable[..., Page]

expect.set_options(timeout=30_000)  # a model may be at work behind it, and other tests beside it

KEEP_STREAM = """() => {
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => (window.stream = await open(wanted));
}"""
"""So that a test can look at what the microphone gives."""


def arguments(spoken: Path) -> list[str]:
    """Of a browser whose microphone hears `spoken`, once."""
    return [
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={spoken}%noloop",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser's microphone hears: WAV is all that it takes."""
    path = tmp_path_factory.mktemp("microphone") / "jfk.wav"
    samples, rate_hz = soundfile.read(JFK.path)
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")  # no longer: its event loop is in the way of other modules'
def browser(spoken: Path) -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("There is no browser: install Debian's package chromium, or Google Chrome.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=arguments(spoken))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visit(browser: Browser) -> Iterator[Visit]:
    """`visit(url, **context)`: a page in a context of its own."""
    complaints: list[str] = []
    contexts = []

    def opened(url: str, **options: object) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.extend(_complaints(message)))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.extend(_strangers(request, url)))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def _complaints(message: ConsoleMessage) -> list[str]:
    """A refused request is one to the browser; the page tells it by itself."""
    is_refusal = message.text.startswith("Failed to load resource: the server responded with a status of 4")
    return [] if message.type not in ("error", "warning") or is_refusal else [message.text]


def _strangers(request: Request, url: str) -> list[str]:
    is_ours = request.url.startswith("blob:") or urlsplit(request.url).netloc == urlsplit(url).netloc
    return [] if is_ours else [f"{request.url} was asked for"]


def assert_accessible(page: Page) -> None:
    """By axe's rules; the browser's own player is not ours."""
    found = Axe().run(page, context={"exclude": ["audio"]}).response["violations"]
    assert [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]] == []
