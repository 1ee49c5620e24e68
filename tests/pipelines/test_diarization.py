import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pytest

from pipelines.audio_types import AudioChunk, AudioInfo, AudioStretch, VadOptions, Waveform
from pipelines.diarization import DiarizedTranscriptionPipeline, side_by_side
from pipelines.errors import AudioTooShort, ModelUnavailable, Overloaded
from pipelines.speaker_types import Diarization, Embedding, KnownSpeaker, SpeakerTurn
from pipelines.transcript_types import (
    ChunkTranscript,
    DecodingOptions,
    Segment,
    SpeakerSegment,
    Token,
    Word,
)
from pipelines.transcription import TranscriptionPipeline
from pipelines.transcription_events import SegmentFinished, TextDelta, TranscriptFinished, TranscriptionEvent
from pipelines.voices import VoiceOptions
from tests.support.fakes import FakeDiarizer, FakeReader, FakeRecognizer
from tests.support.ports import settle, told

ENGLISH = DecodingOptions(language="en")
CHUNK_S = 10.0
ANN = np.array([1, 0, 0, 0], np.float32)
BOB = np.array([0, 1, 0, 0], np.float32)
CY = np.array([0, 0, 1, 0], np.float32)

EventT = TypeVar("EventT")


@dataclass
class Reader(FakeReader):
    duration_s: float | None = 40.0
    chunk_s: float = CHUNK_S


def spoken(chunk: AudioChunk) -> ChunkTranscript:
    """Two sentences of two words each: one in the first half of the chunk, one in the second."""
    texts = [f"It's {chunk.index}.", f"Or {chunk.index}?"]
    segments = []
    for number, text in enumerate(texts):
        start_s = chunk.offset_s + number * CHUNK_S / 2
        words = tuple(Word(word, start_s + 2 * i, start_s + 2 * i + 1, 0.9) for i, word in enumerate(text.split()))
        token = Token(chunk.index * 2 + number, f" {text}", -0.5, text.encode())
        segments.append(Segment(start_s, start_s + 4, f" {text}", (token,), 0.0, -0.5, 1.0, 0.0, 0.0, words))
    return ChunkTranscript(chunk.index, "en", tuple(segments), "stop", 3, 5)


def by_turns(window: AudioStretch, period_s: float = CHUNK_S / 2) -> Diarization:
    """Ann and Bob in turn, with numbers that depend on who is first in the window."""
    ends = np.arange(0, window.end_s + 2 * period_s, period_s)
    turns = []
    for number, start_s in enumerate(ends):
        begins, stops = max(start_s, window.offset_s), min(start_s + period_s, window.end_s)
        if stops > begins:
            turns.append((float(begins), float(stops), number % 2))
    first = turns[0][2]
    numbered = tuple(SpeakerTurn(begins, stops, int(speaker != first)) for begins, stops, speaker in turns)
    return Diarization(numbered, numbered, {0: [ANN, BOB][first], 1: [BOB, ANN][first]})


@dataclass
class Recognizer(FakeRecognizer):
    answer: Callable[[AudioChunk], ChunkTranscript] = spoken


@dataclass
class Diarizer(FakeDiarizer):
    answer: Callable[[AudioStretch], Diarization] = by_turns


@dataclass
class Server:
    reader: Reader = field(default_factory=Reader)
    recognizer: Recognizer = field(default_factory=Recognizer)
    diarizer: Diarizer = field(default_factory=Diarizer)
    max_window_s: float = 600.0

    def run(
        self, known: Sequence[KnownSpeaker] = (), options: DecodingOptions = ENGLISH
    ) -> AsyncGenerator[AudioInfo | TranscriptionEvent, None]:
        transcription = TranscriptionPipeline(self.reader, self.recognizer)
        pipeline = DiarizedTranscriptionPipeline(
            transcription, self.reader, self.diarizer, VoiceOptions(), self.max_window_s
        )
        return told(pipeline.open(b"upload", VadOptions(), options, known))

    async def events(self, known: Sequence[KnownSpeaker] = ()) -> list[AudioInfo | TranscriptionEvent]:
        return [event async for event in self.run(known)]

    async def segments(self, known: Sequence[KnownSpeaker] = ()) -> list[tuple[str, str]]:
        *_, finished = await self.events(known)
        assert isinstance(finished, TranscriptFinished)
        return [(segment.speaker, segment.text) for segment in finished.transcript.speaker_segments]


