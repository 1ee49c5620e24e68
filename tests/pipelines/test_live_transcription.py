"""Text of a turn while it grows, by a recogniser that hears the words of a script, the last of them badly."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipelines.agreement import text_of
from pipelines.audio_types import MAX_CHUNK_S, SAMPLE_RATE_HZ, AudioChunk
from pipelines.errors import ModelUnavailable, UnsupportedLanguage
from pipelines.live_transcription import BUSY_PADDING_S, FINAL_PADDING_S, LiveTranscriber
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo, Segment, Token
from pipelines.transcription_events import TextDelta, TranscriptFinished, TranscriptionEvent
from pipelines.vad import FRAME_S, FRAME_SAMPLES
from tests.support.ports import settle

WORD_S = 0.4


@dataclass(frozen=True)
class Spoken:
    text: str
    start_s: float
    end_s: float


def script(num_words: int, start_s: float = 0.5, sentence: int = 8) -> list[Spoken]:
    """Sentences of so many words."""
    texts = [f" w{number}{'.' if number % sentence == sentence - 1 else ''}" for number in range(num_words)]
    starts = [start_s + number * WORD_S for number in range(num_words)]
    return [Spoken(text, start, start + WORD_S) for text, start in zip(texts, starts, strict=True)]


def token(text: str) -> Token:
    return Token(abs(hash(text)) % 1_000_000, text, -0.2, text.encode())


@dataclass
class Ear:
    """Hears the words that a chunk holds, one token each; of its last one it is never sure unless it was all heard.

    gate: lets one decoding end; None for at once. gates_drafts: these too.
    """

    spoken: Sequence[Spoken]
    gate: asyncio.Semaphore | None = None
    gates_drafts: bool = True
    is_silent: bool = False
    logprob: float = -0.2
    """Of what it hears."""
    deaf_from_s: float = 0.0
    num_deaf: int = 0
    """Drafts of windows that are so long are heard as nothing, so many of them."""
    errors: list[Exception] = field(default_factory=list)
    chunks: list[AudioChunk] = field(default_factory=list)
    options: list[DecodingOptions] = field(default_factory=list)
    dice: random.Random = field(default_factory=lambda: random.Random(1))

    async def transcribe(
        self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
    ) -> ChunkTranscript:
        assert not is_first_step
        assert chunk.waveform.duration_s <= MAX_CHUNK_S + 1e-6
        self.chunks.append(chunk)
        self.options.append(options)
        if self.gate and (self.gates_drafts or not options.is_draft):
            await self.gate.acquire()
        if self.errors:
            raise self.errors.pop(0)
        if options.is_draft and self.num_deaf and chunk.waveform.duration_s >= self.deaf_from_s:
            self.num_deaf -= 1
            return ChunkTranscript(chunk.index, "en")
        heard = [one for one in self.spoken if chunk.offset_s - 0.05 <= one.start_s < chunk.end_s - 0.1]
        tokens = [*options.written, *(token(one.text) for one in heard[len(options.written) :])]
        if heard and heard[-1].end_s > chunk.end_s and len(tokens) > len(options.written):
            tokens[-1] = token(f" x{self.dice.random()}")
        if self.is_silent or not tokens:
            return ChunkTranscript(chunk.index, "en")
        return ChunkTranscript(chunk.index, "en", tuple(self._segments(chunk, heard, tokens, options.timestamps)))

    def _segments(
        self, chunk: AudioChunk, heard: Sequence[Spoken], tokens: Sequence[Token], is_timed: bool
    ) -> list[Segment]:
        parts: list[list[int]] = [[]]
        for number, one in enumerate(tokens):
            parts[-1].append(number)
            if is_timed and (one.text.endswith(".") or len(parts[-1]) * WORD_S > 6):
                parts.append([])
        return [
            Segment(
                heard[min(part[0], len(heard) - 1)].start_s,
                min(heard[min(part[-1], len(heard) - 1)].end_s, chunk.end_s),
                text_of([tokens[number] for number in part]),
                tuple(tokens[number] for number in part),
                0.0,
                self.logprob,
                1.0,
                0.0,
            )
            for part in parts
            if part
        ]

    async def info(self) -> RecognizerInfo:
        return RecognizerInfo(frozenset({"en"}))


def is_speech(spoken: Sequence[Spoken], time_s: float) -> bool:
    return any(one.start_s <= time_s < one.end_s for one in spoken)


async def listen(
    ear: Ear,
    duration_s: float,
    frames_at_once: int = 3,
    interval_s: float = 0.5,
    options: DecodingOptions | None = None,
) -> tuple[list[TranscriptionEvent], LiveTranscriber]:
    live = LiveTranscriber(ear, DecodingOptions(), interval_s)
    events: list[TranscriptionEvent] = []

    async def read() -> None:
        async for event in live.events():
            events.append(event)

    reading = asyncio.create_task(read())
    num_frames = round(duration_s / FRAME_S)
    for first in range(0, num_frames, frames_at_once):
        frames = range(first, min(first + frames_at_once, num_frames))
        live.grow(
            np.zeros(len(frames) * FRAME_SAMPLES, np.float32),
            [float(is_speech(ear.spoken, frame * FRAME_S)) for frame in frames],
        )
        await settle()
    live.close()
    if ear.gate:
        for _ in range(1_000):
            ear.gate.release()
    await reading
    return events, live


def check(events: Sequence[TranscriptionEvent], spoken: Sequence[Spoken]) -> list[str]:
    """The deltas; together they are the transcript, and that is the script."""
    *deltas, finished = events
    assert isinstance(finished, TranscriptFinished)
    texts = [delta.text for delta in deltas if isinstance(delta, TextDelta)]
    assert len(texts) == len(deltas)
    assert all(texts)
    assert "".join(texts) == finished.transcript.text == "".join(one.text for one in spoken).strip()
    tokens = [token for delta in deltas if isinstance(delta, TextDelta) for token in delta.tokens]
    assert tokens == list(finished.transcript.tokens)
    return texts


@pytest.mark.parametrize("num_words", [1, 2, 7, 40, 200])
@pytest.mark.parametrize("frames_at_once", [1, 7, 100])
async def test_every_word_once_while_it_is_spoken(num_words: int, frames_at_once: int) -> None:
    spoken = script(num_words)
    events, _ = await listen(ear := Ear(spoken), spoken[-1].end_s + 0.5, frames_at_once)
    deltas = check(events, spoken)
    assert len(deltas) >= num_words * WORD_S / max(0.5, frames_at_once * FRAME_S) / 3
    assert max(chunk.waveform.duration_s for chunk in ear.chunks) < 16
    assert all(options.head_start_s > 0 and not options.may_change for options in ear.options)


async def test_what_was_told_is_what_the_next_decoding_begins_with() -> None:
    events, _ = await listen(ear := Ear(script(12)), 6.0)
    check(events, script(12))
    lengths = [len(options.written) for options in ear.options]
    assert lengths == sorted(lengths)
    assert lengths[-1] > 5


async def test_a_sentence_that_never_ends_is_cut_before_the_window_is_full() -> None:
    spoken = script(150, sentence=1_000)
    events, _ = await listen(ear := Ear(spoken), 62.0)
    check(events, spoken)
    assert max(chunk.waveform.duration_s for chunk in ear.chunks) <= 27.5


async def test_all_that_has_come_while_nobody_listened() -> None:
    """The engine has answered nothing for two minutes."""
    spoken = script(300)
    gate = asyncio.Semaphore(0)
    events, _ = await listen(Ear(spoken, gate), 122.0)
    check(events, spoken)


async def test_long_pauses_part_utterances() -> None:
    first, second = script(5), script(4, start_s=6.0)
    events, _ = await listen(ear := Ear([*first, *second]), 9.0)
    check(events, [*first, *second])
    assert not any(chunk.offset_s < 3.0 < 5.5 < chunk.end_s for chunk in ear.chunks)


@pytest.mark.parametrize("frames_at_once", [1, 7, 200])
@pytest.mark.parametrize("pause_s", [1.05, 1.2, 1.5])
async def test_a_word_after_a_long_pause_keeps_what_was_just_before_it(pause_s: float, frames_at_once: int) -> None:
    """No audio is of both utterances."""
    first = script(5)
    second = script(4, start_s=first[-1].end_s + pause_s)
    events, _ = await listen(ear := Ear([*first, *second]), second[-1].end_s + 0.5, frames_at_once)
    check(events, [*first, *second])
    starts = sorted({chunk.offset_s for chunk in ear.chunks})
    assert starts[1:] == pytest.approx([second[0].start_s - 0.3], abs=FRAME_S)
    assert max(chunk.end_s for chunk in ear.chunks if chunk.offset_s == starts[0]) <= starts[1]


async def test_the_answer_is_found_while_somebody_pauses() -> None:
    spoken = script(3)
    events, _ = await listen(ear := Ear(spoken), spoken[-1].end_s + 0.9, frames_at_once=1, interval_s=0.3)
    check(events, spoken)
    *drafts, last = (options.is_draft for options in ear.options)
    assert all(drafts)
    assert not last
    assert ear.chunks[-1].end_s < spoken[-1].end_s + 0.3


async def test_who_goes_on_after_a_pause_is_heard_to_the_end() -> None:
    first = script(4)
    spoken = [*first, *(Spoken(f" v{number}", 2.5 + number * WORD_S, 2.9 + number * WORD_S) for number in range(4))]
    events, _ = await listen(ear := Ear(spoken), 5.0, frames_at_once=1)
    check(events, spoken)
    assert len({chunk.offset_s for chunk in ear.chunks}) == 1, "a short pause parts nothing"
    whole = [chunk.end_s for chunk, options in zip(ear.chunks, ear.options, strict=True) if not options.is_draft]
    assert whole == pytest.approx([first[-1].end_s + 0.2, spoken[-1].end_s + 0.2], abs=0.07)


async def test_a_draft_that_is_late_is_given_up() -> None:
    spoken = script(5)
    gate = asyncio.Semaphore(0)
    events, _ = await listen(ear := Ear(spoken, gate), spoken[-1].end_s + 0.1)
    check(events, spoken)
    assert [options.is_draft for options in ear.options] == [True, False]


@pytest.mark.parametrize("is_busy", [True, False])
async def test_where_drafts_take_long_less_silence_is_heard_behind_the_answer(
    is_busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock: two seconds of audio come at once, meanwhile."""
    if is_busy:
        monkeypatch.setattr("pipelines.live_transcription.BUSY_S", 0.0)
    spoken = script(5)
    ear = Ear(spoken, asyncio.Semaphore(0))
    events, _ = await listen(ear, spoken[-1].end_s + 0.1)
    check(events, spoken)
    assert not ear.options[-1].is_draft
    assert ear.options[-1].padding_s == (BUSY_PADDING_S if is_busy else FINAL_PADDING_S)


