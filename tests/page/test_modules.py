"""What the page's modules compute, asked in a browser."""

from typing import Any

import pytest
from playwright.sync_api import Page

from pipelines.subtitles import to_srt, to_vtt
from pipelines.transcript_types import Segment
from tests.conftest import Server
from tests.page.conftest import Visit
from tests.scripted.server import scripted_api, served

TEXTS = [
    " A sentence that is longer than one line of a subtitle may be, so that it is cut & wrapped.",
    " ",
    " <b> " + 130 * "語" + " well-known 😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀 end",
    " " + 41 * "a" + " " + 50 * "b",
    " " + 42 * "a" + " " + 43 * "b" + " " + 30 * "c" + " " + 50 * "d",
]

SINE = """async (rateHz) => {
    const { PcmEncoder } = await import("/page/pcm.js");
    const encoder = new PcmEncoder(rateHz);
    const sine = Float32Array.from({ length: rateHz }, (_, at) => 0.5 * Math.sin((2 * Math.PI * 440 * at) / rateHz));
    const pieces = [];
    for (let at = 0; at < rateHz; at += 128) encoder.encode(sine.subarray(at, at + 128), (piece) => pieces.push(piece));
    const samples = pieces.flatMap((piece) => [...new Int16Array(piece)]);
    const numCrossings = samples.filter((sample, at) => samples[at - 1] < 0 && sample >= 0).length;
    return [pieces.map((piece) => piece.byteLength), numCrossings, Math.max(...samples)];
}"""


@pytest.fixture(scope="module")
def server() -> Any:
    with served(scripted_api()) as server:
        yield server


@pytest.fixture(scope="module")
def page(server: Server, visit: Visit) -> Page:
    return visit(server.url)


def segment(start_s: float, text: str) -> Segment:
    return Segment(start_s, start_s + 3, text, (), 0.0, 0.0, 0.0, 0.0, start_s, ())


@pytest.mark.parametrize(("function", "written"), [("toSrt", to_srt), ("toVtt", to_vtt)])
def test_subtitles_are_the_server_s(page: Page, function: str, written: Any) -> None:
    segments = [segment(3599.5 + 2.5 * number, text) for number, text in enumerate(TEXTS)]
    wire = [{"start": one.start_s, "end": one.end_s, "text": one.text} for one in segments]
    run = f"async (segments) => (await import('/page/subtitles.js')).{function}(segments)"
    assert page.evaluate(run, wire) == written(segments, 42)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_pcm_of_any_microphone(page: Page, rate_hz: int) -> None:
    sizes, num_crossings, loudest = page.evaluate(SINE, rate_hz)
    assert sizes == 10 * [4_800]
    assert num_crossings == pytest.approx(440, abs=2)
    assert loudest == pytest.approx(16_384, rel=0.01)


def test_words_are_found_in_the_text(page: Page) -> None:
    run = "async ([segment, words]) => (await import('/page/words.js')).piecesOf(segment, words)"
    words = [{"word": word, "start": start, "end": start + 1} for start, word in enumerate(["So", "nothing", "so."])]
    segment = {"text": " “So”, and so.", "start": 0, "end": 3}
    pieces = page.evaluate(run, [segment, words])
    assert "".join(piece["text"] for piece in pieces) == segment["text"]
    assert [(piece["text"], piece["word"]["start"]) for piece in pieces if piece["word"]] == [("So", 0), ("so.", 2)]
