import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipelines.audio_types import AudioChunk, AudioInfo, VadOptions, Waveform
from pipelines.errors import AudioTooShort, ModelUnavailable, Overloaded
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo, Segment
from pipelines.transcription import TranscriptionPipeline
from pipelines.transcription_events import TextDelta, TranscriptFinished, TranscriptionEvent
from tests.support.ports import opening, refuse, told

INFO = AudioInfo(300.0, "wav", "pcm_s16le")
ENGLISH = DecodingOptions(language="en")


@dataclass
class FakeReader:
    """Gives `num_chunks` chunks and tells how far it was read."""

    num_chunks: int
    error: Exception | None = None
    num_read: int = 0
    is_closed: bool = False

    @opening
    async def open(self, upload: bytes, vad: VadOptions) -> AsyncGenerator[AudioInfo | AudioChunk, None]:
        if self.error:
            raise self.error
        try:
            yield INFO
            for index in range(self.num_chunks):
                self.num_read += 1
                yield AudioChunk(index, index * 10.0, Waveform(np.zeros(160_000, np.float32)))
        finally:
            self.is_closed = True


def spoken(chunk: AudioChunk, language: str = "en") -> ChunkTranscript:
    segment = Segment(chunk.offset_s, chunk.end_s, f" Chunk {chunk.index}.", (), 0.0, -0.5, 1.0, 0.0)
    return ChunkTranscript(chunk.index, language, (segment,))


@dataclass
class FakeRecognizer:
    """Answers a chunk once `gate` says so; remembers who was aboard and with which options."""

    gate: Callable[[int], "asyncio.Event | None"] = lambda index: None
    answer: Callable[[AudioChunk], ChunkTranscript] = spoken
    refusals: dict[int, list[Exception]] = field(default_factory=dict)
    options: dict[int, DecodingOptions] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    most_running: int = 0
    cancelled: list[int] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)

    async def transcribe(
        self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
    ) -> ChunkTranscript:
        self.options[chunk.index] = options
        refuse(self.refusals.get(chunk.index, []), is_first_step)
        self.running.add(chunk.index)
        self.most_running = max(self.most_running, len(self.running))
        try:
            gate = self.gate(chunk.index)
            if gate:
                await gate.wait()
            else:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled.append(chunk.index)
            raise
        finally:
            self.running.discard(chunk.index)
        self.finished.append(chunk.index)
        return self.answer(chunk)

    async def info(self) -> RecognizerInfo:
        return RecognizerInfo(frozenset({"en", "fr"}))


async def run(
    reader: FakeReader, recognizer: FakeRecognizer, options: DecodingOptions = ENGLISH, window: int = 4
) -> list[AudioInfo | TranscriptionEvent]:
    pipeline = TranscriptionPipeline(reader, recognizer, window)
    return [event async for event in told(pipeline.open(b"upload", VadOptions(), options))]


async def settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_info_then_deltas_then_the_whole() -> None:
    info, *deltas, finished = await run(FakeReader(3), FakeRecognizer())
    assert info == INFO
    assert [delta.text for delta in deltas if isinstance(delta, TextDelta)] == ["Chunk 0.", " Chunk 1.", " Chunk 2."]
    assert isinstance(finished, TranscriptFinished)
    assert finished.transcript.text == "Chunk 0. Chunk 1. Chunk 2."
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == finished.transcript.text


async def test_no_speech_is_an_empty_transcript() -> None:
    info, finished = await run(FakeReader(0), FakeRecognizer(), DecodingOptions())
    assert info == INFO
    assert isinstance(finished, TranscriptFinished)
    assert finished.transcript.text == ""


async def test_order_is_kept_though_later_chunks_finish_first() -> None:
    gates = [asyncio.Event() for _ in range(4)]
    recognizer = FakeRecognizer(gates.__getitem__)
    task = asyncio.create_task(run(FakeReader(4), recognizer))
    for gate in reversed(gates):
        await settle()
        gate.set()
    events = await task
    assert recognizer.finished == [3, 2, 1, 0]
    assert isinstance(events[-1], TranscriptFinished)
    assert events[-1].transcript.text == "Chunk 0. Chunk 1. Chunk 2. Chunk 3."


@pytest.mark.parametrize("window", [1, 3])
async def test_only_a_window_of_chunks_is_read_and_worked_on(window: int) -> None:
    gate = asyncio.Event()
    reader, recognizer = FakeReader(20), FakeRecognizer(lambda index: gate)
    task = asyncio.create_task(run(reader, recognizer, window=window))
    await settle()
    assert recognizer.running == set(range(window))
    assert reader.num_read == window
    gate.set()
    await task
    assert recognizer.most_running == window
    assert reader.num_read == 20


async def test_a_finished_chunk_is_told_before_the_window_is_full() -> None:
    gates = {2: asyncio.Event()}
    events: list[AudioInfo | TranscriptionEvent] = []
    pipeline = TranscriptionPipeline(FakeReader(3), FakeRecognizer(gates.get), 4)
    async with aclosing(told(pipeline.open(b"", VadOptions(), ENGLISH))) as stream:
        async for event in stream:
            events.append(event)
            if len(events) == 3:
                gates[2].set()
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["Chunk 0.", " Chunk 1.", " Chunk 2."]


