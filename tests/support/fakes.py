"""The one fake of each port of `pipelines.ports`: it does as a test tells it, and remembers what ran."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace

import numpy as np

from pipelines.audio_types import (
    SAMPLE_RATE_HZ,
    AudioChunk,
    AudioClip,
    AudioInfo,
    AudioRecording,
    AudioStretch,
    Samples,
    SpeechSegment,
    VadOptions,
    Waveform,
)
from pipelines.errors import AudioTooLong
from pipelines.ports import StoredUpload
from pipelines.speaker_types import Diarization, Embedding
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo, Segment
from tests.support.ports import opening, refuse


@dataclass
class FakeReader:
    """Every upload lasts `duration_s`, or, where that is None, as many seconds as its bytes spell; somebody speaks all
    the time, in chunks of `chunk_s`, each of which says `speech` of itself. It takes `slow_s` to decode anything, and
    then perhaps there is an `error`. The file says that it lasts `claimed_s`, where that is not None."""

    duration_s: float | None = 1.0
    claimed_s: float | None = None
    chunk_s: float = 1.0
    num_chunks: int | None = None
    speech: tuple[tuple[float, float], ...] = ()
    slow_s: float = 0.0
    error: Exception | None = None
    windows_error: Exception | None = None
    num_read: int = 0
    windows: list[AudioStretch] = field(default_factory=list)
    clips: list[bytes] = field(default_factory=list)
    max_durations_s: list[float] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)

    async def store(self, upload: bytes) -> StoredUpload:
        return StoredUpload(upload)

    @opening
    async def open(
        self, upload: StoredUpload, vad: VadOptions, audio_track: int | None = None
    ) -> AsyncGenerator[AudioInfo | AudioChunk, None]:
        info = await self._decode(upload)
        num_chunks = int(info.duration_s // self.chunk_s) if self.num_chunks is None else self.num_chunks
        try:
            yield info if self.claimed_s is None else replace(info, duration_s=self.claimed_s, is_measured=False)
            for index in range(num_chunks):
                self.num_read += 1
                start_s = index * self.chunk_s
                speech = tuple(SpeechSegment(start_s + first_s, start_s + last_s) for first_s, last_s in self.speech)
                yield AudioChunk(index, start_s, Waveform(_samples(self.chunk_s)), speech)
            yield info
        finally:
            self.closed.add("chunks")

    async def read_stretches(
        self, upload: StoredUpload, window_s: float, audio_track: int | None = None
    ) -> AsyncGenerator[AudioStretch, None]:
        num_samples, step = int(self._duration_s(upload) * SAMPLE_RATE_HZ), int(window_s * SAMPLE_RATE_HZ)
        try:
            if self.windows_error:
                raise self.windows_error
            for index, first in enumerate(range(0, num_samples, step)):
                pcm = np.broadcast_to(np.int16(0), min(step, num_samples - first))
                self.windows.append(AudioStretch(index, first / SAMPLE_RATE_HZ, pcm))
                yield self.windows[-1]
        finally:
            self.closed.add("windows")

    async def read_clip(self, upload: bytes, max_duration_s: float) -> AudioClip:
        self.clips.append(upload)
        info = await self._decode(upload, max_duration_s)
        return AudioClip(info, Waveform(_samples(info.duration_s)))

    async def read_recording(self, upload: bytes, max_duration_s: float) -> AudioRecording:
        """Its samples hold its length in seconds."""
        info = await self._decode(upload, max_duration_s)
        return AudioRecording(info, _samples(info.duration_s, round(info.duration_s)).astype(np.int16))

    async def _decode(self, upload: bytes, max_duration_s: float | None = None) -> AudioInfo:
        await asyncio.sleep(self.slow_s)
        if max_duration_s is not None:
            self.max_durations_s.append(max_duration_s)
        if self.error:
            raise self.error
        info = AudioInfo(self._duration_s(upload), "wav", "pcm_s16le")
        if max_duration_s is not None and info.duration_s > max_duration_s:
            raise AudioTooLong("It is too long.")
        return info

    def _duration_s(self, upload: bytes) -> float:
        return float(upload) if self.duration_s is None else self.duration_s


def _samples(duration_s: float, value: float = 0.0) -> Samples:
    return np.full(round(duration_s * SAMPLE_RATE_HZ), value, np.float32)


@dataclass
class FakeModel:
    """What recognisers and diarizers have in common. A task is known by its index: it takes `slow_s`, meets the
    refusals that are due at its index, one at a try, and waits until its gate is open. The model tells what it is
    after `loading_s`."""

    gate: Callable[[int], asyncio.Event | None] = lambda index: None
    refusals: dict[int, list[Exception]] = field(default_factory=dict)
    slow_s: float = 0.0
    loading_s: float = 0.0
    running: set[int] = field(default_factory=set)
    most_running: int = 0
    cancelled: list[int] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)

    async def work(self, index: int, is_first_step: bool) -> None:
        await asyncio.sleep(self.slow_s)
        refuse(self.refusals.get(index, []), is_first_step)
        self.running.add(index)
        self.most_running = max(self.most_running, len(self.running))
        try:
            if gate := self.gate(index):
                await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(index)
            raise
        finally:
            self.running.discard(index)
        self.finished.append(index)


def hello(chunk: AudioChunk) -> ChunkTranscript:
    start_s, end_s = chunk.offset_s, chunk.end_s
    segment = Segment(start_s, end_s, " Hello.", (), 0.0, -0.1, 1.0, 0.0, seek_s=start_s)
    return ChunkTranscript(chunk.index, "en", (segment,), num_output_tokens=2)


@dataclass
class FakeRecognizer(FakeModel):
    """Gives each chunk the answer that belongs to it; its index is the chunk's."""

    answer: Callable[[AudioChunk], ChunkTranscript] = hello
    options: dict[int, DecodingOptions] = field(default_factory=dict)

    async def transcribe(
        self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
    ) -> ChunkTranscript:
        self.options[chunk.index] = options
        await self.work(chunk.index, is_first_step)
        return self.answer(chunk)

    async def info(self) -> RecognizerInfo:
        await asyncio.sleep(self.loading_s)
        return RecognizerInfo(frozenset({"en"}), frozenset({"transcribe", "translate"}))


@dataclass
class FakeDiarizer(FakeModel):
    """Gives each window the answer that belongs to it. Embeds speech as its first four samples; references are numbered
    -1, -2, … as they come."""

    answer: Callable[[AudioStretch], Diarization] = lambda window: Diarization()
    embedded: list[Waveform] = field(default_factory=list)

    async def diarize(self, window: AudioStretch, is_first_step: bool = True) -> Diarization:
        await self.work(window.index, is_first_step)
        return self.answer(window)

    async def embed(self, speech: Waveform, is_first_step: bool = True) -> Embedding:
        self.embedded.append(speech)
        await self.work(-len(self.embedded), is_first_step)
        return speech.samples[:4]
