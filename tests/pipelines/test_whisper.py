import math

import numpy as np
import pytest

from pipelines.audio_types import AudioChunk, SpeechSegment, Waveform
from pipelines.whisper import (
    TEMPERATURE_LADDER,
    TimedTokens,
    compression_ratio,
    is_silence,
    needs_fallback,
    skipped_speech,
    split_at_timestamps,
)

BEGIN = 1_000
"""Id of <|0.00|>."""


def at(time_s: float) -> int:
    return BEGIN + round(time_s / 0.02)


def split(token_ids: list[int], duration_s: float = 30.0) -> list[tuple[float, float, list[int]]]:
    parts = split_at_timestamps(token_ids, BEGIN, duration_s)
    return [(part.start_s, part.end_s, token_ids[part.first : part.last]) for part in parts]


def test_pairs_of_timestamps_make_segments() -> None:
    ids = [at(0), 1, 2, at(2), at(2.5), 3, at(4)]
    assert split(ids) == [(0.0, 2.0, [1, 2]), (2.5, 4.0, [3])]


def test_positions_leave_the_timestamps_out() -> None:
    assert split_at_timestamps([at(1), 1, 2, at(2)], BEGIN, 30) == [TimedTokens(1.0, 2.0, 1, 3)]


def test_text_that_no_timestamp_closes_ends_with_the_window() -> None:
    assert split([at(1), 1, 2], 7.5) == [(1.0, 7.5, [1, 2])]


def test_text_without_any_timestamp_is_the_whole_window() -> None:
    assert split([1, 2, 3], 7.5) == [(0.0, 7.5, [1, 2, 3])]


def test_text_that_no_timestamp_opens_starts_where_the_last_one_ended() -> None:
    assert split([at(0), 1, at(2), 2, at(3)]) == [(0.0, 2.0, [1]), (2.0, 3.0, [2])]


def test_a_lonely_timestamp_at_the_end_gives_nothing() -> None:
    assert split([at(0), 1, at(2), at(2)]) == [(0.0, 2.0, [1])]


def test_no_tokens_no_segments() -> None:
    assert split([]) == []
    assert split([at(0), at(0)]) == []


def test_times_beyond_the_audio_are_the_audio_s_end() -> None:
    assert split([at(1), 1, at(29)], 4.0) == [(1.0, 4.0, [1])]
    assert split([at(20), 1, at(29)], 4.0) == [(4.0, 4.0, [1])]
    assert split([at(20), 1], 4.0) == [(4.0, 4.0, [1])]


@pytest.mark.parametrize("seed", range(20))
def test_any_tokens_give_ordered_times_and_keep_all_text(seed: int) -> None:
    generator = np.random.default_rng(seed)
    ids = np.where(
        generator.random(60) < 0.4, BEGIN + generator.integers(0, 1_501, 60), generator.integers(0, BEGIN, 60)
    ).tolist()
    parts = split_at_timestamps(ids, BEGIN, 12.0)
    kept = [ids[position] for part in parts for position in range(part.first, part.last)]
    assert kept == [token for token in ids if token < BEGIN]
    assert all(0 <= part.start_s <= part.end_s <= 12.0 for part in parts)


def test_compression_ratio() -> None:
    assert compression_ratio("") == 1.0
    assert compression_ratio("ha " * 200) > 20
    assert compression_ratio("Where is the tree?") < 1.2


def test_fallback_when_improbable_or_repeating() -> None:
    assert needs_fallback(-1.01, 1.0, 0.0)
    assert needs_fallback(-0.1, 2.41, 0.0)
    assert not needs_fallback(-1.0, 2.4, 0.0)


def test_silence_is_no_failure() -> None:
    assert not needs_fallback(-1.5, 1.0, 0.7)
    assert is_silence(-1.5, 0.7)
    assert not is_silence(-0.5, 0.9)
    assert not is_silence(-1.5, 0.6)


def test_the_ladder_starts_greedy_and_climbs() -> None:
    assert TEMPERATURE_LADDER[0] == 0.0
    assert list(TEMPERATURE_LADDER) == sorted(set(TEMPERATURE_LADDER))
    assert math.isclose(TEMPERATURE_LADDER[-1], 1.0)


def chunk_of(*speech: tuple[float, float]) -> AudioChunk:
    return AudioChunk(0, 10.0, Waveform(np.zeros(320_000, np.float32)), tuple(SpeechSegment(*s) for s in speech))


def skipped(chunk: AudioChunk, *covered: tuple[float, float]) -> list[tuple[float, float]]:
    found = skipped_speech(chunk, [SpeechSegment(*segment) for segment in covered])
    return [(speech.start_s, speech.end_s) for speech in found]


def test_covered_speech_is_not_skipped() -> None:
    assert skipped(chunk_of((10, 15)), (10, 15)) == []
    assert skipped(chunk_of((10, 15)), (9, 16)) == []
    assert skipped(chunk_of((10, 15)), (10, 12), (12, 15)) == []


def test_speech_after_the_last_segment_is_skipped() -> None:
    assert skipped(chunk_of((10, 15), (16, 20)), (10, 15)) == [(16, 20)]
    assert skipped(chunk_of((10, 20)), (10, 14)) == [(14, 20)]


def test_speech_before_and_between_segments_is_skipped() -> None:
    assert skipped(chunk_of((10, 20)), (12, 14), (17, 20)) == [(10, 12), (14, 17)]


def test_a_breath_is_not_skipped_speech() -> None:
    assert skipped(chunk_of((10, 20)), (10.9, 14), (14.9, 19.1)) == []


def test_without_segments_all_speech_was_skipped() -> None:
    assert skipped(chunk_of((10, 12), (13, 13.5), (14, 16))) == [(10, 12), (14, 16)]