async def test_audio_that_comes_faster_than_speech_is_decoded_as_often() -> None:
    """A draft is quick, although much audio has come since it was asked for."""
    ear = Ear(spoken := script(30), gate := asyncio.Semaphore(0))
    live = LiveTranscriber(ear, DecodingOptions(), 0.5)
    reading = asyncio.create_task(_drain(live))
    await speak(live, spoken, 3.0)
    gate.release()
    await settle()
    assert len(ear.chunks) == 2
    assert live._pause_s == 0.5
    live.close()
    for _ in range(100):
        gate.release()
    await reading


async def speak(live: LiveTranscriber, spoken: Sequence[Spoken], end_s: float) -> None:
    """Frame by frame."""
    for frame in range(round(end_s / FRAME_S)):
        live.grow(np.zeros(FRAME_SAMPLES, np.float32), [float(is_speech(spoken, frame * FRAME_S))])
        await settle()


@pytest.mark.parametrize("goes_on", [True, False])
async def test_what_a_pause_asked_for_is_given_up_at_the_end_if_it_is_not_the_answer(goes_on: bool) -> None:
    first = script(4)
    spoken = [*first, Spoken(" v", 2.5, 2.9)] if goes_on else first
    ear = Ear(spoken, gate := asyncio.Semaphore(0), gates_drafts=False)
    live = LiveTranscriber(ear, DecodingOptions(), 0.5)
    reading = asyncio.create_task(_drain(live))
    await speak(live, spoken, spoken[-1].end_s + 0.3)
    assert not ear.options[-1].is_draft
    assert ear.chunks[-1].end_s == pytest.approx(first[-1].end_s + 0.2, abs=0.07)
    num_asked = len(ear.chunks)
    live.close()
    await settle()
    assert len(ear.chunks) == num_asked + goes_on
    assert ear.chunks[-1].end_s == pytest.approx(spoken[-1].end_s + 0.25, abs=0.1)
    gate.release()
    await reading
    assert len(ear.chunks) == num_asked + goes_on


