from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from random import Random

import pytest

from pipelines.speaker_types import Diarization, Speaker, SpeakerTurn
from pipelines.speakers import Event, SpeakerAttribution, SpeakerLabels
from pipelines.transcript_types import SpeakerSegment, Token, Word
from pipelines.transcription_events import SegmentFinished, TextDelta
from pipelines.turns import MAX_INTERJECTION_S, MAX_PAUSE_S, Stretch, to_stretches, without_interjections
from pipelines.words import sentences, spread_collapsed, whole_words

ANN, BOB, CY = 0, 1, 2


@dataclass(frozen=True)
class Window:
    end_s: float
    diarization: Diarization
    names: Mapping[int, Speaker]


def spoken(text: str, start_s: float, end_s: float) -> TextDelta:
    """`text` at an even pace; as the recogniser gives them, words have no spaces around them."""
    parts = text.split()
    step_s = (end_s - start_s) / len(parts)
    return TextDelta(
        text, (), tuple(Word(p, start_s + i * step_s, start_s + (i + 1) * step_s, 1.0) for i, p in enumerate(parts))
    )


def timed(*words: tuple[str, float, float]) -> TextDelta:
    return TextDelta(
        "".join(text for text, _, _ in words),
        (),
        tuple(Word(text.strip(), start, end, 1.0) for text, start, end in words),
    )


def turns(*exclusive: tuple[float, float, int], also: Sequence[tuple[float, float, int]] = ()) -> Diarization:
    """Exclusive turns, and all of them with those that somebody else speaks over."""
    return Diarization(
        tuple(SpeakerTurn(*turn) for turn in sorted((*exclusive, *also))),
        tuple(SpeakerTurn(*turn) for turn in exclusive),
    )


def window(end_s: float, diarization: Diarization, names: Mapping[int, Speaker] | None = None) -> Window:
    """A window whose speakers are known by their own numbers unless `names` says otherwise."""
    everybody = {turn.speaker: turn.speaker for turn in diarization.turns + diarization.exclusive_turns}
    return Window(end_s, diarization, {**everybody, **(names or {})})


@dataclass(frozen=True)
class Told:
    segments: list[SpeakerSegment]
    events: list[Event]


def tell(steps: Sequence[TextDelta | Window], duration_s: float, known: Sequence[str] = ()) -> Told:
    attribution = SpeakerAttribution(duration_s, SpeakerLabels(known))
    events: list[Event] = []
    for step in steps:
        if isinstance(step, TextDelta):
            events += attribution.add_text(step)
        else:
            events += attribution.add_turns(step.end_s, step.diarization, step.names)
    events += attribution.finish()
    return Told(attribution.segments, events)


def attribute(
    text: Sequence[TextDelta], windows: Sequence[Window], duration_s: float | None = None, known: Sequence[str] = ()
) -> list[SpeakerSegment]:
    """Whoever is first, text or turns, the segments must be the same."""
    if duration_s is None:
        duration_s = windows[-1].end_s
    text_first = tell([*text, *windows], duration_s, known)
    turns_first = tell([*windows, *text], duration_s, known)
    assert text_first.segments == turns_first.segments
    return text_first.segments


def said(segments: Sequence[SpeakerSegment]) -> list[tuple[str, str]]:
    return [(segment.speaker, segment.text) for segment in segments]


def times(segments: Sequence[SpeakerSegment]) -> list[tuple[float, float]]:
    return [(segment.start_s, segment.end_s) for segment in segments]


# Who said what


def test_a_sentence_is_split_where_the_speaker_changes() -> None:
    text = [spoken("How are you fine and you good", 0, 7)]
    segments = attribute(text, [window(7, turns((0, 3, ANN), (3, 6, BOB), (6, 7, ANN)))])
    assert segments == [
        SpeakerSegment("seg_001", 0, 3, "How are you", "A"),
        SpeakerSegment("seg_002", 3, 6, "fine and you", "B"),
        SpeakerSegment("seg_003", 6, 7, "good", "A"),
    ]


def test_what_one_speaker_says_on_end_is_one_segment_however_many_sentences_and_deltas() -> None:
    text = [spoken("Yes. I know.", 0.2, 2), spoken(" It is late.", 2.5, 4)]
    assert attribute(text, [window(5, turns((0, 5, ANN)))]) == [
        SpeakerSegment("seg_001", 0, 5, "Yes. I know. It is late.", "A")
    ]


def test_where_two_speak_at_once_the_exclusive_turns_tell_whose_the_words_are() -> None:
    overlapping = turns((0, 4, ANN), (4, 8, BOB), also=[(3, 4, BOB), (4, 5, ANN)])
    assert said(attribute([spoken("a b c d e f g h", 0, 8)], [window(8, overlapping)])) == [
        ("A", "a b c d"),
        ("B", "e f g h"),
    ]


def test_somebody_who_only_ever_speaks_over_others_gets_no_words_and_no_letter() -> None:
    overlapping = turns((0, 4, ANN), (4, 8, CY), also=[(1, 7, BOB)])
    assert said(attribute([spoken("a b c d e f g h", 0, 8)], [window(8, overlapping)])) == [
        ("A", "a b c d"),
        ("B", "e f g h"),
    ]


