"""Who said what, on the running graph: windows of long audio, lost replicas, full queues, clients that leave."""

import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.audio_types import SAMPLE_RATE_HZ
from tests.conftest import Server
from tests.serve.coded_audio import NUMBER_SAMPLES, CodedAudio, join, pause
from tests.serve.conftest import MAX_WINDOW_S
from tests.serve.records import Records
from tests.serve.scripted_diarizer import NUMBERS_PER_ORDER, TURN_GAP_S, TURN_S, WHO, Order, ordered, speaker_at
from tests.serve.tools import (
    assert_refusal,
    is_healthy,
    kill_replica,
    num_running,
    post,
    replica_pids,
    stream,
    total,
    wait_for_another,
    wait_until,
)
from tests.support import sse

MODEL = "talker"
DIARIZED = {"response_format": "diarized_json", "chunking_strategy": "auto"}
DIALOGUE_S = 250
SPOKEN_KEYS = ("id", "start", "end", "speaker")


@pytest.fixture(scope="module")
def dialogue(long_audio: CodedAudio) -> CodedAudio:
    """Five windows of it."""
    num_frames = DIALOGUE_S * SAMPLE_RATE_HZ * len(long_audio.loud) // len(long_audio.samples)
    return CodedAudio(long_audio.samples[: DIALOGUE_S * SAMPLE_RATE_HZ], long_audio.loud[:num_frames])


@pytest.fixture(scope="module")
def remark(coded_clips: list[CodedAudio]) -> CodedAudio:
    """One window, one chunk."""
    return join(pause(0.5), coded_clips[0], pause(0.5))


@pytest.fixture(scope="module")
def whole(scripted_server: Server, records_directory: Path, dialogue: CodedAudio) -> dict[str, Any]:
    """The dialogue's answer, and beside it the windows that the diarizer had."""
    records = Records(records_directory)
    records.clear()
    answer = post(scripted_server, ordered(dialogue, Order.ANSWER), MODEL, **DIARIZED)
    assert answer.status_code == 200, answer.text
    return {**answer.json(), "windows": windows(records)}


def numbers(text: str) -> list[int]:
    """Quarters of seconds that the recogniser heard, whatever the order in front of them."""
    return [int(word) % NUMBERS_PER_ORDER for word in text.split()]


def spoken(segments: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(*(segment[key] for key in SPOKEN_KEYS), numbers(segment["text"])) for segment in segments]


def windows(records: Records) -> list[tuple[int, int]]:
    return [(record["first"], record["last"]) for record in records.read(WHO, "ends")]


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return sse.events_of(answer.text)


# Windows