def known_speaker(name: str, voice: Embedding) -> KnownSpeaker:
    return KnownSpeaker(name, Waveform(np.concatenate([voice, np.zeros(32_000, np.float32)])))


def texts(events: Sequence[AudioInfo | TranscriptionEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, TextDelta)]


async def collect(stream: AsyncGenerator[EventT, None], events: list[EventT]) -> None:
    async for event in stream:
        events.append(event)


# What is told


async def test_info_first_then_each_segment_s_text_and_end_then_the_whole() -> None:
    server = Server(Reader(20))
    info, *between, finished = await server.events()
    assert info == AudioInfo(20, "wav", "pcm_s16le")
    said = ["It's 0.", "Or 0?", "It's 1.", "Or 1?"]
    segments = [
        SpeakerSegment(f"seg_{number + 1:03d}", 5.0 * number, 5.0 * number + 5, text, "AB"[number % 2])
        for number, text in enumerate(said)
    ]
    assert [event.segment for event in between if isinstance(event, SegmentFinished)] == segments
    assert [event.segment_id for event in between if isinstance(event, TextDelta)] == [one.id for one in segments]
    assert [type(event) for event in between] == [TextDelta, SegmentFinished] * 4
    assert isinstance(finished, TranscriptFinished)
    assert finished.transcript.speaker_segments == tuple(segments)


@pytest.mark.parametrize("claimed_s", [11.0, 5_000.0])
async def test_a_wrong_length_cuts_no_segment(claimed_s: float) -> None:
    *_, right = await Server(Reader(20)).events()
    *_, finished = await Server(Reader(20, claimed_s=claimed_s)).events()
    assert isinstance(right, TranscriptFinished)
    assert isinstance(finished, TranscriptFinished)
    assert finished.transcript.info == right.transcript.info
    assert finished.transcript.speaker_segments == right.transcript.speaker_segments


async def test_the_text_is_the_same_as_without_speakers() -> None:
    server = Server(Reader(45), max_window_s=7)
    events = await server.events()
    plain_pipeline = TranscriptionPipeline(Reader(45), Recognizer())
    plain = [event async for event in told(plain_pipeline.open(b"upload", VadOptions(), ENGLISH))]
    assert "".join(texts(events)) == "".join(texts(plain))
    assert isinstance(events[-1], TranscriptFinished)
    assert isinstance(plain[-1], TranscriptFinished)
    with_speakers, without = events[-1].transcript, plain[-1].transcript
    assert with_speakers.text == without.text == "".join(texts(events))
    assert with_speakers.segments == without.segments
    assert (with_speakers.num_prompt_tokens, with_speakers.num_output_tokens) == (12, 20)
    assert tuple(t for event in events if isinstance(event, TextDelta) for t in event.tokens) == without.tokens
    joined = " ".join(segment.text for segment in with_speakers.speaker_segments)
    assert joined == without.text


async def test_words_are_asked_of_the_recogniser_whatever_the_caller_wanted() -> None:
    server = Server()
    await server.events()
    assert all(
        options == DecodingOptions(language="en", word_timestamps=True)
        for options in server.recognizer.options.values()
    )


async def test_no_speech_is_no_segment() -> None:
    def silence(window: AudioStretch) -> Diarization:
        return Diarization()

    def nothing(chunk: AudioChunk) -> ChunkTranscript:
        return ChunkTranscript(chunk.index, "en")

    events = await Server(
        recognizer=Recognizer(answer=nothing), diarizer=Diarizer(answer=silence), max_window_s=20
    ).events()
    assert len(events) == 2
    assert isinstance(events[-1], TranscriptFinished)
    assert (events[-1].transcript.text, events[-1].transcript.speaker_segments) == ("", ())