@pytest.mark.parametrize("length_s", [0.2, 0.5, 0.9, 1.0])
def test_somebody_s_mhm_does_not_split_the_sentence_that_it_accompanies(length_s: float) -> None:
    mhm = turns((0, 4, ANN), (4, 4 + length_s, BOB), (4 + length_s, 8, ANN), also=[(0, 8, ANN)])
    segments = attribute([spoken("so we went to the very old town", 0, 8)], [window(8, mhm)])
    assert segments == [SpeakerSegment("seg_001", 0, 8, "so we went to the very old town", "A")]


def test_a_mhm_with_a_little_doubt_around_it_does_not_split_the_sentence_either() -> None:
    mhm = turns((0, 4, ANN), (4.05, 5, BOB), (5.1, 8, ANN), also=[(0, 8, ANN)])
    segments = attribute([spoken("so we went to the very old town", 0, 8)], [window(8, mhm)])
    assert segments == [SpeakerSegment("seg_001", 0, 8, "so we went to the very old town", "A")]


def test_a_mhm_that_the_recogniser_has_written_down_stays_where_it_stands() -> None:
    mhm = turns((0, 4, ANN), (4, 4.5, BOB), (4.5, 8, ANN), also=[(0, 8, ANN)])
    text = [timed(("so", 0, 1), (" mhm", 4, 4.4), (" there", 4.6, 5))]
    assert said(attribute(text, [window(8, mhm)])) == [("A", "so mhm there")]


@pytest.mark.parametrize("length_s", [0.3, 0.6, 1.0, 1.5])
def test_a_short_answer_between_two_turns_is_its_speaker_s(length_s: float) -> None:
    answer = turns((0, 4, ANN), (4, 4 + length_s, BOB), (4 + length_s, 8, ANN))
    text = [spoken("Are you there?", 0, 3.9), timed((" Yes.", 4.05, 3.95 + length_s)), spoken(" Good to hear.", 5.6, 8)]
    assert said(attribute(text, [window(8, answer)])) == [
        ("A", "Are you there?"),
        ("B", "Yes."),
        ("A", "Good to hear."),
    ]


def test_a_turn_of_hardly_a_syllable_is_nobody_s() -> None:
    flicker = turns((0, 4, ANN), (4, 4.2, BOB), (4.2, 8, ANN))
    assert said(attribute([spoken("a b c d e f g h", 0, 8)], [window(8, flicker)])) == [("A", "a b c d e f g h")]


def test_a_word_over_a_change_of_speaker_goes_with_its_sentence() -> None:
    change = window(8, turns((0, 4, ANN), (4, 8, BOB)))
    last = [timed(("It", 2, 2.4), (" is", 2.4, 3.8), (" late.", 3.8, 4.6)), timed((" Oh.", 5, 6))]
    assert said(attribute(last, [change])) == [("A", "It is late."), ("B", "Oh.")]
    first = [timed(("Hm.", 1, 2)), timed((" Late", 3.4, 4.2), (" it", 4.4, 5), (" is.", 5, 6))]
    assert said(attribute(first, [change])) == [("A", "Hm."), ("B", "Late it is.")]


def test_a_sentence_of_one_word_over_a_change_of_speaker_is_whose_most_of_it_is() -> None:
    change = window(8, turns((0, 4, ANN), (4, 8, BOB)))
    assert said(attribute([timed(("Yes.", 3.3, 4.2))], [change])) == [("A", "Yes.")]
    assert said(attribute([timed(("Yes.", 3.8, 4.7))], [change])) == [("A", "Yes.")]
    assert attribute([timed(("Yes.", 3.3, 4.2))], [change])[0].end_s == 4
    assert attribute([timed(("Yes.", 3.8, 4.7))], [change])[0].start_s == 4


# Pauses


def test_a_long_pause_begins_a_new_segment_and_a_short_one_does_not() -> None:
    short_s, long_s = MAX_PAUSE_S - 0.1, MAX_PAUSE_S + 0.1
    text = [spoken("a b", 0, 2), spoken(" c d", 2 + short_s, 4), spoken(" e f", 4 + long_s, 8)]
    paused = turns((0, 2, ANN), (2 + short_s, 4, ANN), (4 + long_s, 8, ANN))
    assert attribute(text, [window(8, paused)]) == [
        SpeakerSegment("seg_001", 0, 4, "a b c d", "A"),
        SpeakerSegment("seg_002", 4 + long_s, 8, "e f", "A"),
    ]


def test_a_word_stretched_over_a_pause_belongs_to_its_beginning() -> None:
    text = [timed(("I", 0, 0.5), (" think", 0.5, 7.9), (" so", 8, 9))]
    segments = attribute(text, [window(10, turns((0, 2, ANN), (3, 7, BOB), (7.5, 10, ANN)))])
    assert segments == [
        SpeakerSegment("seg_001", 0, 2, "I think", "A"),
        SpeakerSegment("seg_002", 7.5, 10, "so", "A"),
    ]


# Words outside any turn


