from itertools import pairwise

from pipelines.characters import may_part
from pipelines.subtitles import lines, to_srt, to_vtt
from pipelines.transcript_types import Segment


def segment(start_s: float, end_s: float, text: str) -> Segment:
    return Segment(start_s, end_s, text, (), 0.0, -0.5, 1.0, 0.0)


TWO = [segment(0.0, 1.5, " We meet at ten."), segment(3_661.0625, 36_000.9996, " Bye & <thanks>")]


def test_srt() -> None:
    assert to_srt(TWO, 42) == (
        "1\n00:00:00,000 --> 00:00:01,500\nWe meet at ten.\n\n2\n01:01:01,062 --> 10:00:01,000\nBye & <thanks>\n\n"
    )


def test_vtt_escapes_what_would_be_markup() -> None:
    assert to_vtt(TWO, 42) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nWe meet at ten.\n\n"
        "01:01:01.062 --> 10:00:01.000\nBye &amp; &lt;thanks&gt;\n\n"
    )


def test_nothing_said() -> None:
    assert to_srt([], 42) == ""
    assert to_vtt([], 42) == "WEBVTT\n\n"


def test_empty_text_is_no_cue_and_takes_no_number() -> None:
    assert to_srt([segment(0, 1, "  "), segment(1, 2, "One")], 42) == "1\n00:00:01,000 --> 00:00:02,000\nOne\n\n"


def test_a_line_break_does_not_end_a_cue() -> None:
    assert (
        to_srt([segment(0, 1, "One\n\ntwo\r\n\u2028three")], 42)
        == "1\n00:00:00,000 --> 00:00:01,000\nOne two three\n\n"
    )


def test_an_arrow_in_the_text_is_not_a_time() -> None:
    assert "a --&gt; b" in to_vtt([segment(0, 1, "a --> b")], 42)


def test_cues_do_not_overlap() -> None:
    cues = to_vtt([segment(0, 5, "a"), segment(2, 1, "b"), segment(2, 4, "c")], 42)
    assert "00:00:00.000 --> 00:00:02.000\na" in cues
    assert "00:00:02.000 --> 00:00:02.000\nb" in cues
    assert "00:00:02.000 --> 00:00:04.000\nc" in cues


def test_hours_beyond_99() -> None:
    assert "100:00:00,000 --> 100:00:01,000" in to_srt([segment(360_000, 360_001, "long")], 42)


def test_a_cue_is_broken_into_lines_between_words() -> None:
    long = "Glue the sheet to the dark blue background before you go."
    assert to_srt([segment(0, 1, long)], 24) == (
        "1\n00:00:00,000 --> 00:00:01,000\nGlue the sheet to the\ndark blue background\nbefore you go.\n\n"
    )
    assert lines("北風と太陽が争った", 4) == ["北風と太", "陽が争っ", "た"]
    assert lines("a well-known fact", 10) == ["a", "well-known", "fact"]


def test_no_line_ends_with_a_space() -> None:
    assert lines(f"{'a' * 41} {'b' * 50}", 42) == ["a" * 41, "b" * 42, "b" * 8]


def test_a_mark_stays_in_the_line_of_its_letter() -> None:
    thai = "เป็นเรื่องที่น่าสนใจมาก"
    for width in range(4, 12):
        found = lines(thai, width)
        assert "".join(found) == thai
        assert all(may_part(before[-1], after[0]) for before, after in pairwise(found)), found
        assert max(map(len, found)) <= width + 4
    assert lines("ที่", 1) == ["ที่"]
    assert lines("เรื่องต่าง ๆ ที่น่าสนใจ", 10) == ["เรื่องต่าง", "ๆ", "ที่น่าสนใจ"]