async def test_words_where_nobody_was_heard_are_still_told() -> None:
    def silence(window: AudioStretch) -> Diarization:
        return Diarization()

    segments = await Server(Reader(20), diarizer=Diarizer(answer=silence)).segments()
    assert {speaker for speaker, _ in segments} == {"A"}
    assert " ".join(text for _, text in segments) == "It's 0. Or 0? It's 1. Or 1?"


async def test_turns_where_nothing_was_understood_are_no_segments() -> None:
    def nothing(chunk: AudioChunk) -> ChunkTranscript:
        return ChunkTranscript(chunk.index, "en")

    assert await Server(recognizer=Recognizer(answer=nothing)).segments() == []


async def test_a_recogniser_without_word_times_will_do() -> None:
    def without_words(chunk: AudioChunk) -> ChunkTranscript:
        segment = Segment(chunk.offset_s, chunk.end_s, f" Chunk {chunk.index}.", (), 0.0, -0.5, 1.0, 0.0)
        return ChunkTranscript(chunk.index, "en", (segment,))

    def one_each(window: AudioStretch) -> Diarization:
        return by_turns(window, CHUNK_S)

    server = Server(Reader(30), Recognizer(answer=without_words), Diarizer(answer=one_each), max_window_s=15)
    assert await server.segments() == [("A", "Chunk 0."), ("B", "Chunk 1."), ("A", "Chunk 2.")]


async def test_one_pipeline_serves_many_requests_at_once() -> None:
    server = Server(max_window_s=9)
    told = await asyncio.gather(*(server.segments() for _ in range(5)))
    assert all(segments == told[0] for segments in told)
    assert len(told[0]) == 8


# Windows


@pytest.mark.parametrize(
    ("duration_s", "max_window_s", "num_windows"),
    [(599, 600, 1), (600, 600, 1), (600.01, 600, 2), (605, 600, 2), (1800, 600, 3), (0.1, 600, 1), (40, 7, 6)],
)
async def test_windows_are_of_equal_length(duration_s: float, max_window_s: float, num_windows: int) -> None:
    server = Server(Reader(duration_s), max_window_s=max_window_s)
    await server.events()
    assert len(server.reader.windows) == num_windows
    assert server.reader.windows[-1].end_s == pytest.approx(duration_s)
    lengths = [window.end_s - window.offset_s for window in server.reader.windows]
    assert max(lengths) - min(lengths) <= 0.1 * num_windows + 1e-6
    assert max(lengths) <= max_window_s + 0.11


async def test_speakers_of_all_windows_are_linked_by_their_voices() -> None:
    whole = await Server(Reader(60)).segments()
    assert [speaker for speaker, _ in whole] == ["A", "B"] * 6
    for max_window_s in (6.5, 15.0, 21.0, 30.0):
        server = Server(Reader(60), max_window_s=max_window_s)
        assert await server.segments() == whole
        assert len(server.diarizer.finished) > 1


async def test_speakers_whose_voices_differ_from_window_to_window_are_not_linked() -> None:
    voices = [ANN, BOB, CY]

    def one_each(window: AudioStretch) -> Diarization:
        turns = (SpeakerTurn(window.offset_s, window.end_s, 0),)
        return Diarization(turns, turns, {0: voices[window.index]})

    server = Server(Reader(60), diarizer=Diarizer(answer=one_each), max_window_s=20)
    assert list(dict.fromkeys(speaker for speaker, _ in await server.segments())) == ["A", "B", "C"]


async def test_a_speaker_heard_in_exclusive_turns_only_is_somebody_too() -> None:
    def inconsistent(window: AudioStretch) -> Diarization:
        return Diarization((), (SpeakerTurn(window.offset_s, window.end_s, 4),))

    segments = await Server(Reader(10), diarizer=Diarizer(answer=inconsistent)).segments()
    assert segments == [("A", "It's 0. Or 0?")]


