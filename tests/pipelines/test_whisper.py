import math

import numpy as np
import pytest

from pipelines.whisper import (
    MAX_COMPRESSION_RATIO,
    MAX_LOOP_PHRASE,
    MIN_LOOP_TOKENS,
    TEMPERATURE_LADDER,
    TimedTokens,
    compression_ratio,
    is_silence,
    loop_start,
    needs_fallback,
    repetition,
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


TAMIL = (
    "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்; அவர்கள் மதிப்பிலும் உரிமைகளிலும் சமமானவர்கள், அவர்கள் "
    "நியாயத்தையும் மனச்சாட்சியையும் இயற்பண்பாகப் பெற்றவர்கள். அவர்கள் ஒருவருடனொருவர் சகோதர உணர்வுப் பாங்கில் நடந்துகொள்ளல் "
    "வேண்டும்."
)
"""Article 1 of the Universal Declaration of Human Rights."""


@pytest.mark.parametrize(
    "text", [TAMIL, "Where is the tree? The garden costs twenty five euros, and my father travels."]
)
def test_repetition_is_that_of_characters(text: str) -> None:
    """In UTF-8 good Tamil looks like a loop."""
    assert repetition(text) < 1.6
    assert repetition(8 * text) > MAX_COMPRESSION_RATIO
    assert compression_ratio(TAMIL) > MAX_COMPRESSION_RATIO


def test_repetition_of_ascii_is_the_compression_ratio() -> None:
    for text in ("", "Where is the tree?", 50 * "ha "):
        assert repetition(text) == compression_ratio(text)


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


@pytest.mark.parametrize("length", [1, 3, MAX_LOOP_PHRASE])
def test_a_loop_begins_behind_its_first_phrase(length: int) -> None:
    said, phrase = [900, 901, 902], list(range(length))
    looping = [*said, *phrase * 80]
    assert loop_start(looping) == len(said) + length
    assert loop_start(looping[:-1]) == len(said) + length  # cut off in the middle of the phrase


def test_what_is_said_a_few_times_is_no_loop() -> None:
    assert loop_start([]) is None
    assert loop_start([1, 2, 3, 4] * 10) is None  # forty tokens of a chant
    assert loop_start([7] * (MIN_LOOP_TOKENS - 1)) is None
    assert loop_start(list(range(20)) * 3) is None
    assert loop_start([*[5, 6] * 60, 9]) is None  # it went on
    assert loop_start(list(range(200))) is None
    assert loop_start(list(range(MAX_LOOP_PHRASE + 1)) * 9) is None
