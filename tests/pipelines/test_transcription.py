import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest

from pipelines.audio_types import AudioChunk, AudioInfo, VadOptions
from pipelines.errors import AudioTooShort, ModelUnavailable, Overloaded
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, LanguageChange, Segment
from pipelines.transcription import TranscriptionPipeline
from pipelines.transcription_events import TextDelta, TranscriptFinished, TranscriptionEvent
from tests.support.fakes import FakeReader, FakeRecognizer
from tests.support.ports import settle, told

INFO = AudioInfo(300.0, "wav", "pcm_s16le")
ENGLISH = DecodingOptions(language="en")


@dataclass
class Reader(FakeReader):
    duration_s: float | None = INFO.duration_s
    chunk_s: float = 10.0


def spoken(chunk: AudioChunk, language: str = "en") -> ChunkTranscript:
    segment = Segment(chunk.offset_s, chunk.end_s, f" Chunk {chunk.index}.", (), 0.0, -0.5, 1.0, 0.0)
    return ChunkTranscript(chunk.index, language, (segment,))


@dataclass
class Recognizer(FakeRecognizer):
    answer: Callable[[AudioChunk], ChunkTranscript] = spoken


async def run(
    reader: Reader, recognizer: Recognizer, options: DecodingOptions = ENGLISH, window: int = 4
) -> list[AudioInfo | TranscriptionEvent]:
    pipeline = TranscriptionPipeline(reader, recognizer, window)
    return [event async for event in told(pipeline.open(b"upload", VadOptions(), options))]


@pytest.mark.parametrize("claimed_s", [61.0, 5_000.0])
async def test_a_wrong_length_is_put_right_in_the_end_and_changes_no_times(claimed_s: float) -> None:
    info, *_, finished = await run(Reader(claimed_s=claimed_s), Recognizer())
    assert info == replace(INFO, duration_s=claimed_s, is_measured=False)
    assert isinstance(finished, TranscriptFinished)
    assert finished.transcript.info == INFO
    assert [segment.end_s for segment in finished.transcript.segments] == [10.0 * (number + 1) for number in range(30)]


async def test_info_then_deltas_then_the_whole() -> None:
    info, *deltas, finished = await run(Reader(num_chunks=3), Recognizer())
    assert info == INFO
    assert [delta.text for delta in deltas if isinstance(delta, TextDelta)] == ["Chunk 0.", " Chunk 1.", " Chunk 2."]
    assert isinstance(finished, TranscriptFinished)
    assert finished.transcript.text == "Chunk 0. Chunk 1. Chunk 2."
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == finished.transcript.text


async def test_no_speech_is_an_empty_transcript() -> None:
    info, finished = await run(Reader(num_chunks=0), Recognizer(), DecodingOptions())
    assert info == INFO
    assert isinstance(finished, TranscriptFinished)
    assert finished.transcript.text == ""


async def test_order_is_kept_though_later_chunks_finish_first() -> None:
    gates = [asyncio.Event() for _ in range(4)]
    recognizer = Recognizer(gates.__getitem__)
    task = asyncio.create_task(run(Reader(num_chunks=4), recognizer))
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
    reader, recognizer = Reader(num_chunks=20), Recognizer(lambda index: gate)
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
    pipeline = TranscriptionPipeline(Reader(num_chunks=3), Recognizer(gates.get), 4)
    async with aclosing(told(pipeline.open(b"", VadOptions(), ENGLISH))) as stream:
        async for event in stream:
            events.append(event)
            if len(events) == 3:
                gates[2].set()
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["Chunk 0.", " Chunk 1.", " Chunk 2."]


async def test_the_first_chunk_alone_tells_those_that_are_unsure_their_neighbour() -> None:
    gates = {0: asyncio.Event()}
    recognizer = Recognizer(gates.get, answer=lambda chunk: spoken(chunk, "fr"))
    task = asyncio.create_task(run(Reader(num_chunks=4), recognizer, DecodingOptions(languages=("fr", "es"))))
    await settle()
    assert recognizer.running == {0}
    gates[0].set()
    events = await task
    asked = [recognizer.options[index] for index in range(4)]
    assert [options.neighbour for options in asked] == [None, "fr", "fr", "fr"]
    assert all(options.language is None and options.languages == ("fr", "es") for options in asked)
    assert isinstance(events[-1], TranscriptFinished)
    assert events[-1].transcript.languages == ("fr",)


