"""The README's pictures of the page: `python -m tests.page.screenshots http://127.0.0.1:8000`, of a running server."""

import sys

from playwright.sync_api import Page, expect, sync_playwright

from tests.conftest import DATA, JFK, ROOT
from tests.page.conftest import PROGRAM, arguments

TIMEOUT_MS = 120_000
TALK = DATA / "conversations" / "talk.opus"


def main(url: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=arguments(JFK.path))
        page = browser.new_page(viewport={"width": 1200, "height": 760}, reduced_motion="reduce")
        page.goto(url)
        page.get_by_label("Model").first.select_option(label="whisper-base with speakers")
        transcribe(page, TALK)
        page.locator(".line > div").nth(3).click()
        settle(page)
        page.screenshot(path=ROOT / "docs" / "page.png")
        phone = browser.new_page(
            viewport={"width": 390, "height": 720},
            device_scale_factor=1.5,
            color_scheme="dark",
            reduced_motion="reduce",
        )
        phone.goto(url)
        transcribe(phone, JFK.path)
        phone.locator(".word").nth(9).click()
        settle(phone)
        phone.screenshot(path=ROOT / "docs" / "page-phone.png")
        browser.close()


def transcribe(page: Page, path: object) -> None:
    expect(page.locator("#model")).to_be_enabled()
    page.locator("#file").set_input_files(str(path))
    expect(page.locator("#downloads")).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.locator("#work")).to_be_hidden(timeout=TIMEOUT_MS)


def settle(page: Page) -> None:
    """With a word or a line lit, and the player still."""
    expect(page.locator(".current").first).to_be_visible()
    page.locator("#player").evaluate("player => player.pause()")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.wait_for_timeout(2_500)  # by now the server is known to be idle again


if __name__ == "__main__":
    main(sys.argv[1])