async def test_the_first_chunk_alone_settles_the_language() -> None:
    gates = {0: asyncio.Event()}
    recognizer = FakeRecognizer(gates.get, lambda chunk: spoken(chunk, "fr"))
    task = asyncio.create_task(run(FakeReader(4), recognizer, DecodingOptions(languages=("fr", "es"))))
    await settle()
    assert recognizer.running == {0}
    gates[0].set()
    events = await task
    assert [recognizer.options[index].language for index in range(4)] == [None, "fr", "fr", "fr"]
    assert isinstance(events[-1], TranscriptFinished)
    assert events[-1].transcript.language == "fr"


async def test_a_chunk_without_speech_settles_no_language() -> None:
    def answer(chunk: AudioChunk) -> ChunkTranscript:
        return spoken(chunk, "fr") if chunk.index >= 2 else ChunkTranscript(chunk.index, "en")

    recognizer = FakeRecognizer(answer=answer)
    events = await run(FakeReader(4), recognizer, DecodingOptions())
    assert [recognizer.options[index].language for index in range(4)] == [None, None, None, "fr"]
    assert isinstance(events[-1], TranscriptFinished)
    assert events[-1].transcript.text == "Chunk 2. Chunk 3."
    assert events[-1].transcript.language == "fr"


async def test_a_given_language_reaches_every_chunk_at_once() -> None:
    gate = asyncio.Event()
    recognizer = FakeRecognizer(lambda index: gate)
    task = asyncio.create_task(run(FakeReader(4), recognizer))
    await settle()
    assert recognizer.running == {0, 1, 2, 3}
    gate.set()
    await task
    assert set(recognizer.options.values()) == {ENGLISH}


async def test_an_unusable_upload_raises_before_anything_is_told() -> None:
    with pytest.raises(AudioTooShort):
        await run(FakeReader(1, AudioTooShort("short")), FakeRecognizer())


@pytest.mark.parametrize("options", [ENGLISH, DecodingOptions()])
async def test_a_full_queue_refuses_the_first_chunk(options: DecodingOptions) -> None:
    reader = FakeReader(3)
    with pytest.raises(Overloaded):
        await run(reader, FakeRecognizer(refusals={0: [Overloaded("busy", 0.0)]}), options)
    assert reader.is_closed


@pytest.mark.parametrize("options", [ENGLISH, DecodingOptions()])
async def test_a_full_queue_is_waited_for_by_later_chunks(options: DecodingOptions) -> None:
    recognizer = FakeRecognizer(refusals={1: [Overloaded("busy", 0.0)] * 5, 2: [Overloaded("busy", 0.0)]})
    events = await run(FakeReader(4), recognizer, options)
    assert recognizer.refusals == {1: [], 2: []}
    assert isinstance(events[-1], TranscriptFinished)
    assert events[-1].transcript.text == "Chunk 0. Chunk 1. Chunk 2. Chunk 3."


async def test_a_lost_model_ends_it_and_cancels_the_rest() -> None:
    gates = {index: asyncio.Event() for index in (1, 2, 3)}
    reader = FakeReader(20)
    recognizer = FakeRecognizer(gates.get, refusals={0: [ModelUnavailable("lost", 1.0)]})
    with pytest.raises(ModelUnavailable):
        await run(reader, recognizer)
    assert recognizer.running == set()
    assert recognizer.finished == []
    assert reader.is_closed
    assert reader.num_read <= 4


async def test_closing_the_events_cancels_what_runs() -> None:
    gates = {index: asyncio.Event() for index in range(1, 20)}
    reader, recognizer = FakeReader(20), FakeRecognizer(gates.get)
    pipeline = TranscriptionPipeline(reader, recognizer, 4)
    stream = told(pipeline.open(b"", VadOptions(), ENGLISH))
    assert await anext(stream) == INFO
    delta = await anext(stream)
    assert isinstance(delta, TextDelta)
    assert delta.text == "Chunk 0."
    await settle()
    running = set(recognizer.running)
    assert running
    await stream.aclose()
    assert set(recognizer.cancelled) == running
    assert recognizer.running == set()
    assert reader.is_closed


async def test_cancelling_the_caller_cancels_what_runs() -> None:
    gate = asyncio.Event()
    reader, recognizer = FakeReader(20), FakeRecognizer(lambda index: gate)
    task = asyncio.create_task(run(reader, recognizer))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(recognizer.cancelled) == [0, 1, 2, 3]
    assert reader.is_closed


async def test_one_pipeline_serves_many_requests_at_once() -> None:
    pipeline = TranscriptionPipeline(FakeReader(5), FakeRecognizer(), 2)

    async def text() -> str:
        *_, last = [event async for event in told(pipeline.open(b"", VadOptions(), ENGLISH))]
        assert isinstance(last, TranscriptFinished)
        return last.transcript.text

    texts = await asyncio.gather(*(text() for _ in range(5)))
    assert set(texts) == {"Chunk 0. Chunk 1. Chunk 2. Chunk 3. Chunk 4."}