@pytest.mark.parametrize(
    ("start_s", "end_s", "speaker"),
    [(1.2, 1.8, "A"), (4.1, 4.5, "A"), (5.4, 5.9, "B"), (8.2, 9.0, "B"), (8.9, 9.8, "B")],
)
def test_a_sentence_near_a_turn_is_the_nearest_speaker_s(start_s: float, end_s: float, speaker: str) -> None:
    everything = [timed(("One", 2.5, 3)), timed((" two.", 6.5, 7))]
    lone = timed((" Ah.", start_s, end_s))
    text = sorted([*everything, lone], key=lambda delta: delta.words[0].start_s)
    segments = attribute(text, [window(10, turns((2, 4, ANN), (6, 8, BOB)))])
    assert [segment.speaker for segment in segments] == ["A", "B"]
    assert "Ah." in {segment.speaker: segment.text for segment in segments}[speaker]


def test_words_between_turns_go_with_their_sentence_though_another_speaker_is_nearer() -> None:
    text = [timed(("We", 2, 3), (" went", 3, 4), (" home.", 4.6, 5.4)), timed((" Oh.", 6, 7))]
    assert said(attribute(text, [window(8, turns((2, 4, ANN), (5.5, 8, BOB)))])) == [
        ("A", "We went home."),
        ("B", "Oh."),
    ]


def test_words_between_turns_go_with_the_words_next_to_them() -> None:
    text = [timed(("a", 0.5, 1), (" b", 1, 1.5), (" c", 2.6, 2.8), (" d", 3.2, 3.4), (" e", 4.5, 5))]
    assert said(attribute(text, [window(6, turns((0, 2, ANN), (4, 6, BOB)))])) == [("A", "a b c"), ("B", "d e")]


def test_far_from_any_turn_words_are_the_nearest_speaker_s_in_a_segment_of_their_own() -> None:
    text = [
        spoken("Long before.", 1, 2),
        spoken(" In it.", 10, 12),
        spoken(" Between them.", 14.5, 15.5),
        spoken(" And now.", 20, 22),
        spoken(" Long after.", 28, 29),
    ]
    assert attribute(text, [window(30, turns((10, 12, ANN), (20, 22, BOB)))]) == [
        SpeakerSegment("seg_001", 1, 2, "Long before.", "A"),
        SpeakerSegment("seg_002", 10, 12, "In it.", "A"),
        SpeakerSegment("seg_003", 14.5, 15.5, "Between them.", "A"),
        SpeakerSegment("seg_004", 20, 22, "And now.", "B"),
        SpeakerSegment("seg_005", 28, 29, "Long after.", "B"),
    ]


def test_far_from_any_turn_words_that_follow_each_other_are_one_segment() -> None:
    text = [
        spoken("One.", 20, 20.4),
        spoken(" Two.", 20.5, 21),
        spoken(" Three.", 21.1, 23),
        spoken(" Four.", 23, 23.5),
    ]
    segments = attribute(text, [window(30, turns((0, 2, ANN)))])
    assert segments == [SpeakerSegment("seg_001", 20, 23.5, "One. Two. Three. Four.", "A")]


def test_times_never_leave_the_upload() -> None:
    text = [spoken("In it.", 8, 9), spoken(" Beyond it.", 9.8, 13), spoken(" Far beyond it.", 20, 22)]
    segments = attribute(text, [window(10.1, turns((8, 12, ANN)))], duration_s=10)
    assert " ".join(segment.text for segment in segments) == "In it. Beyond it. Far beyond it."
    assert all(0 <= segment.start_s <= segment.end_s <= 10 for segment in segments)


# Nobody, one, many


@pytest.mark.parametrize(
    "windows", [[], [window(10, Diarization())], [window(5, Diarization()), window(10, Diarization())]]
)
def test_words_that_nobody_was_heard_to_say_are_one_speaker_s(windows: list[Window]) -> None:
    text = [
        spoken("La la la.", 1, 3),
        spoken(" And once more.", 3.2, 6),
        spoken(" La.", 6.1, 6.5),
        spoken(" End.", 8, 9),
    ]
    assert attribute(text, windows, duration_s=10) == [
        SpeakerSegment("seg_001", 1, 6.5, "La la la. And once more. La.", "A"),
        SpeakerSegment("seg_002", 8, 9, "End.", "A"),
    ]


def test_a_window_in_which_nobody_was_heard_continues_with_who_spoke_before() -> None:
    windows = [
        window(10, turns((0, 4, ANN), (5, 10, BOB))),
        window(20, Diarization()),
        window(30, turns((20, 30, ANN))),
    ]
    text = [spoken(f" In {second}.", second, second + 0.8) for second in range(30)]
    segments = attribute(text, windows)
    assert [speaker for speaker, _ in groupby(segment.speaker for segment in segments)] == ["A", "B", "A"]
    assert len(segments) <= 4


def test_a_window_with_only_overlapping_turns_has_no_speakers_to_give() -> None:
    overlapping = Diarization((SpeakerTurn(0, 4, ANN), SpeakerTurn(2, 6, BOB)), ())
    assert said(attribute([spoken("Hello there.", 1, 3)], [window(6, overlapping)])) == [("A", "Hello there.")]


def test_turns_without_words_are_no_segments() -> None:
    assert tell([window(10, turns((0, 4, ANN), (5, 10, BOB)))], 10) == Told([], [])


