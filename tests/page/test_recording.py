"""The page on the real server: a recording goes in, and comes out as text."""

import json
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Dialog, Locator, Page, expect

from tests.conftest import DATA, JFK, ROOT, Server
from tests.page.conftest import Visit, assert_accessible

pytestmark = pytest.mark.xdist_group("real")

TIMEOUT_MS = 60_000
TALK = DATA / "conversations" / "talk.opus"
LONG = DATA / "conversations" / "libri-00.opus"
BAD = ROOT / "README.md"

DROP = """([name, data]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""


WATCH = """() => {
    window.lit = [];
    const note = () => {
        const current = [...document.querySelectorAll(".word.current")].map((word) => word.textContent).join();
        if (current && current !== window.lit.at(-1)) window.lit.push(current);
    };
    const transcript = document.getElementById("transcript");
    new MutationObserver(note).observe(transcript, { subtree: true, attributeFilter: ["class"] });
}"""


def drop(page: Page, path: Path) -> None:
    expect(page.locator("#model")).to_be_enabled()
    page.evaluate(DROP, [path.name, b64encode(path.read_bytes()).decode()])


def wait_until_done(page: Page) -> None:
    expect(page.locator("#downloads")).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.locator("#work")).to_be_hidden(timeout=TIMEOUT_MS)


def ask_api(server: Server, path: Path, endpoint: str = "transcriptions", **fields: Any) -> httpx.Response:
    data = {"model": "whisper-base", **fields}
    url = f"{server.url}/v1/audio/{endpoint}"
    return httpx.post(url, files={"file": (path.name, path.read_bytes())}, data=data, timeout=60)


def shown_text(page: Page) -> str:
    return " ".join(" ".join(page.locator("#transcript .line > div").all_inner_texts()).split())


@pytest.fixture(scope="module")
def page(visit: Visit, real_server: Server) -> Page:
    """The default one, where JFK was dropped."""
    page = visit(real_server.url, accept_downloads=True)
    drop(page, JFK.path)
    wait_until_done(page)
    return page


def test_the_words_of_a_dropped_file_are_the_api_s(page: Page, real_server: Server) -> None:
    fields = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
    answer = ask_api(real_server, JFK.path, **fields).json()
    assert shown_text(page) == answer["text"].strip()
    assert len(answer["words"]) > 15
    starts = page.locator(".word").evaluate_all("words => words.map((word) => Number(word.dataset.start))")
    assert starts == [word["start"] for word in answer["words"]]


@pytest.fixture
def still(page: Page) -> Iterator[Locator]:
    """The player, which stands where it is put, though it plays: what is seen then does not hang on anybody's speed."""
    player = page.locator("#player")
    player.evaluate("player => { player.playbackRate = 0; }")
    yield player
    player.evaluate("player => { player.pause(); player.playbackRate = 1; }")


def test_a_word_leads_to_its_moment_and_lights_up(page: Page, still: Locator) -> None:
    word = page.locator(".word", has_text="country").first
    word.click()
    expect(word).to_have_class("word current")
    start = float(word.get_attribute("data-start") or "nan")
    time, is_paused = still.evaluate("player => [player.currentTime, player.paused]")
    assert time == pytest.approx(start, abs=0.01)
    assert not is_paused


def test_words_light_up_while_it_plays(page: Page, still: Locator) -> None:
    """One at a time, in their order; a slow machine may not get to draw all of them."""
    page.evaluate(WATCH)
    page.locator(".word").first.click()
    expect(page.locator(".word").first).to_have_class("word current")
    expect(page.locator(".line").first).to_have_class("line current")
    still.evaluate("player => { player.playbackRate = 0.5; }")
    expect(page.locator(".line").nth(1)).to_have_class("line current", timeout=TIMEOUT_MS)
    lit = page.evaluate("window.lit")
    remaining = iter(page.locator(".word").all_inner_texts())
    assert len(lit) >= 4
    assert all(word in remaining for word in lit)


def test_arrows_go_from_word_to_word(page: Page) -> None:
    page.locator("#player").evaluate("player => { player.pause(); player.currentTime = 1; }")
    expect(page.locator(".line").first).to_have_class("line current")
    page.locator("#transcript").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect(page.locator(".line").nth(1)).to_have_class("line current")
    assert page.locator("#player").evaluate("player => player.paused")


