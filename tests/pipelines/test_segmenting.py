import pytest

from pipelines.segmenting import PAUSE_S, TimedWord, split_into_segments
from pipelines.subtitles import lines
from pipelines.transcript_types import CueOptions

DEFAULT = CueOptions()


def spoken(text: str, word_s: float = 0.3, pauses: dict[str, float] | None = None) -> list[TimedWord]:
    """Words one after the other; `pauses` follow those that are named."""
    words, at_s = [], 0.0
    for word in text.split():
        words.append(TimedWord(" " + word, at_s, at_s + word_s))
        at_s += word_s + (pauses or {}).get(word, 0.0)
    return words


def segments(words: list[TimedWord], cues: CueOptions = DEFAULT) -> list[str]:
    return ["".join(word.text for word in words[a:b]).strip() for a, b in split_into_segments(words, cues)]


def test_sentences() -> None:
    found = segments(spoken('It rained. "Did it?" he asked! Yes… It did. And then'))
    assert found == ["It rained.", '"Did it?"', "he asked!", "Yes…", "It did.", "And then"]


def test_a_point_that_ends_no_sentence() -> None:
    text = "Mr. Quilter paid Dr. J. Smith 3.5 pounds, i.e. little."
    assert segments(spoken(text)) == [text]


def test_a_long_pause() -> None:
    words = spoken("So then we went on", pauses={"then": PAUSE_S, "went": PAUSE_S / 2})
    assert segments(words) == ["So then", "we went on"]


def test_scripts_without_spaces() -> None:
    words = [TimedWord(text, at, at + 0.5) for at, text in enumerate(["昨日は", "雨でした。", "今日は", "晴れです。"])]
    assert segments(words, CueOptions(max_segment_s=20.0)) == ["昨日は雨でした。", "今日は晴れです。"]


LONG = "the birch canoe slid on the smooth planks, and the sheet was glued to the dark blue background of it"


@pytest.mark.parametrize(
    "cues",
    [DEFAULT, CueOptions(max_segment_s=2.0), CueOptions(max_line_width=20), CueOptions(7.0, 30, 1)],
    ids=str,
)
def test_no_cue_is_too_long(cues: CueOptions) -> None:
    words = spoken(LONG, word_s=0.5)
    found = split_into_segments(words, cues)
    assert [a for a, _ in found] == [0, *(b for _, b in found[:-1])]
    assert found[-1][1] == len(words)
    for first, last in found:
        assert words[last - 1].end_s - words[first].start_s <= cues.max_segment_s
        assert len(lines("".join(word.text for word in words[first:last]), cues.max_line_width)) <= cues.max_line_count


def test_a_long_sentence_parts_after_a_clause() -> None:
    assert segments(spoken(LONG, word_s=0.4))[0] == "the birch canoe slid on the smooth planks,"


def test_a_word_that_is_too_long_alone_stays_whole() -> None:
    words = [TimedWord(" Aaa", 0.0, 20.0), TimedWord(" end", 20.0, 20.3)]
    assert segments(words) == ["Aaa", "end"]


def test_nothing() -> None:
    assert split_into_segments([], CueOptions()) == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "Es war am 3. Mai, sagte er. Dann kam der 14. Juni.",
            ["Es war am 3. Mai, sagte er.", "Dann kam der 14. Juni."],
        ),
        ("Das sind ca. drei Meter usw. und mehr. Gut.", ["Das sind ca. drei Meter usw. und mehr.", "Gut."]),
        ("It was in 1984. Then it rained.", ["It was in 1984.", "Then it rained."]),
        ("یہ ایک ہے۔ یہ دو ہے۔", ["یہ ایک ہے۔", "یہ دو ہے۔"]),  # noqa: RUF001
        ("Սա մեկն է։ Սա երկուսն է։", ["Սա մեկն է։", "Սա երկուսն է։"]),  # noqa: RUF001
    ],
)
def test_what_ends_a_sentence(text: str, parts: list[str]) -> None:
    assert segments(spoken(text), CueOptions(max_segment_s=60.0)) == parts
