"""Who said what: words find their speakers' turns, and segments are rebuilt turn by turn.

Words come from the recogniser and turns from the diarizer, each at its own pace. A sentence is attributed when the
turns of its windows are known, by those turns alone, so the result does not depend on who was faster.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, product
from string import ascii_uppercase

from pipelines.speaker_types import Diarization, Speaker
from pipelines.transcript_types import SpeakerSegment, Token, Word
from pipelines.transcription_events import SegmentFinished, TextDelta
from pipelines.turns import Stretch, is_short_pause, to_stretches
from pipelines.words import MAX_WORD_S, ends_sentence, sentences, spread_collapsed, whole_words

MAX_DISTANCE_S = 1.0
"""A word that is further away from a turn is no part of it."""

MIN_SHARE = 0.2
"""Of a word's time, below which its turn is no evidence: both sides err by that much."""

LONG_SEGMENT_S = 30.0
MAX_SEGMENT_S = 60.0


@dataclass(frozen=True, slots=True)
class _Window:
    end_s: float
    stretches: list[Stretch]


@dataclass(frozen=True, slots=True)
class _Sentence:
    words: list[Word]
    tokens: tuple[Token, ...]


@dataclass(slots=True)
class _OpenSegment:
    id: str
    start_s: float
    stretch: Stretch
    speaker: str
    words: list[Word] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(word.text for word in self.words).strip()


@dataclass(slots=True)
class _Delta:
    """Text of one segment that is decided at once."""

    segment_id: str
    words: list[Word] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)

    def finish(self) -> TextDelta:
        text = "".join(word.text for word in self.words)
        return TextDelta(text, tuple(self.tokens), tuple(self.words), self.segment_id)


Event = TextDelta | SegmentFinished


