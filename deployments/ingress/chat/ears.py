"""How a chat model hears: by itself, or by reading what another model of the graph has heard (CHT-35)."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from deployments.ingress.services import Services
from deployments.model_configs import ChatModelConfig
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioChunk
from pipelines.chat_types import AudioPart, ChatModelInfo, TextPart
from pipelines.errors import AudioTooLong
from pipelines.hearing import HearingPipeline
from pipelines.ports import AudioReader, Recognizer
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo
from pipelines.transcription import TranscriptionPipeline

MAX_AT_ONCE = 4
"""Recordings of one request that are transcribed side by side."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An audio as its model takes it. `num_tokens`: what it counts as where the model cannot count it itself."""

    part: AudioPart | TextPart
    duration_s: float
    num_tokens: int = 0


class Ears(Protocol):
    """Of one request. `num_at_once`: how many audios they hear side by side."""

    num_at_once: int

    async def hear(self, upload: bytes) -> Heard:
        """
        Raises:
            InvalidRequest: the upload cannot be used.
            Overloaded, ModelUnavailable
        """
        ...


async def ears_of(model: ChatModelConfig, services: Services) -> Ears | None:
    """None for a model without any; only a model that may have its own is asked, for it may have to be loaded first."""
    if model.hears is not None:
        return BorrowedEars(model.hears, services)
    info = await services.chat_models[model.id].info()
    return OwnEars(services.reader, model, info) if info.hears_audio else None


class OwnEars:
    """All audio of a request together has so many seconds: it is in the model's context, and in memory, at once."""

    num_at_once = 1

    def __init__(self, reader: AudioReader, model: ChatModelConfig, info: ChatModelInfo) -> None:
        self._reader = reader
        self._model = model
        self._own_limit_s = info.max_audio_s
        self._left_s = model.max_audio_s

    async def hear(self, upload: bytes) -> Heard:
        if self._left_s <= 0:
            raise AudioTooLong(f"a request may hold {self._model.max_audio_s:.0f} s of audio in all.")
        recording = await self._reader.read_recording(upload, self._left_s)
        if self._own_limit_s is not None and recording.info.duration_s > self._own_limit_s:
            raise AudioTooLong(
                f"it is {recording.info.duration_s:.1f} s long, but the model '{self._model.id}' hears no more than "
                f"{self._own_limit_s:.0f} s of one audio. Cut it, or transcribe it first."
            )
        duration_s = len(recording.pcm) / SAMPLE_RATE_HZ
        self._left_s -= duration_s
        return Heard(AudioPart(recording.pcm), duration_s)


class BorrowedEars:
    """Those of a transcription model: an audio may be as long as an upload."""

    num_at_once = MAX_AT_ONCE

    def __init__(self, model_id: str, services: Services) -> None:
        num_chunks = services.limits.max_chunks_in_flight
        recognizer = _Shared(services.recognizers[model_id], num_chunks)
        self._reader = services.reader
        self._pipeline = HearingPipeline(TranscriptionPipeline(services.reader, recognizer, num_chunks))

    async def hear(self, upload: bytes) -> Heard:
        heard = await self._pipeline.run(await self._reader.store(upload))
        return Heard(TextPart(heard.text), heard.duration_s, heard.num_tokens)


class _Shared:
    """A `Recognizer` for all recordings of a request: together they have no more chunks at it than one upload has."""

    def __init__(self, recognizer: Recognizer, num_chunks: int) -> None:
        self._recognizer = recognizer
        self._room = asyncio.Semaphore(num_chunks)

    async def transcribe(
        self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
    ) -> ChunkTranscript:
        async with self._room:
            return await self._recognizer.transcribe(chunk, options, is_first_step)

    async def info(self) -> RecognizerInfo:
        return await self._recognizer.info()