@pytest.mark.parametrize("name", ["srt", "vtt", "txt"])
def test_what_is_saved_is_what_the_server_writes(page: Page, real_server: Server, name: str) -> None:
    with page.expect_download() as saving:
        page.locator(f"[data-save={name}]").click()
    assert saving.value.suggested_filename == f"jfk.{name}"
    format_name = {"txt": "text"}.get(name, name)
    assert saving.value.path().read_text() == ask_api(real_server, JFK.path, response_format=format_name).text


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_lines_that_are_shown_do_the_same(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown_text(page)
    events = [line.removeprefix("data: ") for line in run_curl(page.locator("#curl").inner_text()).splitlines() if line]
    assert "".join(json.loads(event).get("delta", "") for event in events[:-1]) == text
    exec(compile(python_lines(page), "page", "exec"), {})
    assert capsys.readouterr().out == text


def run_curl(lines: str) -> str:
    return subprocess.run(["bash", "-ec", lines], cwd=DATA, capture_output=True, text=True, check=True).stdout


def python_lines(page: Page) -> str:
    """As if they were run where the recordings are."""
    return page.locator("#python").inner_text().replace('open("', f'open("{DATA}/')


def test_a_question_about_it(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    page.locator("#question").fill("What is in this `audio`, for $1?")
    page.locator("#send").click()
    reply = page.locator(".said.assistant")
    expect(reply).not_to_have_text("…", timeout=TIMEOUT_MS)
    page.locator("#stop").dispatch_event("click")  # which a quick machine has hidden already
    expect(page.locator("#send")).to_be_enabled(timeout=TIMEOUT_MS)
    curl = page.locator("#curl").inner_text().replace(": 400,", ": 3,")
    assert '"finish_reason":"length"' in run_curl(curl).replace(" ", "")
    exec(compile(python_lines(page).replace("=400", "=3"), "page", "exec"), {})
    printed, shown = (" ".join(text.split()) for text in (capsys.readouterr().out, reply.inner_text()))
    length = min(len(printed), len(shown))  # either may have been stopped within a word
    assert length > 0
    assert printed[:length] == shown[:length]


def test_a_translation(visit: Visit, real_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    page = visit(real_server.url)
    spanish = DATA / "es-01.flac"
    page.locator("#translate").check()
    drop(page, spanish)
    wait_until_done(page)
    text = ask_api(real_server, spanish, "translations").json()["text"].strip()
    assert shown_text(page) == text
    exec(compile(python_lines(page), "page", "exec"), {})
    assert capsys.readouterr().out.strip() == text


def test_speakers(visit: Visit, real_server: Server) -> None:
    page = visit(real_server.url, color_scheme="dark")
    page.locator("#model").select_option(label="whisper-base with speakers")
    expect(page.locator("#translate")).to_be_disabled()
    drop(page, TALK)
    wait_until_done(page)
    assert page.locator(".lane").count() >= 2
    assert page.locator(".line .speaker").first.inner_text() == "Speaker A"
    page.locator(".lane .track").first.click()
    expect(page.locator(".line.current")).to_have_count(1)
    assert_accessible(page)


def test_it_can_be_cancelled(visit: Visit, real_server: Server) -> None:
    page = visit(real_server.url)
    drop(page, LONG)
    page.locator("#cancel").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#stage")).to_have_text("Cancelled.")
    expect(page.locator("#again")).to_be_focused()
    expect(page.locator("#problem")).to_be_empty()


def test_what_is_no_audio(visit: Visit, real_server: Server) -> None:
    page = visit(real_server.url)
    drop(page, BAD)
    expect(page.locator("#problem")).to_have_text(ask_api(real_server, BAD).json()["error"]["message"])
    expect(page.locator("#work")).to_be_hidden()
    assert_accessible(page)


def test_a_microphone_s_recording(visit: Visit, real_server: Server) -> None:
    page = visit(real_server.url)
    expect(page.locator("#model")).to_be_enabled()
    page.locator("#record").click()
    expect(page.locator("#record")).to_contain_text("0:04", timeout=TIMEOUT_MS)
    page.locator("#record").click()
    wait_until_done(page)
    assert "fellow" in shown_text(page)
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save the recording").click()
    assert saving.value.suggested_filename.startswith("recording-")
    assert saving.value.path().stat().st_size > 10_000


def test_a_recording_is_not_lost_by_leaving(visit: Visit, real_server: Server) -> None:
    page = visit(real_server.url)
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    expect(page.locator("#model")).to_be_enabled()
    page.locator("#record").click()
    expect(page.locator("#record")).to_contain_text("0:01", timeout=TIMEOUT_MS)
    page.evaluate("location.reload()")
    expect(page.locator("#record")).to_contain_text("0:03", timeout=TIMEOUT_MS)
    assert asked == ["beforeunload"]
    page.locator("#record").click()
    wait_until_done(page)
    page.evaluate("location.reload()")
    expect(page.locator("#file-name")).to_have_text("Drop audio or video here")
    assert asked == ["beforeunload"]


@pytest.mark.parametrize("width", [320, 1280])
def test_every_width_is_accessible_and_wide_enough(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert_accessible(page)