@pytest.mark.parametrize("duration_s", [25.0, 27.31, 33.7, 38.123, 41.9, 44.44])
async def test_who_is_cut_off_in_the_middle_of_speech_is_decoded_to_the_end_once(duration_s: float) -> None:
    spoken = [one for one in script(110, sentence=12) if one.end_s < duration_s - 0.2]
    ear = Ear([*spoken, Spoken("", spoken[-1].end_s, duration_s + 1)])
    events, live = await listen(ear, duration_s)
    assert isinstance(events[-1], TranscriptFinished)
    assert events[-1].transcript.text.split()[: len(spoken)] == "".join(one.text for one in spoken).split()
    assert len(ear.chunks) < 2 * duration_s + 10
    assert live.pending_s == 0.0


async def test_a_last_frame_that_is_short_ends_what_it_began() -> None:
    live = LiveTranscriber(Ear([]), DecodingOptions(), 0.5)
    live.grow(np.zeros(8 * FRAME_SAMPLES + 20, np.float32), [0.0] * 5 + [0.9] * 4)
    live.close()
    events = [event async for event in live.events()]
    assert [type(event) for event in events] == [TranscriptFinished]


@pytest.mark.parametrize("deaf", [1, 2, 5])
async def test_drafts_that_hear_nothing_lose_nothing(deaf: int) -> None:
    spoken = script(60)
    ear = Ear(spoken, deaf_from_s=12.0, num_deaf=deaf)
    events, _ = await listen(ear, spoken[-1].end_s + 0.5)
    check(events, spoken)
    assert ear.num_deaf == 0


