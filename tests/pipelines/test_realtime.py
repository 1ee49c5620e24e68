"""The machine of a realtime session, told lists of events. Samples count up, so that each tells where it belongs."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest

from pipelines.audio_types import SAMPLE_RATE_HZ, AudioInfo, Samples, VadOptions
from pipelines.errors import ModelUnavailable
from pipelines.realtime import CUT_SEARCH_S, MAX_UNSPOKEN_S, RealtimeSession
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
    TurnFailed,
    TurnGrew,
    TurnOpened,
    TurnTold,
)
from pipelines.transcript_types import Transcript
from pipelines.transcription_events import TextDelta, TranscriptFinished
from pipelines.vad import FRAME_S, FRAME_SAMPLES

VAD = TurnDetection(VadOptions(silence_duration_ms=500))
LOUD, QUIET = 0.9, 0.1
FINISHED = TranscriptFinished(Transcript(AudioInfo(1.0, "", ""), ("en",)))


@dataclass
class Driven:
    """A session and all that it told; `frames` of audio are numbered on."""

    session: RealtimeSession
    num_samples: int = 0
    told: list[SessionOutput] = field(default_factory=list)

    def send(self, event: SessionInput) -> list[SessionOutput]:
        outputs = self.session.receive(event)
        self.told += outputs
        return outputs

    def frames(self, num_frames: int, probability: float, short: int = 0) -> list[SessionOutput]:
        """So many frames, the last of them `short` of some samples."""
        samples = np.arange(num_frames * FRAME_SAMPLES - short, dtype=np.float32) + self.num_samples
        self.num_samples += len(samples)
        return self.send(AudioAppended(samples, [probability] * num_frames))

    def seconds(self, seconds: float, probability: float) -> list[SessionOutput]:
        return self.frames(round(seconds / FRAME_S), probability)


def driven(detection: TurnDetection | None = None, tells_early: bool = False, max_turn_s: float = 900) -> Driven:
    numbers = count(1)
    return Driven(RealtimeSession(detection, lambda: f"item_{next(numbers)}", tells_early, max_turn_s))


def without_audio(outputs: Sequence[SessionOutput]) -> list[SessionOutput]:
    return [output for output in outputs if not isinstance(output, TurnGrew)]


def audio_of(outputs: Sequence[SessionOutput], item_id: str) -> Samples:
    parts = [one.samples for one in outputs if isinstance(one, TurnGrew) and one.item_id == item_id]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def test_a_manual_turn_is_what_was_appended() -> None:
    driver = driven()
    assert without_audio(driver.frames(10, QUIET)) == [TurnOpened("item_1")]
    driver.frames(3, LOUD, short=200)
    assert without_audio(driver.send(CommitRequested())) == [TurnClosed("item_1"), TurnCommitted("item_1", None)]
    assert np.array_equal(audio_of(driver.told, "item_1"), np.arange(13 * FRAME_SAMPLES - 200))
    driver.frames(20, QUIET)
    assert TurnCommitted("item_2", "item_1") in driver.send(CommitRequested())
    assert audio_of(driver.told, "item_2")[0] == 13 * FRAME_SAMPLES - 200


def test_hardly_any_audio_cannot_be_committed() -> None:
    driver = driven()
    assert driver.send(CommitRequested()) == [CommitRefused(0.0)]
    driver.frames(3, LOUD)
    assert driver.send(CommitRequested()) == [CommitRefused(0.096)]
    driver.frames(1, LOUD)
    assert TurnCommitted("item_1", None) in driver.send(CommitRequested())
    assert driver.send(CommitRequested()) == [CommitRefused(0.0)]


def test_what_is_cleared_is_gone() -> None:
    driver = driven()
    driver.frames(50, LOUD)
    assert driver.send(ClearRequested()) == [TurnDropped("item_1"), BufferCleared()]
    assert driver.send(ClearRequested()) == [BufferCleared()]
    assert driver.send(CommitRequested()) == [CommitRefused(0.0)]
    driver.frames(10, LOUD)
    driver.send(CommitRequested())
    assert np.array_equal(audio_of(driver.told, "item_2"), np.arange(50 * FRAME_SAMPLES, 60 * FRAME_SAMPLES))


def test_speech_makes_a_turn_with_what_was_just_before_it() -> None:
    driver = driven(VAD)
    assert driver.frames(100, QUIET) == []
    assert driver.frames(3, LOUD) == []  # it may have been a click
    start_s = (100 - 10) * FRAME_S  # 300 ms before, from the frame on that holds that moment
    assert without_audio(driver.frames(1, LOUD)) == [TurnOpened("item_1"), SpeechStarted("item_1", start_s)]
    assert without_audio(driver.frames(15, QUIET)) == []
    end_s = 120 * FRAME_S
    assert without_audio(driver.frames(1, QUIET)) == [
        SpeechStopped("item_1", end_s),
        TurnClosed("item_1"),
        TurnCommitted("item_1", None),
    ]
    assert np.array_equal(audio_of(driver.told, "item_1"), np.arange(90 * FRAME_SAMPLES, 111 * FRAME_SAMPLES))


@pytest.mark.parametrize("frames_at_once", [1, 5, 100])
@pytest.mark.parametrize("num_quiet", [16, 17, 20, 40])
def test_a_word_soon_after_a_turn_keeps_what_was_just_before_it(num_quiet: int, frames_at_once: int) -> None:
    """It may begin quietly in the silence that has ended the turn; no audio is of both."""
    driver = driven(VAD)
    probabilities = [LOUD] * 40 + [QUIET] * num_quiet + [LOUD] * 40 + [QUIET] * 20
    for first in range(0, len(probabilities), frames_at_once):
        part = probabilities[first : first + frames_at_once]
        samples = np.arange(first * FRAME_SAMPLES, (first + len(part)) * FRAME_SAMPLES, dtype=np.float32)
        driver.send(AudioAppended(samples, part))
    stopped = next(one for one in driver.told if isinstance(one, SpeechStopped))
    assert stopped == SpeechStopped("item_1", 56 * FRAME_S), "with all the silence that was waited for"
    first_turn, second_turn = audio_of(driver.told, "item_1"), audio_of(driver.told, "item_2")
    assert first_turn[-1] + 1 >= (40 * FRAME_S + 0.2) * SAMPLE_RATE_HZ, "a word's quiet end is its turn's"
    onset_s, start_s = (40 + num_quiet) * FRAME_S, second_turn[0] / SAMPLE_RATE_HZ
    assert onset_s - 0.3 - FRAME_S < start_s <= max(onset_s - 0.3, 40 * FRAME_S + 0.2 + FRAME_S)
    assert first_turn[-1] < second_turn[0]
    assert SpeechStarted("item_2", start_s) in driver.told


def test_silence_behind_a_turn_is_not_there_to_be_committed() -> None:
    """RTW-04: what was kept for the next turn is no audio of the buffer."""
    driver = driven(VAD)
    driver.frames(40, LOUD)
    assert TurnCommitted("item_1", None) in driver.frames(16, QUIET)
    assert driver.send(CommitRequested()) == [CommitRefused(0.0)]


def test_the_end_of_a_word_too_faint_for_the_session_is_its_turns() -> None:
    driver = driven(TurnDetection(VadOptions(threshold=0.8, silence_duration_ms=500)))
    driver.frames(20, LOUD)
    driver.frames(12, 0.6)
    assert TurnCommitted("item_1", None) in driver.frames(10, QUIET)
    assert audio_of(driver.told, "item_1")[-1] + 1 == 36 * FRAME_SAMPLES


def test_all_at_once_as_bit_by_bit() -> None:
    quickly, slowly = driven(VAD), driven(VAD)
    probabilities = ([QUIET] * 30 + [LOUD] * 40) * 5
    quickly.send(AudioAppended(np.arange(len(probabilities) * FRAME_SAMPLES, dtype=np.float32), probabilities))
    for probability in probabilities:
        slowly.frames(1, probability)
    assert without_audio(quickly.told) == without_audio(slowly.told)
    assert len(without_audio(quickly.told)) == 5 * 2 + 4 * 3
    for number in range(1, 6):
        found, expected = (audio_of(one.told, f"item_{number}") for one in (quickly, slowly))
        assert np.array_equal(found, expected)


def test_a_click_is_no_speech() -> None:
    driver = driven(VAD)
    for _ in range(20):
        driver.frames(3, LOUD)
        driver.frames(30, QUIET)
    assert driver.told == []


def test_a_commit_ends_a_turn_that_is_being_spoken() -> None:
    driver = driven(VAD)
    driver.frames(40, LOUD)
    assert without_audio(driver.send(CommitRequested())) == [TurnClosed("item_1"), TurnCommitted("item_1", None)]
    started = without_audio(driver.frames(10, LOUD))
    assert started == [TurnOpened("item_2"), SpeechStarted("item_2", 40 * FRAME_S)]


def test_silence_can_be_committed() -> None:
    driver = driven(VAD)
    driver.frames(100, QUIET)
    assert without_audio(driver.send(CommitRequested())) == [
        TurnOpened("item_1"),
        TurnClosed("item_1"),
        TurnCommitted("item_1", None),
    ]
    assert driver.send(CommitRequested()) == [CommitRefused(0.0)]


@pytest.mark.parametrize("seconds", [5, 60])
def test_a_commit_takes_what_the_detector_took_for_silence(seconds: int) -> None:
    """RTW-07: "Manual commit is allowed too." Who asks for one may know better; what is kept for it is bounded."""
    driver = driven(TurnDetection(VadOptions(threshold=0.8)))
    for _ in range(seconds):
        driver.seconds(1, 0.6)
    driver.send(CommitRequested())
    committed_s = len(audio_of(driver.told, "item_1")) / SAMPLE_RATE_HZ
    assert committed_s == pytest.approx(min(seconds, MAX_UNSPOKEN_S), abs=seconds * FRAME_S)
    assert audio_of(driver.told, "item_1")[-1] == driver.num_samples - 1


def test_nobody_says_anything_for_long() -> None:
    driver = driven(TurnDetection(VadOptions(), idle_timeout_s=5.0))
    told = without_audio(driver.seconds(11, QUIET))
    first_s, second_s = 157 * FRAME_S, 314 * FRAME_S
    assert told == [
        TurnOpened("item_1"),
        TimeoutTriggered("item_1", 0.0, first_s),
        TurnClosed("item_1"),
        TurnCommitted("item_1", None),
        TurnOpened("item_2"),
        TimeoutTriggered("item_2", first_s, second_s),
        TurnClosed("item_2"),
        TurnCommitted("item_2", "item_1"),
    ]
    assert not [one for one in driver.told if isinstance(one, TurnGrew)]
    driver.seconds(1, LOUD)
    driver.seconds(5, QUIET)
    assert not [one for one in driver.told[8:] if isinstance(one, TimeoutTriggered)]


def test_a_word_soon_after_a_timeout_keeps_what_was_just_before_it() -> None:
    """RTW-13."""
    driver = driven(TurnDetection(VadOptions(), idle_timeout_s=5.0))
    driver.frames(160, QUIET)
    assert TurnCommitted("item_1", None) in driver.told
    assert SpeechStarted("item_2", 150 * FRAME_S) in driver.frames(10, LOUD)
    assert audio_of(driver.told, "item_2")[0] == 150 * FRAME_SAMPLES


def test_commits_that_are_refused_move_no_clock() -> None:
    driver = driven(VAD)
    for _ in range(60):
        driver.frames(40, LOUD)
        driver.frames(20, QUIET)
        driver.frames(1, QUIET, short=412)
        driver.send(CommitRequested())
        driver.frames(30, QUIET)
    starts = [one.start_s for one in driver.told if isinstance(one, SpeechStarted)]
    assert len(starts) == 60
    turn_s = (91 * FRAME_SAMPLES - 412) / SAMPLE_RATE_HZ
    for number, start_s in enumerate(starts[1:], start=1):
        assert number * turn_s - 0.3 - 2 * FRAME_S <= start_s <= number * turn_s - 0.3 + FRAME_S


def test_another_limit_holds_from_the_next_turn_on() -> None:
    driver = driven(max_turn_s=30.0)
    driver.seconds(25, LOUD)
    driver.session.max_turn_s = 12.0
    driver.seconds(3, LOUD)
    assert not [one for one in driver.told if isinstance(one, TurnCommitted)]
    driver.send(CommitRequested())
    driver.seconds(13, LOUD)
    assert len([one for one in driver.told if isinstance(one, TurnCommitted)]) == 2


def test_detection_switched_off_leaves_the_turn_open() -> None:
    driver = driven(VAD)
    driver.frames(20, LOUD)
    driver.send(DetectionChanged(None))
    driver.frames(100, QUIET)
    assert not [one for one in driver.told if isinstance(one, TurnCommitted)]
    driver.send(CommitRequested())
    assert len(audio_of(driver.told, "item_1")) == 120 * FRAME_SAMPLES


def test_detection_switched_on_ends_the_turn_that_was_open() -> None:
    driver = driven()
    driver.frames(20, QUIET)
    driver.send(DetectionChanged(VAD))
    assert without_audio(driver.frames(10, LOUD)) == [SpeechStarted("item_1", 0.0)]
    assert TurnCommitted("item_1", None) in driver.frames(30, QUIET)
    assert len(audio_of(driver.told, "item_1")) == 37 * FRAME_SAMPLES


def test_another_silence_holds_for_who_is_speaking_now() -> None:
    driver = driven(VAD)
    driver.frames(20, LOUD)
    driver.send(DetectionChanged(TurnDetection(VadOptions(silence_duration_ms=2_000))))
    assert without_audio(driver.frames(40, QUIET)) == []
    assert TurnCommitted("item_1", None) in driver.frames(30, QUIET)


@pytest.mark.parametrize("detection", [None, VAD])
@pytest.mark.parametrize("frames_at_once", [1, 50, 2_000])
def test_a_turn_without_end_is_cut_where_it_is_quietest(detection: TurnDetection | None, frames_at_once: int) -> None:
    driver = driven(detection, max_turn_s=20.0)
    loud = np.ones(2_000 * FRAME_SAMPLES, np.float32)
    quiet_s = 13.0
    loud[round(quiet_s * SAMPLE_RATE_HZ) : round((quiet_s + 0.3) * SAMPLE_RATE_HZ)] = 0.0
    for first in range(0, 2_000, frames_at_once):
        samples = loud[first * FRAME_SAMPLES : (first + frames_at_once) * FRAME_SAMPLES]
        driver.send(AudioAppended(samples, [LOUD] * frames_at_once))
    lengths_s = [len(audio_of(driver.told, f"item_{number}")) / SAMPLE_RATE_HZ for number in (1, 2)]
    assert quiet_s <= lengths_s[0] <= quiet_s + 0.35
    assert lengths_s[1] <= 20.0
    starts = [one.start_s for one in driver.told if isinstance(one, SpeechStarted)]
    stops = [one.end_s for one in driver.told if isinstance(one, SpeechStopped)]
    if detection:
        assert starts[1:] == pytest.approx(stops, abs=FRAME_S)
    else:
        assert starts == stops == []
    total = sum(len(one.samples) for one in driver.told if isinstance(one, TurnGrew))
    held = len(loud) - total
    assert held <= (CUT_SEARCH_S + 1) * SAMPLE_RATE_HZ


def test_what_is_known_waits_for_the_commit() -> None:
    driver = driven()
    driver.frames(10, LOUD)
    told = [TurnTold("item_1", TextDelta("one")), TurnTold("item_1", TextDelta(" two")), TurnTold("item_1", FINISHED)]
    assert driver.send(told[0]) == driver.send(told[1]) == []
    assert driver.send(CommitRequested())[-3:] == [TurnCommitted("item_1", None), *told[:2]]
    assert driver.send(told[2]) == [told[2]]
    assert driver.send(told[2]) == []  # no more is known of it


def test_what_is_known_early_is_told_early_where_it_may_be_and_a_failure_always() -> None:
    driver = driven(tells_early=True)
    driver.frames(10, LOUD)
    delta, failed = TurnTold("item_1", TextDelta("one")), TurnTold("item_1", TurnFailed(ModelUnavailable("gone")))
    assert driver.send(delta) == [delta]
    assert driver.send(failed) == [
        TurnClosed("item_1"),
        TurnCommitted("item_1", None),
        failed,
        TurnOpened("item_2"),
    ]
    driver.frames(10, LOUD)
    assert driver.send(CommitRequested())[-1] == TurnCommitted("item_2", "item_1")


def test_what_is_said_behind_a_failure_is_another_turn() -> None:
    driver = driven(VAD)
    driver.frames(100, LOUD)
    (item_id,) = (one.item_id for one in driver.told if isinstance(one, TurnOpened))
    failed = TurnTold(item_id, TurnFailed(ModelUnavailable("gone")))
    stopped, closed, committed, told, opened, started = driver.send(failed)
    assert isinstance(stopped, SpeechStopped)
    assert (closed, committed, told) == (TurnClosed(item_id), TurnCommitted(item_id, None), failed)
    assert isinstance(opened, TurnOpened)
    assert started == SpeechStarted(opened.item_id, stopped.end_s)
    driver.frames(10, LOUD)
    assert driver.told[-1].item_id == opened.item_id


def test_of_what_was_dropped_nothing_is_told() -> None:
    driver = driven(tells_early=True)
    driver.frames(10, LOUD)
    driver.send(ClearRequested())
    assert driver.send(TurnTold("item_1", TextDelta("one"))) == []


@pytest.mark.parametrize("seed", range(150))
def test_any_sequence_keeps_its_promises(seed: int) -> None:
    dice = random.Random(seed)
    detections = [None, VAD, TurnDetection(VadOptions(0.3, 0, 200), 4.0), TurnDetection(VadOptions(0.8, 5_000, 0))]
    driver = driven(dice.choice(detections), tells_early=dice.random() < 0.5, max_turn_s=dice.choice([12.0, 900.0]))
    unfinished: list[str] = []
    finished: set[str] = set()
    for _ in range(200):
        match dice.randrange(13):
            case 12:
                driver.frames(2, dice.choice([LOUD, QUIET]), short=dice.randrange(FRAME_SAMPLES))
            case 0:
                driver.frames(1, QUIET, short=dice.randrange(FRAME_SAMPLES))
                driver.send(CommitRequested())
            case 1 if dice.random() < 0.5:
                driver.send(ClearRequested())
            case 2:
                driver.send(DetectionChanged(dice.choice(detections)))
            case 3 if unfinished:
                driver.send(TurnTold(dice.choice(unfinished), TextDelta("text")))
            case 4 if unfinished:
                finished.add(item_id := dice.choice(unfinished))
                driver.send(TurnTold(item_id, FINISHED))
            case _:
                driver.frames(dice.choice([1, 3, 10, 60, 400]), dice.choice([LOUD, QUIET, 0.4]))
        opened = [one.item_id for one in driver.told if isinstance(one, TurnOpened)]
        unfinished = [item_id for item_id in opened if item_id not in finished]
    check_promises(driver.told, driver.num_samples)


def check_promises(told: Sequence[SessionOutput], num_samples: int) -> None:
    opened: str | None = None
    speaking: SpeechStarted | None = None
    previous: str | None = None
    known: set[str] = set()
    position = -1.0
    for one in told:
        match one:
            case TurnOpened(item_id):
                assert opened is None
                assert item_id not in known
                opened = item_id
                known.add(item_id)
            case TurnGrew(item_id, samples, probabilities):
                assert item_id == opened
                assert samples[0] > position
                assert np.array_equal(samples, samples[0] + np.arange(len(samples)))
                assert len(probabilities) >= len(samples) // FRAME_SAMPLES
                position = float(samples[-1])
            case SpeechStarted(item_id):
                assert item_id == opened
                speaking = one
            case SpeechStopped(item_id, end_s):
                assert speaking
                assert item_id == opened == speaking.item_id
                assert speaking.start_s < end_s <= num_samples / SAMPLE_RATE_HZ
                speaking = None
            case TimeoutTriggered(item_id, start_s, end_s):
                assert item_id == opened
                assert start_s < end_s
            case TurnClosed(item_id) | TurnDropped(item_id):
                assert item_id == opened
                opened = None
            case TurnCommitted(item_id, previous_item_id):
                assert item_id in known
                assert previous_item_id == previous
                previous = item_id


def test_little_is_kept_of_a_long_silence() -> None:
    driver = driven(VAD)
    driver.seconds(3_600, QUIET)
    assert driver.told == []
    recent = driver.session._recent
    assert recent.end - recent.start < (MAX_UNSPOKEN_S + 1) * SAMPLE_RATE_HZ
    assert len(recent._frames) * FRAME_SAMPLES == recent.end - recent.start
