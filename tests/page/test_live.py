"""Live captions: the browser's microphone to /v1/realtime, and captions back."""

import httpx
import pytest
from playwright.sync_api import Page, WebSocket, expect

from tests.conftest import Server
from tests.page.conftest import Visit

pytestmark = pytest.mark.xdist_group("real")

TIMEOUT_MS = 60_000
SECRETS = "/v1/realtime/client_secrets"


@pytest.fixture
def page(visit: Visit, real_server: Server) -> Page:
    page = visit(real_server.url)
    expect(page.locator("#listen")).to_be_enabled()
    return page


def has_captions(server: Server) -> bool:
    return httpx.post(server.url + SECRETS, json={}).status_code != 404


def test_captions(page: Page, real_server: Server) -> None:
    if not has_captions(real_server):
        pytest.skip("This server has no live captions.")
    sockets: list[WebSocket] = []
    page.on("websocket", sockets.append)
    page.locator("#listen").click()
    expect(page.locator("#captions-box")).to_contain_text("ask not what your country", timeout=TIMEOUT_MS)
    page.wait_for_timeout(3_000)  # the rest of the sentence
    page.locator("#listen").click()
    expect(page.locator("#listen-text")).to_have_text("Start listening", timeout=TIMEOUT_MS)
    expect(page.locator("#captions")).to_contain_text("can do for your country")
    expect(page.locator("#partial")).to_be_empty()
    expect(page.locator("#live-problem")).to_be_empty()
    (socket,) = sockets
    assert socket.is_closed()


def test_a_server_without_them_is_said_to_be_one(page: Page, real_server: Server) -> None:
    if has_captions(real_server):
        pytest.skip("This server has live captions.")
    page.locator("#listen").click()
    expect(page.locator("#live-problem")).to_have_text("This server has no live captions.")
    expect(page.locator("#listen")).to_be_enabled()
