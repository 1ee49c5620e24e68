"""Plain classes in the places of the audio and ASR deployments, and the API over them in this process."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import httpx
import numpy as np

from deployments.ingress.api import create_api
from deployments.ingress.catalogue import Catalogue
from deployments.ingress.metrics import IngressMetrics, to_prometheus_text
from deployments.ingress.services import Services
from deployments.settings import Limits, Settings
from pipelines.types import (
    AudioChunk,
    AudioInfo,
    ChunkTranscript,
    DecodingOptions,
    RecognizerInfo,
    Segment,
    VadOptions,
    Waveform,
)

MODEL = "a-model"


@dataclass
class FakeReader:
    """Every upload is so many chunks of a second each."""

    num_chunks: int = 1

    async def read(self, upload: bytes, vad: VadOptions) -> AsyncGenerator[AudioInfo | AudioChunk, None]:
        yield AudioInfo(float(self.num_chunks), "wav", "pcm_s16le")
        for index in range(self.num_chunks):
            yield AudioChunk(index, float(index), Waveform(np.zeros(16_000, np.float32)))


@dataclass
class FakeRecognizer:
    """Says "Hello." to every chunk, until its errors are due: the one at a chunk's index is raised there."""

    errors: Sequence[BaseException | None] = field(default_factory=list)

    async def transcribe(self, chunk: AudioChunk, options: DecodingOptions) -> ChunkTranscript:
        if chunk.index < len(self.errors) and (error := self.errors[chunk.index]) is not None:
            raise error
        start_s = chunk.offset_s
        segment = Segment(start_s, start_s + 1, " Hello.", (), 0.0, -0.1, 1.0, 0.0, seek_s=start_s)
        return ChunkTranscript(chunk.index, "en", (segment,), num_output_tokens=2)

    async def info(self) -> RecognizerInfo:
        return RecognizerInfo(frozenset({"en"}), frozenset({"transcribe", "translate"}))


def api_client(
    reader: FakeReader | None = None, recognizer: FakeRecognizer | None = None, api_keys: frozenset[str] = frozenset()
) -> httpx.AsyncClient:
    metrics = IngressMetrics()

    async def nothing_unavailable() -> dict[str, str | None]:
        return {}

    async def metrics_text() -> bytes:
        return to_prometheus_text([metrics.snapshot()])

    services = Services(
        catalogue=Catalogue(Settings.model_validate({"models": [{"id": MODEL}]}), created_at=0),
        limits=Limits(),
        api_keys=api_keys,
        reader=reader or FakeReader(),
        recognizers={MODEL: recognizer or FakeRecognizer()},
        metrics=metrics,
        unavailable=nothing_unavailable,
        metrics_text=metrics_text,
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_api(services)), base_url="http://auricle")
