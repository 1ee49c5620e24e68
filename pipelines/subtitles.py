"""SubRip and WebVTT."""

from collections.abc import Sequence
from itertools import pairwise, takewhile
from textwrap import wrap

from pipelines.characters import may_part
from pipelines.transcript_types import Segment


def to_srt(segments: Sequence[Segment], max_line_width: int) -> str:
    cues = (
        f"{number}\n{_timestamp(start, ',')} --> {_timestamp(end, ',')}\n{text}\n\n"
        for number, (start, end, text) in enumerate(_cues(segments, max_line_width), start=1)
    )
    return "".join(cues)


def to_vtt(segments: Sequence[Segment], max_line_width: int) -> str:
    cues = (
        f"{_timestamp(start, '.')} --> {_timestamp(end, '.')}\n{_escape(text)}\n\n"
        for start, end, text in _cues(segments, max_line_width)
    )
    return "WEBVTT\n\n" + "".join(cues)


def lines(text: str, max_width: int) -> list[str]:
    """`text` as a cue shows it; a line is longer only where a script without spaces leaves no choice but to cut it, by
    what stays with its letter."""
    whole = " ".join(text.split())
    found: list[str] = []
    end = 0
    for line in wrap(whole, max_width, break_on_hyphens=False):
        start = whole.index(line, end)
        kept = _begun_before(found[-1], line) if found and start == end else ""
        if kept:
            found[-1] += kept
        if line != kept:
            found.append(line.removeprefix(kept))
        end = start + len(line)
    return [line.strip() for line in found]  # a space stays where a word longer than a line finds no room behind it


def _begun_before(before: str, line: str) -> str:
    """What of `line` stays with the letter at the end of the one before."""
    pairs = pairwise(before[-1:] + line)
    return "".join(right for _, right in takewhile(lambda pair: not may_part(*pair), pairs))


def _cues(segments: Sequence[Segment], max_line_width: int) -> list[tuple[int, int, str]]:
    """(start_ms, end_ms, text) that do not overlap and whose text is one paragraph, never empty."""
    cues = []
    shown = [(segment, "\n".join(lines(segment.text, max_line_width))) for segment in segments]
    shown = [(segment, text) for segment, text in shown if text]
    for position, (segment, text) in enumerate(shown):
        start_ms, end_ms = round(segment.start_s * 1000), round(segment.end_s * 1000)
        if position + 1 < len(shown):
            end_ms = min(end_ms, round(shown[position + 1][0].start_s * 1000))
        cues.append((start_ms, max(start_ms, end_ms), text))
    return cues


def _timestamp(time_ms: int, decimal_mark: str) -> str:
    seconds, milliseconds = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{decimal_mark}{milliseconds:03}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
