"""Whisper's rules that need no model: thresholds, the temperature ladder, and how tokens become segments.

Source: A. Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 4.5,
and the reference implementation that the paper published.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

TEMPERATURE_LADDER = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MIN_AVG_LOGPROB = -1.0
MAX_COMPRESSION_RATIO = 2.4
MAX_NO_SPEECH_PROB = 0.6

MAX_LOOP_PHRASE, MIN_LOOP_TIMES, MIN_LOOP_TOKENS = 20, 4, 64

TIMESTAMP_STEP_S = 0.02
MAX_PROMPT_TOKENS = 224
MAX_PROMPT_CHARACTERS = 4_096
"""More than `MAX_PROMPT_TOKENS` can hold; the rest of a megabyte neither travels nor is tokenized."""


def compression_ratio(text: str) -> float:
    """Bytes of `text` ÷ bytes after zlib: above 2.4 the decoder is repeating itself."""
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data)) if data else 1.0


def repetition(text: str) -> float:
    """The same of a byte for each character, which is what fallback is decided by.

    In UTF-8 every letter of an Indic or Georgian script begins with the same one or two bytes, so that good text
    compresses like a loop: 2.9 for two articles of the Declaration of Human Rights in Hindi, 3.3 in Tamil.
    """
    data = bytes(ord(character) & 0xFF for character in text)
    return len(data) / len(zlib.compress(data)) if data else 1.0


def needs_fallback(avg_logprob: float, ratio: float, no_speech_prob: float) -> bool:
    """Whether a decoding is so poor that a higher temperature should be tried. `ratio` is its `repetition`."""
    if is_silence(avg_logprob, no_speech_prob):
        return False  # not a failure
    return ratio > MAX_COMPRESSION_RATIO or avg_logprob < MIN_AVG_LOGPROB


def is_silence(avg_logprob: float, no_speech_prob: float) -> bool:
    """Whether nobody speaks: the model says so, and is not sure of what it wrote."""
    return no_speech_prob > MAX_NO_SPEECH_PROB and avg_logprob < MIN_AVG_LOGPROB


def loop_start(token_ids: Sequence[int]) -> int | None:
    """Where a text that goes on and on begins to repeat itself: behind the first time that it says the phrase.

    Nobody ends what says the same phrase of at most `MAX_LOOP_PHRASE` tokens over and over, `MIN_LOOP_TOKENS` and
    `MIN_LOOP_TIMES` in all. (Somebody who chants says less of it, in 30 s.)
    """
    for length in range(1, MAX_LOOP_PHRASE + 1):
        num_same = 0
        while num_same + length < len(token_ids) and token_ids[-1 - num_same] == token_ids[-1 - num_same - length]:
            num_same += 1
        if num_same + length >= max(MIN_LOOP_TOKENS, MIN_LOOP_TIMES * length):
            return len(token_ids) - num_same
    return None


@dataclass(frozen=True, slots=True)
class TimedTokens:
    """The positions [first, last) of one segment's text tokens, and its times from the start of the window."""

    start_s: float
    end_s: float
    first: int
    last: int


def split_at_timestamps(token_ids: Sequence[int], timestamp_begin: int, duration_s: float) -> list[TimedTokens]:
    """Group text tokens by the timestamp tokens around them.

    Text that no timestamp closes ends with the window; text that none opens starts where the last one ended.
    """
    segments = []
    start_s, first = 0.0, 0
    for position, token_id in enumerate(token_ids):
        if token_id < timestamp_begin:
            continue
        time_s = min((token_id - timestamp_begin) * TIMESTAMP_STEP_S, duration_s)
        if position > first:
            segments.append(TimedTokens(min(start_s, time_s), time_s, first, position))
        start_s, first = time_s, position + 1
    if len(token_ids) > first:
        segments.append(TimedTokens(min(start_s, duration_s), duration_s, first, len(token_ids)))
    return segments
