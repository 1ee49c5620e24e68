"""Words to segments that can be read as subtitles: at sentence ends and pauses, and none longer than a cue may be."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.subtitles import lines
from pipelines.transcript_types import CueOptions
from pipelines.words import SENTENCE_ENDS

PAUSE_S = 0.8
"""A silence so long parts two segments, whatever is said."""

CLAUSE_ENDS = (",", ";", ":", "–", "—", "、", "，", "；", "：")  # noqa: RUF001
ABBREVIATION = re.compile(
    r"(?:^|\s|[(\"'])(?:[A-Z]|\d{1,2}|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|No|Nr|etc|e\.g|i\.e|z\.B|M|Mme)\.$"
)
"""And numbers, which many languages order by a dot."""


@dataclass(frozen=True, slots=True)
class TimedWord:
    """`text` with the space before it."""

    text: str
    start_s: float
    end_s: float


def split_into_segments(words: Sequence[TimedWord], cues: CueOptions) -> list[tuple[int, int]]:
    """Positions [first, last) of each segment's words; together they are all of them."""
    segments, first = [], 0
    for position in range(1, len(words) + 1):
        if position == len(words) or _is_end(words[position - 1], words[position]):
            segments += _fitting(words, first, position, cues)
            first = position
    return segments


def _is_end(word: TimedWord, following: TimedWord) -> bool:
    if following.start_s - word.end_s >= PAUSE_S:
        return True
    text = word.text.rstrip("\"'”’») ")  # noqa: RUF001
    if text.endswith(".") and following.text.lstrip()[:1].islower():  # an abbreviation that is not known
        return False
    is_spaced = following.text[:1].isspace() or not text.isascii()  # and no "3.5", nor a script without spaces
    return is_spaced and text.endswith(SENTENCE_ENDS) and not ABBREVIATION.search(text)


def _fitting(words: Sequence[TimedWord], first: int, last: int, cues: CueOptions) -> list[tuple[int, int]]:
    """The words [first, last), halved until every part can be shown as one cue."""
    if last - first < 2 or _fits(words[first:last], cues):
        return [(first, last)]
    middle = max(range(first + 1, last), key=lambda position: _worth(words, first, position, last))
    return [*_fitting(words, first, middle, cues), *_fitting(words, middle, last, cues)]


def _fits(words: Sequence[TimedWord], cues: CueOptions) -> bool:
    if words[-1].end_s - words[0].start_s > cues.max_segment_s:
        return False
    return len(lines("".join(word.text for word in words), cues.max_line_width)) <= cues.max_line_count


def _worth(words: Sequence[TimedWord], first: int, position: int, last: int) -> float:
    """Of parting before `position`: near the middle, after a clause, in a pause."""
    before, after = position - first, last - position
    balance = min(before, after) / (last - first)
    is_clause = words[position - 1].text.rstrip().endswith(CLAUSE_ENDS)
    pause_s = max(words[position].start_s - words[position - 1].end_s, 0.0)
    return balance + 0.3 * is_clause + min(pause_s, 0.5)
