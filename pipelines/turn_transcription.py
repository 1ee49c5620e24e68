"""What a turn of a realtime session says: by the same steps as an upload, of audio that comes bit by bit."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

import numpy as np

from pipelines.audio import to_pcm
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioChunk, AudioInfo, AudioStretch, PcmSamples, Samples, VadOptions
from pipelines.chunking import ChunkBuilder
from pipelines.diarization import SpeakerAttributor
from pipelines.ports import OpenUpload
from pipelines.speakers import SpeakerLabels
from pipelines.transcript_types import DecodingOptions
from pipelines.transcription import ChunkTranscriber
from pipelines.transcription_events import TranscriptFinished, Transcription, TranscriptionEvent
from pipelines.vad import SpeechDetector
from pipelines.voices import Voices

UNKNOWN_LENGTH = AudioInfo(float("inf"), "", "")


class TurnTranscriber(Protocol):
    """`grow` and `close` never wait; `events` end when it is closed and all of it is known."""

    @property
    def pending_s(self) -> float:
        """Audio that is kept, because not all of it is known."""
        ...

    def grow(self, samples: Samples, probabilities: Sequence[float]) -> None: ...

    def close(self) -> None: ...

    def events(self) -> AsyncGenerator[TranscriptionEvent, None]: ...


class ChunkedTurn:
    """Cut into the chunks that an upload of it would give; each is transcribed as soon as it is complete."""

    def __init__(self, transcriber: ChunkTranscriber, options: DecodingOptions, vad: VadOptions) -> None:
        self._transcriber = transcriber
        self._options = options
        self._detector = SpeechDetector(vad)
        self._builder = ChunkBuilder()
        self._num_samples = 0
        self._cut_until_s = self._taken_until_s = 0.0
        self._in_flight_s: deque[float] = deque(maxlen=transcriber.max_in_flight)
        """Of the last chunks that were taken: more are not worked on at once."""
        self._chunks: asyncio.Queue[AudioChunk | None] = asyncio.Queue()

    @property
    def duration_s(self) -> float:
        return self._num_samples / SAMPLE_RATE_HZ

    @property
    def pending_s(self) -> float:
        return self._cut_until_s - self._taken_until_s + sum(self._in_flight_s)

    def grow(self, samples: Samples, probabilities: Sequence[float]) -> None:
        self._num_samples += len(samples)
        closed = self._detector.push(probabilities)
        detector = self._detector
        self._put(self._builder.push(samples, closed, detector.open_since_s, detector.needed_from_s))

    def close(self) -> None:
        self._put(self._builder.finish(self._detector.finish(self.duration_s)))
        self._chunks.put_nowait(None)

    async def events(self) -> AsyncGenerator[TranscriptionEvent, None]:
        audio = OpenUpload(UNKNOWN_LENGTH, self.chunks())
        async with aclosing(self._transcriber.events(audio, self._options, has_begun=True)) as events:
            async for event in events:
                yield self._with_length(event) if isinstance(event, TranscriptFinished) else event

    async def chunks(self) -> AsyncGenerator[AudioChunk, None]:
        while (chunk := await self._chunks.get()) is not None:
            self._taken_until_s = chunk.end_s
            self._in_flight_s.append(chunk.waveform.duration_s)
            yield chunk

    def _with_length(self, finished: TranscriptFinished) -> TranscriptFinished:
        return TranscriptFinished(replace(finished.transcript, info=AudioInfo(self.duration_s, "", "")))

    def _put(self, chunks: Sequence[AudioChunk]) -> None:
        for chunk in chunks:
            self._cut_until_s = chunk.end_s
            self._chunks.put_nowait(chunk)


class Acquaintances:
    """Who was heard in a session up to now; labels stay the same from turn to turn."""

    def __init__(self, voices: Voices) -> None:
        self.voices = voices
        self.labels = SpeakerLabels()

    async def meet(self) -> Voices:
        return self.voices


class DiarizedTurn:
    """With speakers, once it is complete."""

    def __init__(
        self,
        transcriber: ChunkTranscriber,
        options: DecodingOptions,
        vad: VadOptions,
        attributor: SpeakerAttributor,
        acquaintances: Acquaintances,
    ) -> None:
        self._turn = ChunkedTurn(transcriber, replace(options, word_timestamps=True), vad)
        self._attributor = attributor
        self._acquaintances = acquaintances
        self._pcm: list[PcmSamples] = []
        self._is_closed = asyncio.Event()

    @property
    def pending_s(self) -> float:
        return self._turn.duration_s

    def grow(self, samples: Samples, probabilities: Sequence[float]) -> None:
        self._pcm.append(to_pcm(samples))
        self._turn.grow(samples, probabilities)

    def close(self) -> None:
        self._turn.close()
        self._is_closed.set()

    async def events(self) -> AsyncGenerator[TranscriptionEvent, None]:
        await self._is_closed.wait()
        async with aclosing(self._turn.events()) as text:
            if not self._turn.duration_s:
                async for event in text:
                    yield event
                return
            transcription = Transcription(AudioInfo(self._turn.duration_s, "", ""), text)
            people = self._acquaintances
            events = self._attributor.events(transcription, self._stretches, people.labels, people.meet, has_begun=True)
            async with aclosing(events):
                async for event in events:
                    yield event

    async def _stretches(self, stretch_s: float) -> AsyncGenerator[AudioStretch, None]:
        pcm = np.concatenate([np.zeros(0, np.int16), *self._pcm])
        num_samples = round(stretch_s * SAMPLE_RATE_HZ)
        for index, first in enumerate(range(0, len(pcm), num_samples)):
            yield AudioStretch(index, first / SAMPLE_RATE_HZ, pcm[first : first + num_samples])