# Known speakers


async def test_known_speakers_get_their_names_in_every_window() -> None:
    server = Server(max_window_s=12)
    segments = await server.segments([known_speaker("Bob", BOB), known_speaker("Cy", CY)])
    assert [speaker for speaker, _ in segments] == ["A", "Bob"] * 4
    assert len(server.diarizer.embedded) == 2


async def test_a_known_speaker_s_name_is_never_a_stranger_s_letter() -> None:
    segments = await Server(Reader(20)).segments([known_speaker("A", BOB)])
    assert [speaker for speaker, _ in segments] == ["B", "A"] * 2
    segments = await Server(Reader(20)).segments([known_speaker("A", CY)])
    assert [speaker for speaker, _ in segments] == ["B", "C"] * 2


async def test_references_without_speech_are_not_embedded_and_name_nobody() -> None:
    server = Server(Reader(20))
    silent = KnownSpeaker("A", Waveform(np.zeros(0, np.float32)))
    segments = await server.segments([silent, known_speaker("Bob", BOB)])
    assert [len(speech.samples) for speech in server.diarizer.embedded] == [32_004]
    assert [speaker for speaker, _ in segments] == ["B", "Bob"] * 2


async def test_a_refused_reference_ends_it_and_the_other_references_too() -> None:
    gate = asyncio.Event()
    diarizer = Diarizer({-1: None, -2: gate}.get, refusals={-1: [Overloaded("busy", 0.0)]})
    server = Server(diarizer=diarizer)
    with pytest.raises(Overloaded):
        await server.events([known_speaker("Ann", ANN), known_speaker("Bob", BOB)])
    await settle()
    assert diarizer.running == set()
    assert diarizer.finished == []


# Side by side


async def test_recognition_does_not_wait_for_the_diarizer() -> None:
    gate = asyncio.Event()
    server = Server(diarizer=Diarizer(lambda index: gate))
    task = asyncio.create_task(server.events())
    await settle()
    assert server.recognizer.finished == [0, 1, 2, 3]
    assert server.diarizer.running == {0}
    gate.set()
    assert len(texts(await task)) == 8


async def test_the_diarizer_does_not_wait_for_recognition() -> None:
    gate = asyncio.Event()
    server = Server(recognizer=Recognizer(lambda index: gate), max_window_s=10)
    task = asyncio.create_task(server.events())
    await settle()
    assert server.diarizer.finished == [0, 1, 2, 3]
    assert server.recognizer.finished == []
    gate.set()
    assert "".join(texts(await task)).startswith("It's 0. Or 0?")


async def test_recognition_does_not_wait_for_references() -> None:
    gate = asyncio.Event()
    server = Server(diarizer=Diarizer(lambda index: gate if index < 0 else None))
    task = asyncio.create_task(server.events([known_speaker("Ann", ANN), known_speaker("Bob", BOB)]))
    await settle()
    assert server.diarizer.running == {-1}
    assert server.recognizer.finished == [0, 1, 2, 3]
    gate.set()
    await task


async def test_what_is_decided_is_told_at_once() -> None:
    windows = {1: asyncio.Event(), 2: asyncio.Event()}
    server = Server(diarizer=Diarizer(windows.get), max_window_s=15)
    events: list[AudioInfo | TranscriptionEvent] = []
    task = asyncio.create_task(collect(server.run(), events))
    await settle()
    assert "".join(texts(events)) == "It's 0. Or 0? It's 1."
    windows[1].set()
    await settle()
    assert "".join(texts(events)) == "It's 0. Or 0? It's 1. Or 1? It's 2."
    assert not isinstance(events[-1], TranscriptFinished)
    windows[2].set()
    await task
    assert isinstance(events[-1], TranscriptFinished)