@pytest.mark.parametrize("steps", [[], [window(10, Diarization())]])
def test_nobody_and_nothing_is_nothing(steps: list[Window]) -> None:
    assert tell(steps, 10) == Told([], [])


@pytest.mark.parametrize("num_speakers", [1, 20, 26, 30])
def test_everybody_gets_a_letter_of_their_own_in_order_of_appearance(num_speakers: int) -> None:
    everybody = turns(*((2.0 * i, 2.0 * i + 1.8, 100 - i) for i in range(num_speakers)))
    text = [spoken(f" I am {i}.", 2.0 * i + 0.1, 2.0 * i + 1.5) for i in range(num_speakers)]
    letters = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "AA", "AB", "AC", "AD"]
    segments = attribute(text, [window(2.0 * num_speakers, everybody)])
    assert said(segments) == [(letters[i], f"I am {i}.") for i in range(num_speakers)]
    assert len({segment.id for segment in segments}) == num_speakers


def test_letters_go_by_who_is_first_written_down_not_by_who_is_first_heard() -> None:
    segments = attribute([spoken("Hello there.", 5, 7)], [window(8, turns((0, 4, BOB), (5, 8, ANN)))])
    assert said(segments) == [("A", "Hello there.")]


def test_known_speakers_have_their_names_and_use_up_no_letters() -> None:
    named = window(9, turns((0, 3, 0), (3, 6, 1), (6, 9, 2)), {0: "Ann", 1: 0, 2: 1})
    segments = attribute([spoken("a b c d e f g h i", 0, 9)], [named], known=["Ann", "Bob"])
    assert said(segments) == [("Ann", "a b c"), ("A", "d e f"), ("B", "g h i")]


@pytest.mark.parametrize(("known", "letters"), [(["A"], "BCD"), (["B"], "ACD"), (["C", "A"], "BDE"), (["a"], "ABC")])
def test_a_letter_is_never_a_known_speaker_s_name(known: list[str], letters: str) -> None:
    labels = SpeakerLabels(known)
    assert [labels.of(stranger) for stranger in (7, 3, 5)] == list(letters)
    assert [labels.of(name) for name in known] == known
    assert labels.of(3) == letters[1]


def test_a_known_speaker_called_a_and_a_stranger_are_two() -> None:
    named = window(6, turns((0, 3, 0), (3, 6, 1)), {0: 0, 1: "A"})
    assert said(attribute([spoken("a b c d e f", 0, 6)], [named], known=["A"])) == [("B", "a b c"), ("A", "d e f")]


def test_letters_do_not_run_out() -> None:
    labels = SpeakerLabels(["AA", "ZZ"])
    given = [labels.of(number) for number in range(26 + 26 * 26)]
    assert given[:3] + given[25:28] == ["A", "B", "C", "Z", "AB", "AC"]
    assert given[-2:] == ["AAA", "AAB"]
    assert len(set(given)) == len(given)


# Long segments


def test_a_monologue_is_cut_at_the_first_end_of_a_sentence_after_half_a_minute() -> None:
    text = [spoken(f" This is number {i}.", 8.0 * i, 8.0 * i + 8) for i in range(12)]
    segments = attribute(text, [window(96, turns((0, 96, ANN)))])
    assert times(segments) == [(0, 32), (32, 64), (64, 96)]
    assert [segment.text.count("This") for segment in segments] == [4, 4, 4]
    assert {segment.speaker for segment in segments} == {"A"}


def test_half_a_minute_is_not_too_long() -> None:
    text = [spoken(f" This is number {i}.", 9.8 * i, 9.8 * i + 9.8) for i in range(3)]
    assert times(attribute(text, [window(29.4, turns((0, 29.4, ANN)))])) == [(0, 29.4)]
    text = [spoken(f" This is number {i}.", 9.0 * i, 9.0 * i + 9) for i in range(5)]
    assert times(attribute(text, [window(45, turns((0, 45, ANN)))])) == [(0, 36), (36, 45)]


def test_a_monologue_without_sentences_is_cut_after_a_minute() -> None:
    text = [spoken(" and then we went on", 5.0 * i, 5.0 * i + 5) for i in range(30)]
    segments = attribute(text, [window(150, turns((0, 150, ANN)))])
    assert times(segments) == [(0, 60), (60, 120), (120, 150)]
    assert [len(segment.text.split()) for segment in segments] == [60, 60, 30]


def test_a_monologue_over_all_windows_is_cut_the_same() -> None:
    text = [spoken(f" This is number {i}.", 8.0 * i, 8.0 * i + 8) for i in range(12)]
    whole = attribute(text, [window(96, turns((0, 96, ANN)))])
    windows = [window(24.0 * i + 24, turns((24.0 * i, 24.0 * i + 24, ANN))) for i in range(4)]
    assert attribute(text, windows) == whole


def test_a_long_text_that_nobody_was_heard_to_say_is_cut_too() -> None:
    text = [spoken(f" This is number {i}.", 8.0 * i, 8.0 * i + 8) for i in range(12)]
    segments = attribute(text, [window(96, Diarization())])
    assert times(segments) == [(0, 32), (32, 64), (64, 96)]