async def test_who_says_nothing_or_is_unsure_is_nobody_s_neighbour() -> None:
    def answer(chunk: AudioChunk) -> ChunkTranscript:
        if chunk.index == 0:
            return ChunkTranscript(chunk.index, "en")
        return replace(spoken(chunk, "fr"), is_language_sure=chunk.index == 2)

    recognizer = Recognizer(answer=answer)
    events = await run(Reader(num_chunks=4), recognizer, DecodingOptions())
    assert [recognizer.options[index].neighbour for index in range(4)] == [None, None, None, "fr"]
    assert isinstance(events[-1], TranscriptFinished)
    assert events[-1].transcript.text == "Chunk 1. Chunk 2. Chunk 3."
    assert events[-1].transcript.languages == ("fr",)


async def test_a_neighbour_is_the_same_however_fast_the_answers_come() -> None:
    """Chunk n is told what chunk n - 2 was sure of, or the first that was, though later ones are answered already."""
    languages = ["en", "fr", "de", "es", "it", "pt"]
    for slow in (set[int](), {1}, {2, 3}, {4}):
        gates = {index: asyncio.Event() for index in slow}
        recognizer = Recognizer(gates.get, answer=lambda chunk: spoken(chunk, languages[chunk.index]))
        task = asyncio.create_task(run(Reader(num_chunks=6), recognizer, DecodingOptions(), window=2))
        for index in sorted(slow):
            await settle()
            gates[index].set()
        await task
        assert [recognizer.options[n].neighbour for n in range(6)] == [None, "en", "en", "fr", "de", "es"]


async def test_when_nobody_is_sure_chunks_go_on_side_by_side() -> None:
    gate = asyncio.Event()
    recognizer = Recognizer(
        lambda index: gate if index > 2 else None,
        answer=lambda chunk: replace(spoken(chunk), is_language_sure=False),
    )
    task = asyncio.create_task(run(Reader(num_chunks=8), recognizer, DecodingOptions(), window=3))
    await settle()
    assert recognizer.running == {3, 4, 5}
    gate.set()
    await task
    assert all(recognizer.options[index].neighbour is None for index in range(8))


async def test_a_chunk_in_two_languages_is_sent_in_two_parts() -> None:
    asked: list[tuple[float, float, str | None]] = []

    class Bilingual(Recognizer):
        async def transcribe(
            self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
        ) -> ChunkTranscript:
            asked.append((chunk.offset_s, chunk.end_s, options.neighbour))
            if chunk.index == 1 and options.may_change:
                return ChunkTranscript(chunk.index, "en", change=LanguageChange(14.0, "en", "de"))
            return spoken(chunk, options.neighbour or "en")

    reader = Reader(num_chunks=3, speech=((0.0, 3.0), (5.0, 10.0)))
    events = await run(reader, Bilingual(), DecodingOptions())
    assert (10.0, 13.0, "en") in asked
    assert (15.0, 20.0, "de") in asked
    assert isinstance(events[-1], TranscriptFinished)
    assert events[-1].transcript.languages[0] == "en"
    assert "de" in events[-1].transcript.languages
    assert [segment.start_s for segment in events[-1].transcript.segments] == [0.0, 10.0, 15.0, 20.0]


@pytest.mark.parametrize(("max_tokens", "is_cut"), [(None, True), (1_000, True), (448, False)])
async def test_what_an_answer_has_no_room_for_is_heard_in_parts(max_tokens: int | None, is_cut: bool) -> None:
    """Scripts of which Whisper writes ten tokens a word fill it before 30 s are over: no word is lost."""

    class Wordy(Recognizer):
        async def transcribe(
            self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
        ) -> ChunkTranscript:
            has_room = chunk.waveform.duration_s <= 10
            answer = replace(spoken(chunk, "ka"), num_output_tokens=100 if has_room else 448)
            return answer if has_room else replace(answer, finish_reason="length")

    reader = Reader(duration_s=60.0, num_chunks=2, chunk_s=30.0)
    events = await run(reader, Wordy(), DecodingOptions(max_tokens=max_tokens))
    assert isinstance(events[-1], TranscriptFinished)
    found = events[-1].transcript
    assert found.finish_reason == ("stop" if is_cut else "length")
    assert len(found.segments) >= (6 if is_cut else 2)
    ends = [segment.end_s for segment in found.segments]
    assert [segment.start_s for segment in found.segments] == pytest.approx([0.0, *ends[:-1]])
    assert ends[-1] == 60.0