@pytest.mark.parametrize("seed", range(10))
async def test_who_is_faster_changes_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    expected = await Server(max_window_s=9).segments()
    chunks = [asyncio.Event() for _ in range(4)]
    windows = [asyncio.Event() for _ in range(5)]
    server = Server(recognizer=Recognizer(chunks.__getitem__), diarizer=Diarizer(windows.__getitem__), max_window_s=9)
    task = asyncio.create_task(server.segments())
    gates = [*chunks, *windows]
    for number in random.permutation(len(gates)):
        await settle()
        gates[number].set()
    assert await task == expected


# What goes wrong


async def test_an_unusable_upload_raises_before_anything_is_told() -> None:
    server = Server(Reader(error=AudioTooShort("short")))
    events: list[AudioInfo | TranscriptionEvent] = []
    with pytest.raises(AudioTooShort):
        await collect(server.run([known_speaker("Ann", ANN)]), events)
    assert events == []
    assert server.diarizer.embedded == []


async def test_an_error_of_the_recogniser_ends_the_diarizer() -> None:
    gates = {index: asyncio.Event() for index in range(4)}
    server = Server(recognizer=Recognizer(refusals={1: [ModelUnavailable("lost")]}), diarizer=Diarizer(gates.get))
    with pytest.raises(ModelUnavailable):
        await server.events()
    assert server.diarizer.cancelled == [0]
    assert server.diarizer.running == server.recognizer.running == set()
    assert server.reader.closed == {"chunks", "windows"}


async def test_an_error_of_the_diarizer_ends_the_recogniser() -> None:
    gate = asyncio.Event()
    server = Server(
        recognizer=Recognizer(lambda index: gate),
        diarizer=Diarizer(refusals={2: [ModelUnavailable("lost")]}),
        max_window_s=10,
    )
    with pytest.raises(ModelUnavailable):
        await server.events()
    assert 0 in server.recognizer.cancelled
    assert server.recognizer.finished == []
    assert server.diarizer.finished == [0, 1]
    assert server.diarizer.running == server.recognizer.running == set()
    assert server.reader.closed == {"chunks", "windows"}


async def test_an_error_of_the_windows_ends_the_recogniser() -> None:
    gate = asyncio.Event()
    server = Server(Reader(windows_error=ModelUnavailable("lost")), Recognizer(lambda index: gate))
    with pytest.raises(ModelUnavailable):
        await server.events()
    assert server.recognizer.running == set()
    assert server.reader.closed == {"chunks", "windows"}


async def test_a_full_queue_refuses_the_first_window_before_any_text() -> None:
    server = Server(diarizer=Diarizer(refusals={0: [Overloaded("busy", 0.0)]}), max_window_s=10)
    events: list[AudioInfo | TranscriptionEvent] = []
    with pytest.raises(Overloaded):
        await collect(server.run(), events)
    assert [type(event) for event in events] == [AudioInfo]
    assert server.reader.closed == {"chunks", "windows"}
    assert server.recognizer.running == set()


async def test_a_full_queue_refuses_the_first_chunk_before_any_text() -> None:
    gate = asyncio.Event()
    server = Server(
        recognizer=Recognizer(refusals={0: [Overloaded("busy", 0.0)]}), diarizer=Diarizer(lambda index: gate)
    )
    events: list[AudioInfo | TranscriptionEvent] = []
    with pytest.raises(Overloaded):
        await collect(server.run(), events)
    assert [type(event) for event in events] == [AudioInfo]
    assert server.diarizer.running == set()


async def test_full_queues_are_waited_for_by_what_comes_later() -> None:
    expected = await Server(max_window_s=10).segments()
    busy = Overloaded("busy", 0.0)
    server = Server(
        recognizer=Recognizer(refusals={2: [busy] * 3}),
        diarizer=Diarizer(refusals={1: [busy] * 5, 3: [busy]}),
        max_window_s=10,
    )
    assert await server.segments() == expected
    assert server.diarizer.refusals == {1: [], 3: []}
    assert server.recognizer.refusals == {2: []}