# Windows


@pytest.mark.parametrize("gap_s", [0.0, MAX_PAUSE_S / 4])
def test_a_turn_goes_on_over_the_end_of_a_window(gap_s: float) -> None:
    windows = [window(10, turns((5, 10 - gap_s, 0)), {0: ANN}), window(20, turns((10 + gap_s, 15, 3)), {3: ANN})]
    text = [spoken("I will go on and", 5, 10), spoken(" on and on.", 10, 13)]
    assert attribute(text, windows) == [SpeakerSegment("seg_001", 5, 15, "I will go on and on and on.", "A")]


def test_a_sentence_over_the_end_of_a_window_is_told_apart_by_both() -> None:
    windows = [window(10, turns((5, 10, 0)), {0: ANN}), window(20, turns((10, 15, 0)), {0: BOB})]
    assert said(attribute([spoken("a b c d e f g h i", 5, 14)], windows)) == [("A", "a b c d e"), ("B", "f g h i")]


def test_a_speaker_s_number_means_something_in_its_window_only() -> None:
    windows = [
        window(10, turns((0, 5, 0), (5, 10, 1)), {0: "Ann", 1: 0}),
        window(20, turns((10, 15, 0), (15, 20, 1)), {0: 0, 1: "Ann"}),
        window(30, turns((20, 25, 0), (25, 30, 1)), {0: 1, 1: 0}),
    ]
    text = [spoken(f" It is {i}.", 5.0 * i, 5.0 * i + 4.9) for i in range(6)]
    segments = attribute(text, windows, known=["Ann"])
    assert said(segments) == [
        ("Ann", "It is 0."),
        ("A", "It is 1. It is 2."),
        ("Ann", "It is 3."),
        ("B", "It is 4."),
        ("A", "It is 5."),
    ]


def test_a_word_at_the_end_of_a_window_is_nobody_else_s_once_the_next_is_known() -> None:
    windows = [window(20, turns((10, 19.6, ANN), (19.6, 19.8, BOB))), window(30, turns((20, 30, BOB)))]
    assert len(attribute([timed(("there", 19.2, 20.1))], windows)) == 1


def test_what_lies_between_two_windows_turns_is_the_same_whoever_is_first() -> None:
    windows = [window(20, turns((2, 10, BOB), (10, 19.4, ANN))), window(30, turns((20.1, 30, ANN)))]
    text = [timed(("Well,", 9, 9.8), (" so", 19.5, 19.7)), timed((" long.", 19.7, 19.9)), timed((" Bye.", 22, 23))]
    assert " ".join(segment.text for segment in attribute(text, windows)) == "Well, so long. Bye."


# As it comes


def test_text_is_told_as_soon_as_its_window_is_known() -> None:
    attribution = SpeakerAttribution(30, SpeakerLabels())
    assert attribution.add_text(spoken("It is early.", 1, 3)) == []
    [early] = attribution.add_turns(10, turns((0, 8, ANN)), {ANN: ANN})
    assert (early.text, early.segment_id) == ("It is early.", "seg_001")  # type: ignore[union-attr]
    [more] = attribution.add_text(spoken(" It is not late.", 3, 8))
    assert (more.text, more.segment_id) == (" It is not late.", "seg_001")  # type: ignore[union-attr]
    assert attribution.add_text(spoken(" Now it is late.", 12, 15)) == []
    assert attribution.segments == []
    ended, late = attribution.add_turns(20, turns((11, 18, BOB)), {BOB: BOB})
    assert ended == SegmentFinished(SpeakerSegment("seg_001", 0, 8, "It is early. It is not late.", "A"))
    assert isinstance(late, TextDelta)
    assert late.segment_id == "seg_002"
    assert attribution.finish() == [SegmentFinished(SpeakerSegment("seg_002", 11, 18, "Now it is late.", "B"))]


def test_a_sentence_waits_for_the_window_that_it_ends_in() -> None:
    attribution = SpeakerAttribution(20, SpeakerLabels())
    assert attribution.add_turns(10, turns((5, 10, ANN)), {ANN: ANN}) == []
    assert attribution.add_text(spoken("It goes on.", 8, 12.4)) == []
    [delta] = attribution.add_turns(20, turns((10, 13, ANN)), {ANN: ANN})
    assert isinstance(delta, TextDelta)
    assert delta.text == "It goes on."


def test_deltas_hold_their_words_with_all_of_the_text_and_every_token_once() -> None:
    tokens = tuple(Token(i, "t", -0.1, b"t") for i in range(4))
    first, second = spoken("Are you there? Yes. Fine", 0, 5), spoken(" then.", 5, 6)
    text = [TextDelta(first.text, tokens[:3], first.words), TextDelta(second.text, tokens[3:], second.words)]
    told = tell([window(6, turns((0, 3, ANN), (3, 4, BOB), (4, 6, ANN))), *text], 6)
    deltas = [event for event in told.events if isinstance(event, TextDelta)]
    assert [delta.text for delta in deltas] == ["Are you there?", " Yes.", " Fine", " then."]
    assert [[word.text for word in delta.words] for delta in deltas] == [
        ["Are", " you", " there?"],
        [" Yes."],
        [" Fine"],
        [" then."],
    ]
    assert tuple(token for delta in deltas for token in delta.tokens) == tokens


