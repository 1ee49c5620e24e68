"""Upload to events: read, transcribe chunk by chunk, merge in order. Knows no model, no Ray and no wire."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

from pipelines.audio_types import AudioChunk, VadOptions
from pipelines.chunking import cut_chunk, halve_chunk
from pipelines.merging import TranscriptBuilder
from pipelines.ports import AudioReader, OpenUpload, Recognizer, StoredUpload
from pipelines.transcript_types import ChunkTranscript, DecodingOptions
from pipelines.transcription_events import TranscriptFinished, Transcription, TranscriptionEvent

MIN_PART_S = 5.0
"""Nobody says more in less."""


class TranscriptionPipeline:
    """Transcribes one upload at a time; hold one per request or share it, it keeps nothing between calls.

    `num_chunks_in_flight` bounds the audio of one request that waits in memory or at a model.
    """

    def __init__(self, reader: AudioReader, recognizer: Recognizer, num_chunks_in_flight: int = 4) -> None:
        self._reader = reader
        self._transcriber = ChunkTranscriber(recognizer, num_chunks_in_flight)

    @asynccontextmanager
    async def open(
        self, upload: StoredUpload, vad: VadOptions, options: DecodingOptions, audio_track: int | None = None
    ) -> AsyncGenerator[Transcription, None]:
        """Its events are text deltas as chunks finish, then `TranscriptFinished`. Leaving ends whatever runs.

        Raises:
            InvalidRequest: when the upload cannot be used.
            Overloaded, ModelUnavailable: also by the events, before the first delta, or when a replica cannot be
                replaced.
        """
        opening = self._reader.open(upload, vad, audio_track)
        async with opening as audio, aclosing(self._transcriber.events(audio, options)) as events:
            yield Transcription(audio.info, events)


class ChunkTranscriber:
    """From the chunks of any source to events; keeps nothing between calls."""

    def __init__(self, recognizer: Recognizer, max_in_flight: int) -> None:
        self._recognizer = recognizer
        self.max_in_flight = max_in_flight

    async def events(
        self, audio: OpenUpload, options: DecodingOptions, has_begun: bool = False
    ) -> AsyncGenerator[TranscriptionEvent, None]:
        """
        Args:
            has_begun: they are not a request's first step, and wait where a queue is full.
        """
        builder = TranscriptBuilder(audio.info, options)
        async with aclosing(self._transcripts(audio.chunks, options, has_begun)) as transcripts:
            async for transcript in transcripts:
                builder.info = audio.info
                for delta in builder.add(transcript):
                    yield delta
        builder.info = audio.info
        yield TranscriptFinished(builder.finish())

    async def _transcripts(
        self, chunks: AsyncGenerator[AudioChunk, None], options: DecodingOptions, has_begun: bool
    ) -> AsyncGenerator[ChunkTranscript, None]:
        """Yield every chunk's answers in order, a bounded number of them being worked on at once.

        Until a language is known chunks go alone, the first few of them; later ones that are unsure of theirs take a
        neighbour's.
        """
        neighbours = Neighbours(self.max_in_flight)
        running: deque[asyncio.Task[list[ChunkTranscript]]] = deque()
        reading: asyncio.Future[AudioChunk | None] | None = None
        is_exhausted = False
        try:
            while running or not is_exhausted:
                max_running = self.max_in_flight if options.language or neighbours.may_go_on else 1
                if reading is None and not is_exhausted and len(running) < max_running:
                    reading = asyncio.ensure_future(anext(chunks, None))
                awaited: list[asyncio.Future[Any]] = [*list(running)[:1], *([reading] if reading else [])]
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                if reading is not None and reading.done():
                    chunk, reading = reading.result(), None
                    if chunk is not None:
                        knowing = replace(options, neighbour=neighbours.of_next() or options.neighbour)
                        is_first_step = chunk.index == 0 and not has_begun
                        running.append(asyncio.create_task(self._transcribe(chunk, knowing, is_first_step)))
                    else:
                        is_exhausted = True
                elif running[0].done():
                    transcripts = await running.popleft()
                    neighbours.heard(transcripts)
                    for transcript in transcripts:
                        yield transcript
        finally:
            pending: list[asyncio.Future[Any]] = [*running, *([reading] if reading else [])]
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _transcribe(
        self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool
    ) -> list[ChunkTranscript]:
        """One answer, or those of its parts, each heard alone: where its language seems to change, or where it holds
        more text than an answer has room for."""
        transcript = await self._recognizer.transcribe(chunk, options, is_first_step)
        change = transcript.change
        if change is None and _has_no_room(transcript, options) and chunk.waveform.duration_s >= 2 * MIN_PART_S:
            known = replace(options, neighbour=transcript.language, may_change=False)
            return [one for part in halve_chunk(chunk) for one in await self._transcribe(part, known, False)]
        if change is None:
            return [transcript]
        parts = zip(cut_chunk(chunk, change.at_s), (change.before, change.after), strict=True)
        return [
            await self._recognizer.transcribe(
                part, replace(options, neighbour=neighbour, may_change=False), is_first_step=False
            )
            for part, neighbour in parts
        ]


def _has_no_room(transcript: ChunkTranscript, options: DecodingOptions) -> bool:
    """Whether its end is missing, and not because the request wants no more."""
    is_enough = options.max_tokens is not None and transcript.num_output_tokens >= options.max_tokens
    return transcript.finish_reason == "length" and not is_enough


class Neighbours:
    """Whose language a chunk takes that is unsure of its own: the last one's that was sure, among those that are always
    answered when the chunk is sent, however busy the models are."""

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._languages: list[str | None] = []
        """Of each answered chunk up to now, the last that was sure."""
        self._first_sure: int | None = None
        self._num_sent = 0

    @property
    def may_go_on(self) -> bool:
        """Whether a language is known, or nobody seems to be sure."""
        return self._first_sure is not None or len(self._languages) >= self._max_in_flight

    def of_next(self) -> str | None:
        """Of the chunk that is sent now."""
        last = self._num_sent - self._max_in_flight
        if self._first_sure is not None and self._first_sure < self._max_in_flight:  # they went alone until then
            last = max(last, self._first_sure)
        self._num_sent += 1
        return self._languages[last] if 0 <= last < len(self._languages) else None

    def heard(self, transcripts: Sequence[ChunkTranscript]) -> None:
        """A chunk's answers; they come in the chunks' order."""
        sure = [one.language for one in transcripts if one.is_language_sure and one.segments]
        if sure and self._first_sure is None:
            self._first_sure = len(self._languages)
        before = self._languages[-1] if self._languages else None
        self._languages.append(sure[-1] if sure else before)
