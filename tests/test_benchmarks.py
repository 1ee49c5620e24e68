"""What benchmarks do before they ask a server."""

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from benchmarks import chat_load, latency
from benchmarks.accuracy import whisper_word_error_rate
from benchmarks.reliability import node_loss, rolling_update, soak
from benchmarks.reliability.kills import transcription
from benchmarks.reliability.long_upload import KINDS, ask, repeated
from benchmarks.scoring import word_error_rate
from deployments.audio.reader import UploadReader
from deployments.audio.silero import SileroModel
from pipelines.audio_types import DecodeLimits, VadOptions
from tests.conftest import ASR_MODEL, CHAT_MODEL, DATA, Server
from tests.scripted.server import scripted_api, served

JFK = DATA / "jfk.flac"


def test_answers_are_counted_by_the_default_model_s_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory holds a GGUF file and nothing else."""
    counted: list[int] = []

    def compare(servers: Any, asked: Any, clients: Any, tokenizer: Any) -> None:
        counted.append(len(tokenizer.encode("Ask what you can do.")))

    monkeypatch.setattr(chat_load, "compare", compare)
    monkeypatch.setattr(sys, "argv", ["chat_load", "--files", str(DATA / "jfk.flac")])
    chat_load.main()
    assert counted == [6]


def test_whisper_s_own_normaliser_forgives_how_a_word_is_written() -> None:
    spoken, heard = ["Mister Smith isn't twenty."], ["Mr. Smith is not 20"]
    assert word_error_rate(spoken, heard) > 0.5
    assert whisper_word_error_rate(spoken, heard) == 0
    assert whisper_word_error_rate(["They came home late."], ["They came late."]) == 0.25


@pytest.mark.xdist_group("real")
def test_the_latency_of_a_silence_is_that_of_answers(real_server: Server) -> None:
    seconds = latency.measure([real_server.url], ASR_MODEL, num_requests=3)
    assert len(seconds[real_server.url]) == 3
    with pytest.raises(RuntimeError, match="answered 400"):
        latency.measure([real_server.url], CHAT_MODEL, num_requests=1)


def test_a_slope_is_told_of_what_comes_after_the_warm_up() -> None:
    warm_up = [(10.0 * step, 50_000_000 * step) for step in range(60)]
    found = [*warm_up, *((600.0 + 10.0 * step, 9_000_000_000 + 100_000 * step) for step in range(60))]
    assert soak.slope(found, warm_up_s=600) == pytest.approx(36e6)


def test_a_recording_is_repeated_until_it_is_long_enough() -> None:
    upload = repeated(DATA / "conversations" / "libri-00.opus", 400)
    reader = UploadReader(upload, VadOptions(), SileroModel(), DecodeLimits())
    assert reader.info.duration_s == pytest.approx(400, abs=0.5)
    page = reader.next_page()
    while not page.is_last:
        page = reader.next_page(reader.position)
    assert page.info.duration_s == pytest.approx(400, abs=0.5)


@pytest.fixture(scope="module")
def scripted() -> Iterator[Server]:
    with served(scripted_api()) as server:
        yield server


def after(seconds: float) -> float:
    return time.monotonic() + seconds


async def test_the_clients_of_an_update_find_an_undisturbed_server_right(scripted: Server) -> None:
    load = rolling_update.Load(scripted.url, JFK)
    await load.ask_undisturbed()
    running = asyncio.create_task(load.run(num_clients=1, num_sessions=1))
    await asyncio.sleep(3)
    load.stop()
    await running
    assert load.found.keys() == {"whole: right", "stream: right", "turn: right"}, load.found


async def test_the_clients_of_an_update_count_what_fails() -> None:
    with served(scripted_api()) as server:
        load = rolling_update.Load(server.url, JFK)
        await load.ask_undisturbed()
        running = asyncio.create_task(load.run(num_clients=1, num_sessions=1))
        await asyncio.sleep(2)
    await asyncio.sleep(1)
    load.stop()
    await running
    failed = {name.partition(": ")[0] for name, count in load.found.items() if count and not name.endswith("right")}
    assert failed == {"whole", "stream", "turn"}, load.found


async def test_the_clients_of_a_loss_tell_right_from_wrong(scripted: Server) -> None:
    ask_whole = transcription(JFK.read_bytes())
    async with httpx.AsyncClient(base_url=scripted.url, timeout=60) as client:
        for expected, answer in ((await ask_whole(client), "right"), ("Something else.", "wrong")):
            found = node_loss.Found()
            await node_loss.Client("whole", ask_whole, expected, found).run(client, after(0.1))
            assert found.answers.keys() == {f"whole: {answer}"}
            assert (found.bad_until_s > 0) == (answer == "wrong")


async def test_a_soak_leaves_nothing_behind(scripted: Server) -> None:
    traffic = soak.Traffic(scripted.url, JFK, seed=0)
    await traffic.run(num_clients=3, pause_s=0.1, end_s=after(6))
    outcomes = {name.partition(": ")[2] for name in traffic.found}
    assert {"answered", "left", "400"} <= outcomes <= {"answered", "left", "400"}, traffic.found
    assert soak.gauges(scripted.url)
    deadline = after(20)
    while any(soak.gauges(scripted.url).values()):
        assert time.monotonic() < deadline, soak.gauges(scripted.url)
        await asyncio.sleep(0.5)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_a_long_upload_is_heard(scripted: Server, kind: str) -> None:
    first_s, all_s, text = await asyncio.to_thread(ask, scripted.url, JFK.read_bytes(), KINDS[kind])
    assert 0 < first_s <= all_s
    assert "country" in text