# What recognisers give


def test_a_recogniser_without_word_times_gives_each_segment_to_who_begins_it() -> None:
    text = [
        TextDelta("Are you there?", (), (Word("Are you there?", 0, 4, 0.9),)),
        TextDelta(" Yes, I am. Is it late?", (), (Word("Yes, I am. Is it late?", 4, 9, 0.9),)),
        TextDelta(" No.", (), (Word("No.", 9.5, 10, 0.9),)),
    ]
    segments = attribute(text, [window(10, turns((0, 4, ANN), (4, 7, BOB), (7, 10, ANN)))])
    assert segments == [
        SpeakerSegment("seg_001", 0, 4, "Are you there?", "A"),
        SpeakerSegment("seg_002", 4, 7, "Yes, I am. Is it late?", "B"),
        SpeakerSegment("seg_003", 7, 10, "No.", "A"),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["你", "在", "吗。"], ["我", "在。"]),
        (["もし", "もし。"], ["はい、", "そう", "です。"]),
        (["สวัส", "ดี"], ["ครับ"]),
    ],
)
def test_scripts_without_spaces_stay_without_them(first: list[str], second: list[str]) -> None:
    parts = [*first, *second]
    words = tuple(Word(part, i, i + 1, 0.9) for i, part in enumerate(parts))
    change = turns((0, len(first), ANN), (len(first), len(parts), BOB))
    segments = attribute([TextDelta("".join(parts), (), words)], [window(len(parts), change)])
    assert said(segments) == [("A", "".join(first)), ("B", "".join(second))]


def test_words_collapsed_into_one_instant_find_their_speakers_again() -> None:
    collapsed = timed(("I", 0, 0), (" think", 0, 0), (" you", 0, 0), (" know", 0, 8))
    change = window(8, turns((0, 3.4, ANN), (3.4, 8, BOB)))
    assert said(attribute([collapsed], [change])) == [("A", "I think"), ("B", "you know")]


# The parts


def test_a_mhm_is_left_out_only_where_the_other_speaker_goes_on() -> None:
    before, mhm, behind = SpeakerTurn(0, 4, ANN), SpeakerTurn(4, 4.6, BOB), SpeakerTurn(4.6, 8, ANN)
    through = [SpeakerTurn(0, 8, ANN), mhm]
    assert {turn.speaker for turn in without_interjections([before, mhm, behind], through)} == {ANN}
    assert to_stretches(Diarization(tuple(through), (before, mhm, behind)), {ANN: ANN, BOB: BOB}) == [
        Stretch(0, 8, ANN)
    ]
    assert without_interjections([before, mhm, behind], [before, mhm, behind]) == [before, mhm, behind]


@pytest.mark.parametrize(
    "exclusive",
    [
        [SpeakerTurn(0, 4, ANN), SpeakerTurn(4, 4.6, BOB), SpeakerTurn(4.6, 8, CY)],
        [SpeakerTurn(0, 4, ANN), SpeakerTurn(4, 4.6, BOB), SpeakerTurn(6, 8, ANN)],
        [SpeakerTurn(0, 4, ANN), SpeakerTurn(4, 4.1 + MAX_INTERJECTION_S, BOB), SpeakerTurn(5.1, 8, ANN)],
        [SpeakerTurn(4, 4.2, BOB), SpeakerTurn(4.2, 8, ANN)],
        [SpeakerTurn(0, 4, ANN), SpeakerTurn(4, 4.2, BOB)],
        [SpeakerTurn(4, 4.2, BOB)],
        [],
    ],
)
def test_turns_that_are_no_interjections_are_kept(exclusive: list[SpeakerTurn]) -> None:
    assert without_interjections(exclusive, [SpeakerTurn(0, 8, ANN), SpeakerTurn(0, 8, CY)]) == exclusive


def test_stretches_join_over_short_pauses_and_end_where_somebody_else_speaks() -> None:
    diarization = turns((0, 2, 0), (2.2, 4, 0), (4.2, 6, 1), (6.1, 7, 0), (7.1 + MAX_PAUSE_S, 9, 0))
    assert to_stretches(diarization, {0: "Ann", 1: 5}) == [
        Stretch(0, 4, "Ann"),
        Stretch(4.2, 6, 5),
        Stretch(6.1, 7, "Ann"),
        Stretch(7.1 + MAX_PAUSE_S, 9, "Ann"),
    ]


def test_stretches_of_two_numbers_with_one_name_are_one_speaker_s() -> None:
    assert to_stretches(turns((0, 2, 0), (2.2, 4, 1)), {0: "Ann", 1: "Ann"}) == [Stretch(0, 4, "Ann")]


def test_nobody_s_turns_are_no_stretches() -> None:
    assert to_stretches(Diarization(), {}) == []


