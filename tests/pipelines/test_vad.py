from itertools import pairwise

import numpy as np
import pytest

from pipelines.audio_types import SpeechSegment, VadOptions
from pipelines.vad import FRAME_S, MAX_PADDING_S, MIN_SPEECH_S, SpeechDetector

PLAIN = VadOptions(threshold=0.5, prefix_padding_ms=0, silence_duration_ms=0)


def detect(probabilities: list[float], options: VadOptions, duration_s: float | None = None) -> list[SpeechSegment]:
    detector = SpeechDetector(options)
    closed = detector.push(probabilities)
    return closed + detector.finish(len(probabilities) * FRAME_S if duration_s is None else duration_s)


def frames(segments: list[SpeechSegment]) -> list[tuple[float, float]]:
    return [(round(segment.start_s / FRAME_S, 6), round(segment.end_s / FRAME_S, 6)) for segment in segments]


def random_probabilities(seed: int, num_frames: int = 2_000) -> list[float]:
    """Speech that comes and goes, every now and then for a moment only."""
    generator = np.random.default_rng(seed)
    levels = np.repeat(generator.uniform(-3, 3, num_frames), generator.integers(1, 30, num_frames))[:num_frames]
    values: list[float] = (1 / (1 + np.exp(-levels - generator.normal(0, 0.5, num_frames)))).tolist()
    return values


def test_no_frames_no_speech() -> None:
    assert detect([], VadOptions()) == []


def test_silence_has_no_segments() -> None:
    assert detect([0.0] * 500, VadOptions()) == []


def test_speech_from_first_to_last_frame_is_one_segment_without_padding_outside_the_audio() -> None:
    assert detect([0.9] * 100, VadOptions(), 3.19) == [SpeechSegment(0.0, 3.19)]


def test_speech_begins_at_the_threshold_and_not_below() -> None:
    assert frames(detect([0.0] * 10 + [0.5] * 10 + [0.0] * 10, PLAIN)) == [(10, 20)]
    assert detect([0.0] * 10 + [0.49] * 10 + [0.0] * 10, PLAIN) == []


def test_speech_goes_on_until_below_the_lower_threshold() -> None:
    assert frames(detect([0.9] * 10 + [0.35] * 10 + [0.34] * 10, PLAIN)) == [(0, 20)]


def test_the_lower_threshold_never_reaches_zero() -> None:
    options = VadOptions(threshold=0.1, prefix_padding_ms=0, silence_duration_ms=0)
    assert frames(detect([0.9] * 10 + [0.0] * 10, options)) == [(0, 10)]


def test_between_the_thresholds_silence_that_has_begun_goes_on() -> None:
    options = VadOptions(prefix_padding_ms=0, silence_duration_ms=200)
    assert frames(detect([0.9] * 10 + [0.0] + [0.4] * 20 + [0.0] * 10, options)) == [(0, 10 + 0.2 / FRAME_S)]


def test_a_pause_shorter_than_the_silence_does_not_split() -> None:
    options = VadOptions(prefix_padding_ms=0, silence_duration_ms=320)
    assert len(detect([0.9] * 10 + [0.0] * 9 + [0.9] * 10 + [0.0] * 20, options)) == 1
    assert len(detect([0.9] * 10 + [0.0] * 11 + [0.9] * 10 + [0.0] * 20, options)) == 2


def test_a_segment_is_reported_once_the_silence_has_lasted() -> None:
    detector = SpeechDetector(VadOptions(prefix_padding_ms=0, silence_duration_ms=200))
    assert detector.push([0.9] * 10 + [0.0] * 6) == []
    assert len(detector.push([0.0])) == 1
    assert detector.finish(17 * FRAME_S) == []


def test_padding_before_and_after() -> None:
    (segment,) = detect([0.0] * 100 + [0.9] * 10 + [0.0] * 100, VadOptions())
    assert segment.start_s == pytest.approx(100 * FRAME_S - 0.3)
    assert segment.end_s == pytest.approx(110 * FRAME_S + 0.2)


