"""A realtime transcription session as a pure machine: it is told events and tells events, and knows no socket, task or
clock. Its time is the audio's.

Audio is kept here only as long as it may belong to a turn that has not begun; what belongs to one is passed on at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pipelines.audio_types import SAMPLE_RATE_HZ, VadOptions
from pipelines.chunking import quietest_moment_s
from pipelines.realtime_types import (
    AudioAppended,
    BufferCleared,
    ClearRequested,
    CommitRefused,
    CommitRequested,
    DetectionChanged,
    SessionInput,
    SessionOutput,
    SpeechStarted,
    SpeechStopped,
    TimeoutTriggered,
    TurnClosed,
    TurnCommitted,
    TurnDetection,
    TurnDropped,
    TurnGrew,
    TurnOpened,
    TurnTold,
)
from pipelines.recent_audio import RecentAudio
from pipelines.vad import FRAME_SAMPLES, SpeechDetector

MIN_COMMIT_S = 0.1
MAX_TURN_S = 900.0
CUT_SEARCH_S = 10.0
"""A turn that never pauses is cut at the quietest moment of its last seconds."""

MAX_UNSPOKEN_S = 30.0
"""So much audio in which nobody was found to speak is kept for a commit, whose client may know better."""

FAINT = VadOptions().threshold
FAINT_SUFFIX_S = 0.2
"""Where a session's threshold is higher, a word's quiet end still belongs to the turn, with so much behind it."""


@dataclass(slots=True)
class OpenTurn:
    """start: its first sample. max_length: in samples. is_spoken: its beginning was told as that of speech."""

    item_id: str
    start: int
    max_length: int
    is_spoken: bool = False


@dataclass(slots=True)
class Told:
    """Of turns that are not finished: what waits for the commit."""

    is_committed: bool = False
    waiting: list[TurnTold] = field(default_factory=list)


class RealtimeSession:
    """
    Args:
        detection: None where turns end by commits alone.
        new_item_id: a name that no other item has.
        tells_early: what becomes known of a turn is told before it is committed.
        max_turn_s: of turns that begin from now on.
    """

    def __init__(
        self,
        detection: TurnDetection | None,
        new_item_id: Callable[[], str],
        tells_early: bool = False,
        max_turn_s: float = MAX_TURN_S,
    ) -> None:
        self.tells_early = tells_early
        self._new_item_id = new_item_id
        self.max_turn_s = max_turn_s
        self._recent = RecentAudio()
        self._judged = 0
        """The detector has heard what is before this sample."""
        self._buffer_start = 0
        """Since when nothing was committed or cleared."""
        self._idle_since = 0
        self._faint_until = 0
        self._turn: OpenTurn | None = None
        self._told: dict[str, Told] = {}
        self._previous_item_id: str | None = None
        self._detection: TurnDetection | None = None
        self._detector: SpeechDetector | None = None
        self._detector_start = 0
        self._change(detection)

    def receive(self, event: SessionInput) -> list[SessionOutput]:
        match event:
            case AudioAppended():
                return list(self._append(event))
            case CommitRequested():
                return list(self._commit_buffer())
            case ClearRequested():
                return list(self._clear())
            case DetectionChanged(detection):
                self._change(detection)
                return []
            case TurnTold():
                return self._tell(event)

    # Audio

    def _append(self, event: AudioAppended) -> Iterator[SessionOutput]:
        self._recent.append(event)
        for probability in event.probabilities:
            self._judged = min(self._judged + FRAME_SAMPLES, self._recent.end)
            if self._detector and self._detection:
                yield from self._judge(self._detector, self._detection, probability)
            elif self._turn is None:
                yield self._open(self._recent.start)
            if self._turn and self._judged - self._turn.start >= self._turn.max_length:
                yield from self._cut(self._turn)
        self._detector_start -= -len(event.samples) % FRAME_SAMPLES  # it takes every frame for a whole one
        if self._turn:
            yield from self._grow(self._turn)
        elif self._detector:
            self._forget(self._detector)

    def _judge(self, detector: SpeechDetector, detection: TurnDetection, probability: float) -> Iterator[SessionOutput]:
        has_stopped = bool(detector.push([probability]))
        if probability >= FAINT:
            self._faint_until = self._judged + round(FAINT_SUFFIX_S * SAMPLE_RATE_HZ)
        since_s = detector.certain_since_s
        if since_s is not None and not (self._turn and self._turn.is_spoken):
            if self._turn is None:
                yield self._open(self._sample(since_s))
            assert self._turn
            self._turn.is_spoken = True
            yield SpeechStarted(self._turn.item_id, self._turn.start / SAMPLE_RATE_HZ)
        if has_stopped and self._turn:
            yield SpeechStopped(self._turn.item_id, self._judged / SAMPLE_RATE_HZ)
            yield from self._commit(self._turn, self._end_of_turn(detector.needed_from_s))
            self._buffer_start = self._idle_since = self._judged
        elif self._turn is None and detector.open_since_s is None:
            yield from self._time_out(detection)

    def _time_out(self, detection: TurnDetection) -> Iterator[SessionOutput]:
        idle_s = (self._judged - self._idle_since) / SAMPLE_RATE_HZ
        if detection.idle_timeout_s is None or idle_s < detection.idle_timeout_s:
            return
        opened = self._begin(self._judged)
        start_s, end_s = self._idle_since / SAMPLE_RATE_HZ, self._judged / SAMPLE_RATE_HZ
        yield opened
        yield TimeoutTriggered(opened.item_id, start_s, end_s)
        assert self._turn
        yield from self._commit(self._turn, self._recent.start)  # without audio, which may be the next turn's
        self._buffer_start = self._idle_since = self._judged

    def _forget(self, detector: SpeechDetector) -> None:
        """What neither speech that is found later nor a commit would make a turn of."""
        committed_next = max(self._buffer_start, self._judged - round(MAX_UNSPOKEN_S * SAMPLE_RATE_HZ))
        self._recent.forget(min(self._sample(detector.needed_from_s), committed_next))

    # Turns

    def _open(self, start: int) -> TurnOpened:
        """A turn that begins with the frame of this sample."""
        self._recent.forget(start)
        return self._begin(self._recent.start)

    def _begin(self, start: int) -> TurnOpened:
        max_length = round(self.max_turn_s * SAMPLE_RATE_HZ)
        self._turn = OpenTurn(self._new_item_id(), start, max_length)
        self._told[self._turn.item_id] = Told()
        return TurnOpened(self._turn.item_id)

    def _grow(self, turn: OpenTurn) -> Iterator[SessionOutput]:
        """What may be beyond the cut of a long turn is held back, and what the next turn may begin with."""
        must_hold = self._judged - turn.start >= turn.max_length - CUT_SEARCH_S * SAMPLE_RATE_HZ
        if not must_hold:
            detector = self._detector if turn.is_spoken else None
            end = self._end_of_turn(detector.needed_next_from_s) if detector else self._judged
            yield from self._give(turn, end)

    def _end_of_turn(self, next_from_s: float) -> int:
        """The silence behind it is left to the next turn, whose first word begins quietly in it."""
        return min(max(self._sample(next_from_s), self._faint_until), self._judged)

    def _give(self, turn: OpenTurn, end: int) -> Iterator[SessionOutput]:
        samples, probabilities = self._recent.take(end)
        if len(samples):
            yield TurnGrew(turn.item_id, samples, probabilities)

    def _commit(self, turn: OpenTurn, end: int) -> Iterator[SessionOutput]:
        yield from self._give(turn, end)
        yield TurnClosed(turn.item_id)
        yield TurnCommitted(turn.item_id, self._previous_item_id)
        self._previous_item_id = turn.item_id
        self._turn = None
        self._buffer_start = self._idle_since = self._recent.start
        yield from self._release(turn.item_id)

    def _cut(self, turn: OpenTurn) -> Iterator[SessionOutput]:
        """End a turn that has lasted too long, and begin another one there."""
        first = max(self._judged - round(CUT_SEARCH_S * SAMPLE_RATE_HZ), self._recent.start)
        held = self._recent.between(first, self._judged)
        yield from self._part(turn, first + round(quietest_moment_s(held) * SAMPLE_RATE_HZ))

    def _part(self, turn: OpenTurn, end: int) -> Iterator[SessionOutput]:
        """End a turn in which somebody may go on to speak, and begin another one there."""
        if turn.is_spoken:
            yield SpeechStopped(turn.item_id, end / SAMPLE_RATE_HZ)
        yield from self._commit(turn, end)
        yield self._open(self._recent.start)
        if turn.is_spoken:
            assert self._turn
            self._turn.is_spoken = True
            yield SpeechStarted(self._turn.item_id, self._turn.start / SAMPLE_RATE_HZ)

    # What the client asks for

    def _commit_buffer(self) -> Iterator[SessionOutput]:
        buffered_s = (self._recent.end - self._buffer_start) / SAMPLE_RATE_HZ
        if buffered_s < MIN_COMMIT_S:
            yield CommitRefused(buffered_s)
            return
        if self._turn is None:
            yield self._open(self._recent.start)
        assert self._turn
        yield from self._commit(self._turn, self._recent.end)
        self._start_detector()

    def _clear(self) -> Iterator[SessionOutput]:
        if self._turn:
            yield TurnDropped(self._turn.item_id)
            del self._told[self._turn.item_id]
            self._turn = None
        self._recent.take(self._recent.end)
        self._buffer_start = self._idle_since = self._recent.start
        self._start_detector()
        yield BufferCleared()

    def _change(self, detection: TurnDetection | None) -> None:
        """A turn that is open stays so."""
        self._detection = detection
        if self._detector and detection:
            self._detector.adjust(detection.vad)
        else:
            self._start_detector()

    def _start_detector(self) -> None:
        self._detector = SpeechDetector(self._detection.vad) if self._detection else None
        self._detector_start = self._judged

    def _sample(self, time_s: float) -> int:
        """Of a moment on the detector's clock."""
        return min(self._detector_start + round(time_s * SAMPLE_RATE_HZ), self._judged)

    # What is known of turns

    def _tell(self, event: TurnTold) -> list[SessionOutput]:
        told = self._told.get(event.item_id)
        if told is None:  # it was dropped
            return []
        told.waiting.append(event)
        turn = self._turn
        if event.is_last and turn and turn.item_id == event.item_id and turn.start < self._recent.start:
            return list(self._part(turn, self._recent.start))  # it failed: what comes now is another turn's
        return list(self._pass_on(told))

    def _release(self, item_id: str) -> Iterator[SessionOutput]:
        told = self._told[item_id]
        told.is_committed = True
        yield from self._pass_on(told)

    def _pass_on(self, told: Told) -> Iterator[SessionOutput]:
        while told.waiting and (told.is_committed or (self.tells_early and not told.waiting[0].is_last)):
            event = told.waiting.pop(0)
            if event.is_last:
                del self._told[event.item_id]
            yield event