@pytest.mark.parametrize(
    ("text", "words", "whole"),
    [
        (" Hello, you  there. ", ["Hello,", "you", "there."], [" Hello,", " you", "  there. "]),
        ("你好。再见", ["你好。", "再见"], ["你好。", "再见"]),
        ("no no no", ["no", "no", "no"], ["no", " no", " no"]),
        ("a b c", ["a", "missing", "c"], ["a", " b c"]),
        ("a b c", ["a", "b"], ["a", " b c"]),
        ("a b c", ["nothing", "of it"], ["a b c"]),
        ("a\u00a0b\u2028c", ["a", "b", "c"], ["a", "\u00a0b", "\u2028c"]),
    ],
)
def test_whole_words_hold_every_character(text: str, words: list[str], whole: list[str]) -> None:
    timed_words = [Word(word, i, i + 0.5, 0.9) for i, word in enumerate(words)]
    found = whole_words(text, timed_words)
    assert [word.text for word in found] == whole
    assert "".join(word.text for word in found) == text


def test_words_that_are_not_in_the_text_still_tell_when_it_was_said() -> None:
    assert whole_words("a b", [Word("x", 1, 2, 0.9), Word("y", 3, 4, 0.8)]) == [Word("a b", 1, 4, 0.9)]


def lengths(*words: tuple[str, float, float]) -> list[tuple[float, float]]:
    spread = spread_collapsed([Word(text, start, end, 1.0) for text, start, end in words])
    assert [word.text for word in spread] == [text for text, _, _ in words]
    return [(word.start_s, word.end_s) for word in spread]


def test_collapsed_words_get_their_share_of_the_long_one_next_to_them() -> None:
    assert lengths(("aa", 0, 0), ("bb", 0, 0.01), ("cc", 0.01, 6)) == [(0, 2), (2, 4), (4, 6)]
    assert lengths(("aaa", 0, 4), ("b", 4, 4)) == [(0, 3), (3, 4)]
    assert lengths(("a", 0, 0), ("bb", 0, 4), ("c", 4, 4)) == [(0, 1), (1, 3), (3, 4)]


@pytest.mark.parametrize(
    "words",
    [
        [],
        [("a", 0, 5)],
        [("a", 0, 0), ("b", 0, 0.9)],
        [("a", 0, 0), ("b", 0, 0.5), ("c", 0.5, 5)],
        [("a", 0, 0.5), ("b", 0.5, 5), ("c", 5, 5.5)],
        [("a", 0, 0), ("b", 0, 0)],
    ],
)
def test_words_with_times_of_their_own_keep_them(words: list[tuple[str, float, float]]) -> None:
    assert lengths(*words) == [(start, end) for _, start, end in words]


def test_words_between_two_long_ones_stay_in_order() -> None:
    spread = lengths(("aaaa", 0, 4), ("b", 4, 4), ("c", 4, 4), ("dddd", 4, 8))
    assert all(before[0] <= behind[0] for before, behind in pairwise(spread))
    assert all(start < end for start, end in spread)
    assert (spread[0][0], spread[-1][1]) == (0, 8)


@pytest.mark.parametrize(
    ("words", "grouped"),
    [
        ([], []),
        (["Yes."], [["Yes."]]),
        (["Are", " you?", " Yes!", " I", " am"], [["Are", " you?"], [" Yes!"], [" I", " am"]]),
        (["你好。", "你", "在吗。", "在"], [["你好。"], ["你", "在吗。"], ["在"]]),
        (["Well… ", "yes"], [["Well… "], ["yes"]]),
    ],
)
def test_sentences_end_with_their_marks(words: list[str], grouped: list[list[str]]) -> None:
    found = sentences(Word(word, i, i + 1, 1.0) for i, word in enumerate(words))
    assert [[word.text for word in sentence] for sentence in found] == grouped


# Whatever comes, in whatever order


@dataclass(frozen=True)
class Conversation:
    duration_s: float
    known: list[str]
    text: list[TextDelta]
    windows: list[Window]


def some_conversation(random: Random) -> Conversation:
    duration_s = random.choice([8.0, 30.0, 100.0, 200.0])
    people: list[Speaker] = [
        *random.sample(["Ann", "A", "B", "AA"], random.randint(0, 3)),
        *range(random.randint(1, 4)),
    ]
    num_windows = random.choice([1, 2, 5, 20])
    edges = [duration_s * number / num_windows for number in range(num_windows + 1)]
    windows = [some_window(random, start_s, end_s, people) for start_s, end_s in pairwise(edges)]
    return Conversation(
        duration_s, [name for name in people if isinstance(name, str)], some_text(random, duration_s), windows
    )


def some_window(random: Random, start_s: float, end_s: float, people: Sequence[Speaker]) -> Window:
    if random.random() < 0.1:
        return Window(end_s, Diarization(), {})
    numbered = dict(enumerate(random.sample(people, len(people))))
    exclusive = []
    time_s = start_s + random.choice([0.0, 0.0, 0.1, 3.0])
    while time_s < end_s:
        until_s = min(time_s + random.choice([0.1, 0.5, 1.0, 3.0, 12.0]) * random.uniform(0.8, 1.2), end_s)
        exclusive.append(SpeakerTurn(time_s, until_s, random.choice(list(numbered))))
        time_s = until_s + random.choice([0.0, 0.0, 0.1, 0.3, 4.0])
    also = [
        SpeakerTurn(turn.start_s, min(turn.end_s + random.uniform(0, 4), end_s), turn.speaker)
        for turn in exclusive
        if random.random() < 0.3
    ]
    return Window(end_s, Diarization((*exclusive, *also), tuple(exclusive)), numbered)