async def test_short_speech_is_not_parted_for_ever() -> None:
    asked: list[float] = []

    class Endless(Recognizer):
        async def transcribe(
            self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
        ) -> ChunkTranscript:
            asked.append(chunk.waveform.duration_s)
            return replace(spoken(chunk), finish_reason="length")

    await run(Reader(duration_s=30.0, num_chunks=1, chunk_s=30.0), Endless(), DecodingOptions())
    assert len(asked) < 12
    assert min(asked) > 3


async def test_who_is_sure_late_is_a_neighbour_at_the_same_place_however_fast_the_answers_come() -> None:
    found = []
    for slow in (set[int](), {4}):
        gates = {index: asyncio.Event() for index in slow}
        recognizer = Recognizer(
            gates.get, answer=lambda chunk: replace(spoken(chunk, "de"), is_language_sure=chunk.index == 4)
        )
        task = asyncio.create_task(run(Reader(num_chunks=10), recognizer, DecodingOptions(), window=4))
        for gate in gates.values():
            await settle()
            gate.set()
        await task
        found.append([recognizer.options[index].neighbour for index in range(10)])
    assert found[0] == found[1] == [None] * 8 + ["de"] * 2


async def test_a_given_language_reaches_every_chunk_at_once() -> None:
    gate = asyncio.Event()
    recognizer = Recognizer(lambda index: gate)
    task = asyncio.create_task(run(Reader(num_chunks=4), recognizer))
    await settle()
    assert recognizer.running == {0, 1, 2, 3}
    gate.set()
    await task
    assert set(recognizer.options.values()) == {ENGLISH}


async def test_an_unusable_upload_raises_before_anything_is_told() -> None:
    with pytest.raises(AudioTooShort):
        await run(Reader(error=AudioTooShort("short")), Recognizer())


@pytest.mark.parametrize("options", [ENGLISH, DecodingOptions()])
async def test_a_full_queue_refuses_the_first_chunk(options: DecodingOptions) -> None:
    reader = Reader(num_chunks=3)
    with pytest.raises(Overloaded):
        await run(reader, Recognizer(refusals={0: [Overloaded("busy", 0.0)]}), options)
    assert reader.closed


@pytest.mark.parametrize("options", [ENGLISH, DecodingOptions()])
async def test_a_full_queue_is_waited_for_by_later_chunks(options: DecodingOptions) -> None:
    recognizer = Recognizer(refusals={1: [Overloaded("busy", 0.0)] * 5, 2: [Overloaded("busy", 0.0)]})
    events = await run(Reader(num_chunks=4), recognizer, options)
    assert recognizer.refusals == {1: [], 2: []}
    assert isinstance(events[-1], TranscriptFinished)
    assert events[-1].transcript.text == "Chunk 0. Chunk 1. Chunk 2. Chunk 3."


async def test_a_lost_model_ends_it_and_cancels_the_rest() -> None:
    gates = {index: asyncio.Event() for index in (1, 2, 3)}
    reader = Reader(num_chunks=20)
    recognizer = Recognizer(gates.get, refusals={0: [ModelUnavailable("lost", 1.0)]})
    with pytest.raises(ModelUnavailable):
        await run(reader, recognizer)
    assert recognizer.running == set()
    assert recognizer.finished == []
    assert reader.closed
    assert reader.num_read <= 4


async def test_closing_the_events_cancels_what_runs() -> None:
    gates = {index: asyncio.Event() for index in range(1, 20)}
    reader, recognizer = Reader(num_chunks=20), Recognizer(gates.get)
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
    assert reader.closed


async def test_cancelling_the_caller_cancels_what_runs() -> None:
    gate = asyncio.Event()
    reader, recognizer = Reader(num_chunks=20), Recognizer(lambda index: gate)
    task = asyncio.create_task(run(reader, recognizer))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(recognizer.cancelled) == [0, 1, 2, 3]
    assert reader.closed


async def test_one_pipeline_serves_many_requests_at_once() -> None:
    pipeline = TranscriptionPipeline(Reader(num_chunks=5), Recognizer(), 2)

    async def text() -> str:
        *_, last = [event async for event in told(pipeline.open(b"", VadOptions(), ENGLISH))]
        assert isinstance(last, TranscriptFinished)
        return last.transcript.text

    texts = await asyncio.gather(*(text() for _ in range(5)))
    assert set(texts) == {"Chunk 0. Chunk 1. Chunk 2. Chunk 3. Chunk 4."}