async def test_a_window_is_cut_only_between_words() -> None:
    spoken = [
        Spoken(one.text.replace(" w", "-w") if number % 7 else one.text, one.start_s, one.end_s)
        for number, one in enumerate(script(80))
    ]
    events, _ = await listen(ear := Ear(spoken), spoken[-1].end_s + 0.5)
    check(events, spoken)
    assert max(chunk.offset_s for chunk in ear.chunks) > 10


async def test_silence_tells_nothing() -> None:
    events, live = await listen(ear := Ear([]), 30.0)
    (finished,) = events
    assert isinstance(finished, TranscriptFinished)
    assert finished.transcript.text == ""
    assert not ear.chunks
    assert live.pending_s == 0.0


@pytest.mark.parametrize("duration_s", [3.0, 100.0])
async def test_speech_that_nobody_understands_ends(duration_s: float) -> None:
    spoken = script(round((duration_s - 1) / WORD_S))
    events, _ = await listen(Ear(spoken, is_silent=True), duration_s)
    assert [type(event) for event in events] == [TranscriptFinished]


async def test_a_poor_answer_that_is_no_draft_is_not_asked_for_again() -> None:
    spoken = script(3)
    ear = Ear(spoken, logprob=-2.0)
    events, _ = await listen(ear, spoken[-1].end_s + 0.9, frames_at_once=1)
    check(events, spoken)
    assert [options.is_draft for options in ear.options].count(False) == 1


async def test_nor_is_one_of_a_full_window_that_gave_nothing() -> None:
    spoken = script(66)
    ear = Ear(spoken, is_silent=True)
    await listen(ear, spoken[-1].end_s + 0.9, frames_at_once=1, interval_s=60.0)
    (chunk,) = ear.chunks
    assert 26 < chunk.waveform.duration_s < 27.5


async def test_a_lost_draft_is_made_up_for() -> None:
    spoken = script(20)
    events, _ = await listen(Ear(spoken, errors=[ModelUnavailable("gone")] * 3), 9.0)
    check(events, spoken)


async def test_other_errors_are_told() -> None:
    with pytest.raises(UnsupportedLanguage):
        await listen(Ear(script(20), errors=[UnsupportedLanguage("no")]), 9.0)


async def test_no_more_is_kept_than_the_window() -> None:
    spoken = script(400)
    live = LiveTranscriber(Ear(spoken), DecodingOptions(), 0.5)
    reading = asyncio.create_task(_drain(live))
    most_s = 0.0
    for frame in range(round(162 / FRAME_S)):
        live.grow(np.zeros(FRAME_SAMPLES, np.float32), [float(is_speech(spoken, frame * FRAME_S))])
        if frame % 10 == 0:
            await settle()
            most_s = max(most_s, live.pending_s)
    live.close()
    await reading
    assert most_s < 20.0
    assert live.pending_s == 0.0


async def _drain(live: LiveTranscriber) -> None:
    async for _ in live.events():
        pass


def test_the_rate() -> None:
    assert FRAME_S * SAMPLE_RATE_HZ == FRAME_SAMPLES
