"""Long uploads end to end: what the recogniser heard, told by codes in the samples themselves."""

import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from pipelines.audio_types import MAX_CHUNK_S, SAMPLE_RATE_HZ
from tests.conftest import Server
from tests.serve.coded_audio import LOUD_FRAME_SAMPLES, MARK_SAMPLES, NUMBER_SAMPLES, CodedAudio, join, pause
from tests.serve.tools import post, stream

Range = tuple[int, int]


def heard(text: str) -> list[Range]:
    """The stretches of samples that a `CodeReader` reports."""
    return [(int(first), int(last)) for first, last in re.findall(r"(\d+)-(\d+)", text)]


def assert_covers(ranges: list[Range], audio: CodedAudio) -> None:
    """Everything loud was heard exactly once, in order."""
    assert ranges
    for (_, last), (first, _) in itertools.pairwise(ranges):
        assert last <= first, f"{first}-{last} was heard twice"
    times_heard = np.zeros(len(audio.samples) + 1, np.int64)
    for first, last in ranges:
        times_heard[first] += 1
        times_heard[last] -= 1
    quietly = np.cumsum(times_heard)[:-1].reshape(-1, LOUD_FRAME_SAMPLES).min(axis=1)
    lost = np.flatnonzero(audio.loud & (quietly < 1)) * LOUD_FRAME_SAMPLES / SAMPLE_RATE_HZ
    assert not len(lost), f"speech was lost at {lost[:10]} s, {len(lost)} frames in all"


@pytest.fixture(scope="module")
def whole(scripted_server: Server, long_audio: CodedAudio) -> dict[str, Any]:
    """Ten minutes, with the times of segments and numbers."""
    answer = post(
        scripted_server,
        long_audio.file("WAV"),
        "reader",
        response_format="verbose_json",
        **{"timestamp_granularities[]": ["word", "segment"]},
    )
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_all_speech_is_heard_exactly_once(whole: dict[str, Any], long_audio: CodedAudio) -> None:
    assert whole["duration"] == 600.0
    assert_covers(heard(whole["text"]), long_audio)


def test_every_chunk_fits_the_model(whole: dict[str, Any]) -> None:
    for first, last in heard(whole["text"]):
        assert 0 < last - first <= MAX_CHUNK_S * SAMPLE_RATE_HZ


def test_speech_without_a_pause_is_cut_without_a_gap(whole: dict[str, Any]) -> None:
    ranges = heard(whole["text"])
    seams = [last for (_, last), (first, _) in itertools.pairwise(ranges) if last == first]
    assert len(seams) >= 2, "the audio has stretches of speech longer than a chunk, which must be cut"


def test_silence_is_left_out(whole: dict[str, Any], long_audio: CodedAudio) -> None:
    num_heard = sum(last - first for first, last in heard(whole["text"]))
    assert num_heard < len(long_audio.samples) - 35 * SAMPLE_RATE_HZ


def test_segments_carry_the_time_of_their_samples(whole: dict[str, Any]) -> None:
    assert [heard(segment["text"]) for segment in whole["segments"]] == [[one] for one in heard(whole["text"])]
    for segment, (first, last) in zip(whole["segments"], heard(whole["text"]), strict=True):
        assert segment["start"] == pytest.approx(first / SAMPLE_RATE_HZ, abs=0.011)
        assert segment["end"] == pytest.approx(last / SAMPLE_RATE_HZ, abs=0.011)


def test_every_number_comes_out_once_in_order_and_in_time(whole: dict[str, Any], long_audio: CodedAudio) -> None:
    numbers = [int(word["word"]) for word in whole["words"]]
    assert all(earlier < later for earlier, later in itertools.pairwise(numbers))
    for word in whole["words"]:
        assert word["start"] == pytest.approx(int(word["word"]) * NUMBER_SAMPLES / SAMPLE_RATE_HZ, abs=0.011)
    # a number that a chunk's edge goes through is nobody's
    edges = {edge // NUMBER_SAMPLES for bounds in heard(whole["text"]) for edge in bounds}
    frames = NUMBER_SAMPLES * np.arange(len(long_audio.samples) // NUMBER_SAMPLES + 1) / LOUD_FRAME_SAMPLES
    loud = {
        number
        for number in range(len(frames) - 1)
        if long_audio.loud[int(np.ceil(frames[number])) : int(frames[number + 1])].all()
    }
    assert len(loud) > 500
    assert loud - edges <= set(numbers)


def test_a_stream_says_the_same(scripted: Server, whole: dict[str, Any], long_audio: CodedAudio) -> None:
    events = list(stream(scripted, long_audio.file("FLAC"), "reader"))
    deltas, done = events[:-1], events[-1]
    assert len(deltas) == len(whole["segments"])
    assert "".join(event["delta"] for event in deltas) == done["text"] == whole["text"]


def test_answers_do_not_mix(scripted: Server, coded_clips: list[CodedAudio]) -> None:
    """Eight uploads at once, each numbered from another million, streamed and not."""
    audios = [join(*(part for clip in coded_clips[i : i + 12] for part in (clip, pause(1.0)))) for i in range(8)]

    def ask(index: int) -> str:
        file = audios[index].file("FLAC", first_mark=index * 1_000_000)
        if index % 2:
            return str(list(stream(scripted, file, "reader", prompt="0.2"))[-1]["text"])
        return str(post(scripted, file, "reader", prompt="0.2").json()["text"])

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(ask, range(8)))
    for index, text in enumerate(texts):
        offset = index * 1_000_000 * MARK_SAMPLES
        assert_covers([(first - offset, last - offset) for first, last in heard(text)], audios[index])