def test_every_sample_is_in_exactly_one_window(whole: dict[str, Any], dialogue: CodedAudio) -> None:
    found = whole["windows"]
    assert found[0][0] == 0
    assert found[-1][1] == len(dialogue.samples)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(found))
    lengths_s = [(last - first) / SAMPLE_RATE_HZ for first, last in found]
    assert len(lengths_s) == -(-DIALOGUE_S // MAX_WINDOW_S)
    assert max(lengths_s) <= MAX_WINDOW_S
    assert max(lengths_s) - min(lengths_s) < 1  # a short last one would tell little


def test_every_word_has_its_speaker_across_windows(whole: dict[str, Any]) -> None:
    """The diarizer numbers its speakers anew in every window; by their voices they are the same two."""
    first = speaker_at(whole["segments"][0]["start"])
    assert len(whole["segments"]) > 15
    for segment in whole["segments"]:
        times_s = [number * NUMBER_SAMPLES / SAMPLE_RATE_HZ for number in numbers(segment["text"])]
        (turn,) = {time_s // TURN_S for time_s in times_s}
        assert segment["speaker"] == ("A" if speaker_at(turn * TURN_S) == first else "B")
        assert turn * TURN_S <= segment["start"] <= times_s[0] + TURN_GAP_S
        assert times_s[-1] <= segment["end"] <= (turn + 1) * TURN_S
    assert whole["text"] == " ".join(segment["text"] for segment in whole["segments"])


def test_a_turn_across_two_windows_is_one_segment(whole: dict[str, Any]) -> None:
    turns = [segment["start"] // TURN_S for segment in whole["segments"]]
    assert len(set(turns)) == len(turns)


def test_a_stream_says_the_same(scripted: Server, whole: dict[str, Any], dialogue: CodedAudio) -> None:
    *events, done = stream(scripted, ordered(dialogue, Order.SLOW), MODEL, **DIARIZED)
    segments = [event for event in events if event["type"] == "transcript.text.segment"]
    assert spoken(segments) == spoken(whole["segments"])
    assert numbers(done["text"]) == numbers(whole["text"])
    assert "".join(event.get("delta", "") for event in events) == done["text"]


def test_text_comes_while_later_windows_are_worked_on(scripted: Server, records: Records, dialogue: CodedAudio) -> None:
    events = stream(scripted, ordered(dialogue, Order.SLOW), MODEL, **DIARIZED)
    assert next(events)["type"] == "transcript.text.delta"
    assert len(windows(records)) < DIALOGUE_S / MAX_WINDOW_S
    assert list(events)[-1]["type"] == "transcript.text.done"


def test_recognition_and_diarization_go_side_by_side(scripted: Server, records: Records, remark: CodedAudio) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(post, scripted, ordered(remark, Order.WAIT), MODEL, **DIARIZED, hotwords="wait")
        try:
            wait_until(lambda: bool(records.read("asr", "begins") and records.read(WHO, "begins")), "both at work", 20)
            assert not records.read("asr", "ends") + records.read(WHO, "ends")
        finally:
            records.release()
        assert asked.result().status_code == 200
    assert records.read("asr", "ends")
    assert records.read(WHO, "ends")


def test_plain_text_does_not_trouble_the_diarizer(scripted: Server, records: Records, remark: CodedAudio) -> None:
    assert post(scripted, ordered(remark, Order.FAIL), MODEL).status_code == 200
    assert not records.read(WHO, "begins")


def test_metrics_show_the_diarizer_s_work(scripted: Server, records: Records, remark: CodedAudio) -> None:
    samples = ["auricle_model_seconds", "auricle_queue_wait_seconds", "auricle_batch_size"]

    def counted() -> list[float]:
        return [total(scripted, f"{sample}_count", model="diarization") for sample in samples]

    before, seconds_before = counted(), total(scripted, "auricle_model_seconds_sum", model="diarization")
    assert post(scripted, ordered(remark, Order.SLOW), MODEL, **DIARIZED).status_code == 200
    assert [after - earlier for earlier, after in zip(before, counted(), strict=True)] == [1, 1, 1]
    assert total(scripted, "auricle_model_seconds_sum", model="diarization") >= seconds_before + 1


# Lost replicas


def test_requests_survive_the_loss_of_the_diarizer(scripted: Server, records: Records, remark: CodedAudio) -> None:
    old = replica_pids(scripted, "diarization")
    with ThreadPoolExecutor(2) as pool:
        whole, streamed = (
            pool.submit(post, scripted, ordered(remark, Order.WAIT), MODEL, **DIARIZED, stream=streamed)
            for streamed in ("false", "true")
        )
        wait_until(lambda: len(records.read(WHO, "begins")) == 1, "a window at work")
        wait_until(lambda: num_running(scripted, MODEL) == 2, "two requests in flight")
        kill_replica(scripted, "diarization")
        records.release()
        answers = whole.result(), streamed.result()
    if answers[0].status_code != 200:
        assert_refusal(answers[0], 503, "service_unavailable")
    if answers[1].status_code != 200:
        assert_refusal(answers[1], 503, "service_unavailable")
    elif "error" in (last := events_of(answers[1])[-1]):  # it was lost after its 200
        assert last["error"]["code"] == "service_unavailable"
    else:
        assert last["type"] == "transcript.text.done"
    wait_for_another(scripted, "diarization", old)
    assert post(scripted, ordered(remark, Order.ANSWER), MODEL, **DIARIZED).json()["segments"]


@pytest.mark.timeout(120)
def test_nothing_is_lost_with_the_audio_replica(
    scripted: Server, whole: dict[str, Any], records: Records, dialogue: CodedAudio
) -> None:
    old = replica_pids(scripted, "audio")
    events = stream(scripted, ordered(dialogue, Order.SLOW), MODEL, **DIARIZED, hotwords="0.4")
    first = next(events)
    kill_replica(scripted, "audio")
    *rest, done = events
    assert done["type"] == "transcript.text.done", done
    segments = [event for event in (first, *rest) if event["type"] == "transcript.text.segment"]
    assert spoken(segments) == spoken(whole["segments"])
    assert windows(records) == whole["windows"]
    wait_for_another(scripted, "audio", old)


# A diarizer that fails


def test_a_failing_diarizer_is_told_and_forgotten(scripted: Server, records: Records, remark: CodedAudio) -> None:
    old = replica_pids(scripted, "diarization")
    for streamed in ("false", "true"):
        answer = post(scripted, ordered(remark, Order.FAIL), MODEL, **DIARIZED, stream=streamed)
        assert_refusal(answer, 503, "service_unavailable")
        assert "secret" not in answer.text
    assert post(scripted, ordered(remark, Order.ANSWER), MODEL, **DIARIZED).status_code == 200
    assert num_running(scripted, MODEL) == 0
    assert replica_pids(scripted, "diarization") == old


# Full queues


def test_a_full_queue_refuses_also_a_stream_before_its_200(
    scripted: Server, records: Records, remark: CodedAudio
) -> None:
    file = ordered(remark, Order.WAIT)
    num_places = 4
    with ThreadPoolExecutor(12) as pool:
        asked: list[Future[httpx.Response]] = []

        def is_full() -> bool:
            """Two with the diarizer, two in the queue; somebody came for nothing."""
            waiting = [request for request in asked if not request.done()]
            if len(waiting) == num_places and len(asked) > num_places:
                return True
            if num_running(scripted, MODEL) == len(waiting):
                asked.append(pool.submit(post, scripted, file, MODEL, **DIARIZED))
            return False

        try:
            wait_until(is_full, "a full queue", 20)
            for streamed in ("false", "true"):
                answer = post(scripted, file, MODEL, **DIARIZED, stream=streamed)
                assert_refusal(answer, 429, "rate_limit_exceeded")
        finally:
            records.release()
        answers = [request.result() for request in asked]
    assert [answer.status_code for answer in answers].count(200) == num_places
    for answer in answers:
        if answer.status_code != 200:
            assert_refusal(answer, 429, "rate_limit_exceeded")


# Clients that leave


def test_clients_that_leave_stop_the_diarizer(scripted: Server, records: Records, remark: CodedAudio) -> None:
    """The second one's window waits in line when its client leaves, and never begins."""
    file = ordered(remark, Order.WAIT)
    with ThreadPoolExecutor(1) as pool:
        at_work = pool.submit(post, scripted, file, MODEL, timeout_s=15, **DIARIZED)
        wait_until(lambda: bool(records.read(WHO, "begins")), "a window at work")
        with pytest.raises(httpx.ReadTimeout):
            post(scripted, file, MODEL, timeout_s=2, **DIARIZED)
        assert isinstance(at_work.exception(), httpx.ReadTimeout)
    wait_until(lambda: len(records.read(WHO, "is cancelled")) == 1, "the diarizer told", 20)
    wait_until(lambda: num_running(scripted, MODEL) == 0, "nothing running", 20)
    assert post(scripted, ordered(remark, Order.ANSWER), MODEL, **DIARIZED).status_code == 200
    assert len(records.read(WHO, "begins")) == 2


def test_a_client_that_leaves_its_stream_stops_the_diarizer(
    scripted: Server, records: Records, remark: CodedAudio
) -> None:
    with httpx.stream(
        "POST",
        f"{scripted.url}/v1/audio/transcriptions",
        files={"file": ordered(remark, Order.WAIT)},
        data={"model": MODEL, "stream": "true", **DIARIZED},
        timeout=30,
    ) as response:
        assert response.status_code == 200
        assert next(response.iter_raw()) == b"\n"  # kept alive while the diarizer is busy
        wait_until(lambda: bool(records.read(WHO, "begins")), "a window at work")
    wait_until(lambda: len(records.read(WHO, "is cancelled")) == 1, "the diarizer told", 20)
    wait_until(lambda: num_running(scripted, MODEL) == 0, "nothing running", 20)
    assert is_healthy(scripted)