async def test_closing_the_events_cancels_what_runs() -> None:
    chunks = {index: asyncio.Event() for index in (2, 3)}
    windows = {1: asyncio.Event()}
    server = Server(recognizer=Recognizer(chunks.get), diarizer=Diarizer(windows.get), max_window_s=20)
    stream = server.run()
    async for event in stream:
        if isinstance(event, TextDelta):
            break
    await settle()
    assert (server.recognizer.running, server.diarizer.running) == ({2, 3}, {1})
    await stream.aclose()
    assert (sorted(server.recognizer.cancelled), server.diarizer.cancelled) == ([2, 3], [1])
    assert server.reader.closed == {"chunks", "windows"}


@pytest.mark.parametrize("known", [[], [known_speaker("Ann", ANN), known_speaker("Bob", BOB)]])
async def test_cancelling_the_caller_cancels_what_runs(known: list[KnownSpeaker]) -> None:
    gate = asyncio.Event()
    server = Server(recognizer=Recognizer(lambda index: gate), diarizer=Diarizer(lambda index: gate))
    task = asyncio.create_task(server.events(known))
    await settle()
    assert server.diarizer.running == ({-1} if known else {0})
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(server.recognizer.cancelled) == [0, 1, 2, 3]
    assert server.diarizer.running == server.recognizer.running == set()
    assert "chunks" in server.reader.closed


async def test_closing_before_anything_has_begun_is_quiet() -> None:
    server = Server()
    stream = server.run()
    assert isinstance(await anext(stream), AudioInfo)
    await stream.aclose()
    assert server.recognizer.options == {}
    assert server.reader.closed == {"chunks"}


# The part


@dataclass
class Source:
    """Yields its numbers, each once its gate is open, and remembers that it was closed."""

    numbers: Sequence[int]
    gates: dict[int, asyncio.Event] = field(default_factory=dict)
    error: Exception | None = None
    is_closed: bool = False

    async def run(self) -> AsyncGenerator[int, None]:
        try:
            for number in self.numbers:
                if number in self.gates:
                    await self.gates[number].wait()
                await asyncio.sleep(0)
                yield number
            if self.error:
                raise self.error
        finally:
            await asyncio.sleep(0)  # closing may take its time
            self.is_closed = True


async def test_events_come_as_they_are_ready_and_each_generator_s_in_order() -> None:
    gates = {1: asyncio.Event(), 12: asyncio.Event()}
    sources = [Source([0, 1, 2], gates), Source([10, 11, 12, 13], gates)]
    told: list[int] = []
    async with aclosing(side_by_side(*(source.run() for source in sources))) as events:
        async for event in events:
            told.append(event)
            if told[-1] == 11:
                gates[1].set()
            if told[-1] == 2:
                gates[12].set()
    assert sorted(told[:3]) == [0, 10, 11]
    assert told[3:] == [1, 2, 12, 13]
    assert all(source.is_closed for source in sources)


async def test_nothing_side_by_side_is_nothing() -> None:
    assert [event async for event in side_by_side(*(Source([]).run() for _ in range(2)))] == []


@pytest.mark.parametrize("num_before", [0, 3])
async def test_the_first_error_ends_all(num_before: int) -> None:
    stuck = Source([7], {7: asyncio.Event()})
    broken = Source(range(num_before), error=ValueError("broken"))
    told: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        await collect(side_by_side(stuck.run(), broken.run()), told)
    assert told == list(range(num_before))
    assert stuck.is_closed
    assert broken.is_closed


async def test_errors_at_the_same_moment_are_one_error() -> None:
    sources = [Source([], error=ValueError("broken")) for _ in range(3)]
    with pytest.raises(ValueError, match="broken"):
        await collect(side_by_side(*(source.run() for source in sources)), [])
    assert all(source.is_closed for source in sources)


async def test_leaving_closes_all() -> None:
    sources = [Source([1, 2, 3]), Source([4], {4: asyncio.Event()}), Source([])]
    events = side_by_side(*(source.run() for source in sources))
    assert await anext(events) == 1
    await settle()
    await events.aclose()
    assert all(source.is_closed for source in sources)
