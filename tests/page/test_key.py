"""The page on a server that wants a key."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from deployments.ingress.http.keys import unnamed
from tests.conftest import Clip, Server
from tests.page.conftest import Visit
from tests.scripted.server import scripted_api, served

KEY = "the-right-key"


@pytest.fixture(scope="module")
def closed_server() -> Iterator[Server]:
    with served(scripted_api(api_keys=unnamed([KEY]))) as server:
        yield server


def use_key(page: Page, key: str) -> None:
    page.locator("#key").fill(key)
    page.get_by_role("button", name="Use it").click()


def test_the_key_is_asked_for_only_as_needed(visit: Visit, closed_server: Server, clip: Clip) -> None:
    page = visit(closed_server.url)
    expect(page.locator("#key-hint")).to_contain_text("This server wants an API key.")
    expect(page.locator("#key")).to_be_focused()
    expect(page.locator("#listen")).to_be_disabled()
    use_key(page, "a-wrong-key")
    expect(page.locator("#key-hint")).to_contain_text("Incorrect API key provided.")
    use_key(page, KEY)
    expect(page.locator("#key-form")).to_be_hidden()
    expect(page.locator("#listen")).to_be_enabled()
    page.locator("#file").set_input_files(clip.path)
    expect(page.locator("#transcript")).to_contain_text(clip.text)
    assert page.evaluate("[Object.values(sessionStorage), localStorage.length, document.cookie]") == [[KEY], 0, ""]
    shown = page.locator("#curl").inner_text() + page.locator("#python").inner_text()
    assert KEY not in shown + page.content()
    assert "Bearer $OPENAI_API_KEY" in shown
    assert 'os.environ["OPENAI_API_KEY"]' in shown


def test_a_key_that_no_header_can_carry(visit: Visit, closed_server: Server) -> None:
    """The tab goes on: it is not kept."""
    page = visit(closed_server.url)
    use_key(page, "schlüssel")
    assert "ASCII" in page.locator("#key").evaluate("field => field.validationMessage")
    assert page.evaluate("sessionStorage.length") == 0
    use_key(page, KEY)
    expect(page.locator("#model")).to_be_enabled()


def test_a_key_that_no_longer_fits(visit: Visit, closed_server: Server, clip: Clip) -> None:
    page = visit(closed_server.url)
    use_key(page, KEY)
    expect(page.locator("#model")).to_be_enabled()
    page.evaluate("sessionStorage.setItem('auricle-key', 'old')")
    page.locator("#file").set_input_files(clip.path)
    expect(page.locator("#key")).to_be_focused()
    expect(page.locator("#problem")).to_have_text("Incorrect API key provided.")