def test_padding_never_starts_before_the_audio_or_inside_the_segment_before() -> None:
    options = VadOptions(prefix_padding_ms=1_000, silence_duration_ms=200)
    first, second = detect([0.0] * 5 + [0.9] * 10 + [0.0] * 8 + [0.9] * 10 + [0.0] * 10, options)
    assert first.start_s == 0.0
    assert second.start_s == first.end_s


def test_huge_padding_is_bounded() -> None:
    options = VadOptions(prefix_padding_ms=10_000_000)
    (segment,) = detect([0.0] * 1_000 + [0.9] * 10 + [0.0] * 100, options)
    assert segment.start_s == pytest.approx(1_000 * FRAME_S - MAX_PADDING_S)


def test_a_click_is_not_speech() -> None:
    num_too_few = int(MIN_SPEECH_S / FRAME_S)
    assert detect([0.0] * 20 + [0.9] * num_too_few + [0.0] * 20, PLAIN) == []
    assert len(detect([0.0] * 20 + [0.9] * (num_too_few + 1) + [0.0] * 20, PLAIN)) == 1


def test_finish_closes_open_speech_where_it_ended() -> None:
    detector = SpeechDetector(VadOptions(prefix_padding_ms=0, silence_duration_ms=1_000))
    assert detector.push([0.9] * 10 + [0.0] * 5) == []
    assert frames(detector.finish(15 * FRAME_S)) == [(0, 15)]
    assert detector.finish(15 * FRAME_S) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "options", [VadOptions(), PLAIN, VadOptions(0.3, 900, 1_500), VadOptions(0.0), VadOptions(1.0, 0, 32)]
)
def test_segments_are_ordered_apart_and_inside_the_audio(seed: int, options: VadOptions) -> None:
    probabilities = random_probabilities(seed)
    duration_s = len(probabilities) * FRAME_S
    segments = detect(probabilities, options)
    assert all(0 <= segment.start_s < segment.end_s <= duration_s for segment in segments)
    assert all(left.end_s <= right.start_s for left, right in pairwise(segments))


@pytest.mark.parametrize("size", [1, 7, 313])
@pytest.mark.parametrize("seed", range(3))
def test_streamed_equals_whole(size: int, seed: int) -> None:
    probabilities = random_probabilities(seed)
    detector = SpeechDetector(VadOptions())
    pieces = [probabilities[first : first + size] for first in range(0, len(probabilities), size)]
    streamed = [segment for piece in pieces for segment in detector.push(piece)]
    streamed += detector.finish(len(probabilities) * FRAME_S)
    assert streamed == detect(probabilities, VadOptions())
    assert len(streamed) > 5


@pytest.mark.parametrize("options", [VadOptions(), VadOptions(prefix_padding_ms=3_000), PLAIN])
def test_no_segment_starts_before_what_was_said_to_be_needed(options: VadOptions) -> None:
    detector, needed_s = SpeechDetector(options), 0.0
    for probability in random_probabilities(11):
        assert detector.needed_from_s >= needed_s
        needed_s = detector.needed_from_s
        is_open_since = detector.open_since_s
        for segment in detector.push([probability]):
            assert segment.start_s >= needed_s
            assert segment.start_s == is_open_since


def test_open_speech_is_told() -> None:
    detector = SpeechDetector(VadOptions())
    detector.push([0.0] * 100)
    assert detector.open_since_s is None
    detector.push([0.9])
    assert detector.open_since_s == pytest.approx(100 * FRAME_S - 0.3)
    detector.push([0.9] * 10 + [0.0] * 20)
    assert detector.open_since_s is None


@pytest.mark.parametrize("seed", range(5))
def test_what_is_needed_next_is_known_while_somebody_is_waited_for(seed: int) -> None:
    """A little less may be needed when the silence has lasted, never more."""
    detector = SpeechDetector(VadOptions(silence_duration_ms=500))
    num_closed = 0
    for probability in random_probabilities(seed):
        expected_s = detector.needed_next_from_s
        if detector.push([probability]):
            num_closed += 1
            assert expected_s <= detector.needed_from_s <= expected_s + FRAME_S
    assert num_closed > 5