class SpeakerAttribution:
    """Takes text and turns in order, each as it comes, and gives the same text back segment by segment."""

    def __init__(self, bound_s: float, labels: "SpeakerLabels") -> None:
        """`bound_s`: no segment ends behind it."""
        self.bound_s = bound_s
        self.segments: list[SpeakerSegment] = []
        self._labels = labels
        self._windows: list[_Window] = []
        self._waiting: deque[_Sentence] = deque()
        self._open: _OpenSegment | None = None
        self._stray: Stretch | None = None
        self._numbers = count(1)

    def add_text(self, delta: TextDelta) -> list[Event]:
        words = spread_collapsed(whole_words(delta.text, delta.words))
        for number, sentence in enumerate(sentences(words)):
            self._waiting.append(_Sentence(sentence, delta.tokens if number == 0 else ()))
        return self._attribute(until_s=self._windows[-1].end_s if self._windows else 0.0)

    def add_turns(self, end_s: float, diarization: Diarization, names: Mapping[int, Speaker]) -> list[Event]:
        """Take the turns of the next window, which ends at `end_s`; `names` tells who its speakers are."""
        stretches = to_stretches(diarization, names)
        last = next((window.stretches[-1] for window in reversed(self._windows) if window.stretches), None)
        if last and stretches and last.speaker == stretches[0].speaker and is_short_pause(last, stretches[0]):
            stretches[0].run = last.run
        self._windows.append(_Window(end_s, stretches))
        return self._attribute(until_s=end_s)

    def finish(self) -> list[Event]:
        """Attribute what is left when all text and all turns have come."""
        events = self._attribute(until_s=float("inf"))
        return events + self._close(float("inf"))

    def _attribute(self, until_s: float) -> list[Event]:
        events: list[Event] = []
        delta: _Delta | None = None
        while self._waiting and max(map(_middle_s, self._waiting[0].words)) < until_s:
            sentence = self._waiting.popleft()
            tokens = sentence.tokens
            for word, stretch in zip(sentence.words, self._stretches_of(sentence.words), strict=True):
                segment, closed = self._segment_for(word, stretch)
                if delta and delta.segment_id != segment.id:
                    events.append(delta.finish())
                    delta = None
                events += closed
                delta = delta or _Delta(segment.id)
                segment.words.append(word)
                delta.words.append(word)
                delta.tokens += tokens
                tokens = ()
        return [*events, delta.finish()] if delta else events

    def _segment_for(self, word: Word, stretch: Stretch) -> tuple[_OpenSegment, list[Event]]:
        """The segment that `word` continues or begins, and the end of the one before."""
        if self._open and self._open.stretch.run is stretch.run and not _is_full(self._open):
            self._open.stretch = max(self._open.stretch, stretch, key=lambda one: one.end_s)
            return self._open, []
        start_s = word.start_s if stretch.run.has_segment else stretch.run.start_s
        start_s = max(start_s, self._open.start_s if self._open else 0.0)
        closed = self._close(start_s)
        stretch.run.has_segment = True
        speaker = self._labels.of(stretch.speaker)
        self._open = _OpenSegment(f"seg_{next(self._numbers):03d}", start_s, stretch, speaker)
        return self._open, closed

    def _close(self, next_start_s: float) -> list[Event]:
        if self._open is None:
            return []
        opened, self._open = self._open, None
        end_s = min(opened.stretch.end_s, next_start_s, self.bound_s)
        start_s = min(opened.start_s, self.bound_s)
        segment = SpeakerSegment(opened.id, start_s, max(end_s, start_s), opened.text, opened.speaker)
        self.segments.append(segment)
        return [SegmentFinished(segment)]

    def _stretches_of(self, sentence: Sequence[Word]) -> list[Stretch]:
        """Every word's stretch; where a word is nobody's or several speakers', the rest of its sentence tells whose."""
        found = [self._shared_by(word) for word in sentence]
        sure = {number: shared[0] for number, shared in enumerate(found) if len({s.speaker for s in shared}) == 1}
        stretches = []
        for number, (word, shared) in enumerate(zip(sentence, found, strict=True)):
            like = min(sure, key=lambda other: abs(other - number), default=None)
            speaker = sure[like].speaker if like is not None else None
            same = [stretch for stretch in shared if stretch.speaker == speaker]
            if number in sure or (shared and not same):
                stretches.append(shared[0])
            elif same:
                stretches.append(same[0])
            else:
                stretches.append(self._outside(word, sure[like] if like is not None else self._nearest(word)))
        return stretches

    def _shared_by(self, word: Word) -> list[Stretch]:
        """The stretches that share a good part of the word's time, those with most of it first."""
        start_s, end_s = _heard(word)
        least_s = max(MIN_SHARE * (end_s - start_s), 1e-6)
        shared = [stretch for stretch in self._around(word) if stretch.shared_s(start_s, end_s) >= least_s]
        return sorted(shared, key=lambda stretch: -stretch.shared_s(start_s, end_s))

    def _nearest(self, word: Word) -> Stretch | None:
        before = self._open.stretch if self._open else None
        return min(self._around(word), key=lambda stretch: stretch.distance_s(*_heard(word)), default=before)

    def _outside(self, word: Word, like: Stretch | None) -> Stretch:
        """A word that is in nobody's turn: far from its speaker's it makes a stretch of its own, which the words
        after it continue.
        """
        if like and like is not self._stray and like.distance_s(*_heard(word)) <= MAX_DISTANCE_S:
            return like
        speaker, stray = like.speaker if like else None, self._stray
        if stray and stray.speaker == speaker and word.start_s - stray.end_s <= MAX_DISTANCE_S:
            stray.end_s = max(stray.end_s, word.end_s)
        else:
            stray = self._stray = Stretch(word.start_s, word.end_s, speaker)
        return stray

    def _around(self, word: Word) -> list[Stretch]:
        """Of the stretches of the word's window those that it may share time with, and one before and behind them."""
        if not self._windows:
            return []
        start_s, end_s = _heard(word)
        number = bisect_left(self._windows, _middle_s(word), key=lambda window: window.end_s)
        stretches = self._windows[min(number, len(self._windows) - 1)].stretches
        first = bisect_left(stretches, start_s, key=lambda stretch: stretch.end_s)
        last = bisect_left(stretches, end_s, key=lambda stretch: stretch.start_s)
        return stretches[max(first - 1, 0) : last + 1]


class SpeakerLabels:
    """Known names stay; everybody else is A, B, … Z, AA, AB, … in order of first appearance."""

    def __init__(self, known_names: Iterable[str] = ()) -> None:
        taken = frozenset(known_names)
        self._letters = (letters for letters in _letters() if letters not in taken)
        self._labels: dict[Speaker | None, str] = {name: name for name in taken}

    def of(self, speaker: Speaker | None) -> str:
        if speaker not in self._labels:
            self._labels[speaker] = next(self._letters)
        return self._labels[speaker]


def _is_full(segment: _OpenSegment) -> bool:
    length_s = segment.words[-1].end_s - segment.start_s
    return length_s >= MAX_SEGMENT_S or (length_s >= LONG_SEGMENT_S and ends_sentence(segment.words[-1]))


def _heard(word: Word) -> tuple[float, float]:
    return word.start_s, min(word.end_s, word.start_s + MAX_WORD_S)


def _middle_s(word: Word) -> float:
    return sum(_heard(word)) / 2


def _letters() -> Iterator[str]:
    return ("".join(letters) for length in count(1) for letters in product(ascii_uppercase, repeat=length))
