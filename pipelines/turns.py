"""The diarizer's turns, made ready for words: without interjections, joined over short pauses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from pipelines.speaker_types import Diarization, Speaker, SpeakerTurn

MAX_PAUSE_S = 0.5
"""Somebody who is silent for longer begins a new segment."""

MAX_INTERJECTION_S = 1.0
MAX_FLICKER_S = 0.25
MIN_HEARD_THROUGH = 0.8
"""Share of an interjection through which the other speaker goes on."""


@dataclass(slots=True)
class Run:
    """A stretch and what continues it in the next windows."""

    start_s: float
    has_segment: bool = False


@dataclass(slots=True)
class Stretch:
    """Turns of one speaker, None for nobody known, without a long pause and without anybody in between."""

    start_s: float
    end_s: float
    speaker: Speaker | None
    run: Run = field(init=False, compare=False)

    def __post_init__(self) -> None:
        self.run = Run(self.start_s)

    def distance_s(self, start_s: float, end_s: float) -> float:
        return max(self.start_s - end_s, start_s - self.end_s, 0.0)

    def shared_s(self, start_s: float, end_s: float) -> float:
        return min(self.end_s, end_s) - max(self.start_s, start_s)


def to_stretches(diarization: Diarization, names: Mapping[int, Speaker]) -> list[Stretch]:
    """Exclusive turns without interjections, joined over short pauses."""
    stretches: list[Stretch] = []
    for turn in without_interjections(diarization.exclusive_turns, diarization.turns):
        stretch = Stretch(turn.start_s, turn.end_s, names[turn.speaker])
        last = stretches[-1] if stretches else None
        if last and last.speaker == stretch.speaker and is_short_pause(last, stretch):
            last.end_s = stretch.end_s
        else:
            stretches.append(stretch)
    return stretches


def without_interjections(exclusive: Sequence[SpeakerTurn], overlapping: Sequence[SpeakerTurn]) -> list[SpeakerTurn]:
    """Leave out short turns amid another speaker's who goes on through them.

    A recogniser writes down one voice at a time: somebody's "mhm" must not take words out of the sentence
    that it accompanies. A turn of hardly a syllable is the diarizer's doubt, whoever else is heard.
    """
    kept: list[SpeakerTurn] = []
    for turn, following in zip_longest(exclusive, exclusive[1:]):
        previous = kept[-1] if kept else None
        if previous and following and _is_interjection(turn, previous, following, overlapping):
            kept[-1] = replace(previous, end_s=following.start_s)
        else:
            kept.append(turn)
    return kept


def _is_interjection(
    turn: SpeakerTurn, previous: SpeakerTurn, following: SpeakerTurn, overlapping: Sequence[SpeakerTurn]
) -> bool:
    if not previous.speaker == following.speaker != turn.speaker:
        return False
    length_s = turn.end_s - turn.start_s
    if length_s > MAX_INTERJECTION_S or following.start_s - previous.end_s > length_s + MAX_FLICKER_S:
        return False
    through_s = sum(
        max(min(other.end_s, turn.end_s) - max(other.start_s, turn.start_s), 0.0)
        for other in overlapping
        if other.speaker == previous.speaker
    )
    return length_s <= MAX_FLICKER_S or through_s >= MIN_HEARD_THROUGH * length_s


def is_short_pause(before: Stretch, after: Stretch) -> bool:
    return after.start_s - before.end_s < MAX_PAUSE_S
