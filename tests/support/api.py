"""Plain classes in the places of the audio, ASR and chat deployments, and the API over them in this process."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI

from deployments.ingress.api import create_api
from deployments.ingress.catalogue import Catalogue
from deployments.ingress.metrics import IngressMetrics, to_prometheus_text
from deployments.ingress.services import Services
from deployments.settings import LimitsConfig, Settings
from pipelines.audio_types import AudioChunk, AudioInfo, AudioRecording, VadOptions, Waveform
from pipelines.chat_types import ChatDelta, ChatModelInfo, ChatUsage, Message, SamplingOptions, join_deltas
from pipelines.ports import Recognizer
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, FinishReason, RecognizerInfo, Segment
from tests.support.ports import opening

MODEL = "a-model"
CHAT_MODEL = "a-chat-model"


@dataclass
class FakeReader:
    """Every upload is so many chunks of a second each."""

    num_chunks: int = 1

    @opening
    async def open(self, upload: bytes, vad: VadOptions) -> AsyncGenerator[AudioInfo | AudioChunk, None]:
        yield AudioInfo(float(self.num_chunks), "wav", "pcm_s16le")
        for index in range(self.num_chunks):
            yield AudioChunk(index, float(index), Waveform(np.zeros(16_000, np.float32)))

    async def read_recording(self, upload: bytes, max_duration_s: float) -> AudioRecording:
        info = AudioInfo(float(self.num_chunks), "wav", "pcm_s16le")
        return AudioRecording(info, np.zeros(self.num_chunks * 16_000, np.int16))


@dataclass
class FakeRecognizer:
    """Says "Hello." to every chunk, until its errors are due: the one at a chunk's index is raised there."""

    errors: Sequence[BaseException | None] = field(default_factory=list)

    async def transcribe(
        self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
    ) -> ChunkTranscript:
        if chunk.index < len(self.errors) and (error := self.errors[chunk.index]) is not None:
            raise error
        start_s = chunk.offset_s
        segment = Segment(start_s, start_s + 1, " Hello.", (), 0.0, -0.1, 1.0, 0.0, seek_s=start_s)
        return ChunkTranscript(chunk.index, "en", (segment,), num_output_tokens=2)

    async def info(self) -> RecognizerInfo:
        return RecognizerInfo(frozenset({"en"}), frozenset({"transcribe", "translate"}))


@dataclass
class FakeChatModel:
    """Says "0 1 2 ", until an error is due: the one at a token's index is raised there. Before the token numbered
    `gated`, waits for `gate`."""

    errors: Sequence[BaseException | None] = field(default_factory=list)
    gated: int = -1
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    options: list[SamplingOptions] = field(default_factory=list)
    messages: list[Sequence[Message]] = field(default_factory=list)
    num_writing: int = 0
    info_gate: asyncio.Event | None = None
    hears_audio: bool = True

    async def generate(
        self, messages: Sequence[Message], options: SamplingOptions, in_pieces: bool
    ) -> AsyncGenerator[ChatDelta, None]:
        self.options.append(options)
        self.messages.append(messages)
        self.num_writing += 1
        written: list[ChatDelta] = []
        try:
            for number in range(3):
                if number == self.gated:
                    await self.gate.wait()
                if number < len(self.errors) and (error := self.errors[number]) is not None:
                    raise error
                reason: FinishReason | None = "stop" if number == 2 else None
                written.append(ChatDelta(f"{number} ", ChatUsage(5, 2, number + 1), (), reason))
                if in_pieces or number == 2:
                    yield join_deltas(written)
                    written = []
        finally:
            self.num_writing -= 1

    async def info(self) -> ChatModelInfo:
        if self.info_gate:
            await self.info_gate.wait()
        return ChatModelInfo(self.hears_audio, max_audio_s=None, max_context_tokens=100)


def api(
    reader: FakeReader | None = None,
    recognizer: Recognizer | None = None,
    chat_model: FakeChatModel | None = None,
    api_keys: frozenset[str] = frozenset(),
    limits: LimitsConfig | None = None,
    **chat_settings: Any,
) -> FastAPI:
    metrics = IngressMetrics()

    async def nothing_unavailable() -> dict[str, str | None]:
        return {}

    async def metrics_text() -> bytes:
        return to_prometheus_text([metrics.snapshot()])

    models = [{"id": MODEL}, {"id": CHAT_MODEL, "task": "chat", "aliases": ["an-alias"], **chat_settings}]
    return create_api(
        Services(
            catalogue=Catalogue(Settings.model_validate({"models": models}), created_at=0),
            limits=limits or LimitsConfig(),
            api_keys=api_keys,
            reader=reader or FakeReader(),
            recognizers={MODEL: recognizer or FakeRecognizer()},
            chat_models={CHAT_MODEL: chat_model or FakeChatModel()},
            metrics=metrics,
            unavailable=nothing_unavailable,
            metrics_text=metrics_text,
        )
    )


def api_client(
    reader: FakeReader | None = None,
    recognizer: Recognizer | None = None,
    api_keys: frozenset[str] = frozenset(),
    chat_model: FakeChatModel | None = None,
    limits: LimitsConfig | None = None,
    **chat_settings: Any,
) -> httpx.AsyncClient:
    app = api(reader, recognizer, chat_model, api_keys, limits, **chat_settings)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://auricle")