def some_text(random: Random, duration_s: float) -> list[TextDelta]:
    text: list[TextDelta] = []
    space = random.choice([" ", " ", ""])
    time_s = random.choice([0.0, 0.3, 5.0])
    tokens = (Token(number, "t", -0.1, b"t") for number in range(10_000))
    while time_s < duration_s:
        written = ""
        words: list[Word] = []
        for _ in range(random.choice([1, 1, 4, 12])):
            part = random.choice(["so", "well", "extraordinarily", "我", "x-y"])
            part += random.choice(["", "", ",", ".", "?", "。"])
            length_s = random.choice([0.0, 0.0, 0.1, 0.3, 0.5, 0.9, 6.0]) * random.uniform(0.8, 1.2)
            written += (space or " " * (random.random() < 0.1)) + part
            if random.random() > 0.05 or not words:
                words.append(Word(part, time_s, time_s + length_s, random.random()))
            time_s += length_s + random.choice([0.0, 0.0, 0.05, 0.3, 2.0, -0.05])
            time_s = max(time_s, words[-1].start_s)
        if random.random() < 0.1:  # a recogniser without word times
            words = [Word(written.strip(), words[0].start_s, words[-1].end_s, 0.5)]
        text.append(TextDelta(written if text else written.lstrip(), tuple(islice(tokens, len(words))), tuple(words)))
    return text


def interleaved(random: Random, text: Sequence[TextDelta], windows: Sequence[Window]) -> Iterator[TextDelta | Window]:
    queues: list[list[TextDelta | Window]] = [list(text), list(windows)]
    pace = random.uniform(0.1, 0.9)
    while any(queues):
        chosen = queues[random.random() < pace]
        if chosen:
            yield chosen.pop(0)


@pytest.mark.parametrize("seed", range(150))
def test_the_order_of_arrival_changes_nothing(seed: int) -> None:
    random = Random(seed)
    conversation = some_conversation(random)
    text, windows = conversation.text, conversation.windows
    orders: list[list[TextDelta | Window]] = [
        [*text, *windows],
        [*windows, *text],
        *(list(interleaved(random, text, windows)) for _ in range(4)),
    ]
    told = [tell(order, conversation.duration_s, conversation.known) for order in orders]
    for other in told[1:]:
        assert other.segments == told[0].segments
    for one in told:
        check(conversation, one)


def check(conversation: Conversation, told: Told) -> None:
    deltas = [event for event in told.events if isinstance(event, TextDelta)]
    assert "".join(delta.text for delta in deltas) == "".join(delta.text for delta in conversation.text)
    assert "".join(word.text for delta in deltas for word in delta.words) == "".join(delta.text for delta in deltas)
    assert [t for delta in deltas for t in delta.tokens] == [t for delta in conversation.text for t in delta.tokens]
    assert [event.segment for event in told.events if isinstance(event, SegmentFinished)] == told.segments
    assert len({segment.id for segment in told.segments}) == len(told.segments)
    assert [key for key, _ in groupby(delta.segment_id for delta in deltas)] == [one.id for one in told.segments]
    assert all(segment.text for segment in told.segments)
    assert all(0 <= one.start_s <= one.end_s <= conversation.duration_s for one in told.segments)
    assert all(before.start_s <= behind.start_s for before, behind in pairwise(told.segments))
    finished: dict[str | None, SpeakerSegment] = {}
    joined: dict[str | None, str] = {}
    for event in told.events:
        if isinstance(event, SegmentFinished):
            assert event.segment.text == joined[event.segment.id].strip()
            finished[event.segment.id] = event.segment
        else:
            assert event.segment_id not in finished, "a segment's deltas precede its end"
            joined[event.segment_id] = joined.get(event.segment_id, "") + event.text
    assert set(joined) == set(finished)
    check_speakers(conversation, deltas, finished)


def check_speakers(
    conversation: Conversation, deltas: Sequence[TextDelta], segments: Mapping[str | None, SpeakerSegment]
) -> None:
    """A word that is wholly in somebody's turn of some length is theirs, and everybody has one label of their own."""
    labels: dict[Speaker, str] = {}
    for delta in deltas:
        for word in delta.words:
            speaker = surely_speaks(conversation, word)
            if speaker is not None:
                assert (
                    labels.setdefault(speaker, segments[delta.segment_id].speaker) == segments[delta.segment_id].speaker
                )
    assert len(set(labels.values())) == len(labels)
    for speaker, label in labels.items():
        assert label == speaker if isinstance(speaker, str) else label not in conversation.known


def surely_speaks(conversation: Conversation, word: Word) -> Speaker | None:
    heard_until_s = min(word.end_s, word.start_s + 1)
    for one in conversation.windows:
        for turn in one.diarization.exclusive_turns:
            is_inside = turn.start_s < word.start_s < heard_until_s < turn.end_s
            if is_inside and turn.end_s - turn.start_s > MAX_INTERJECTION_S:
                return one.names[turn.speaker]
    return None
