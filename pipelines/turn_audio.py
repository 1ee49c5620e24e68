"""The audio of a turn as it comes: to the chunks that an upload of it would give."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from pipelines.audio_types import SAMPLE_RATE_HZ, AudioChunk, Samples, VadOptions
from pipelines.chunking import ChunkBuilder
from pipelines.vad import SpeechDetector


class TurnChunks:
    """Keeps what was not taken yet, and the minute that is being cut."""

    def __init__(self) -> None:
        self._detector = SpeechDetector(VadOptions())
        self._builder = ChunkBuilder()
        self._num_samples = 0
        self._chunks: asyncio.Queue[AudioChunk | None] = asyncio.Queue()

    @property
    def duration_s(self) -> float:
        return self._num_samples / SAMPLE_RATE_HZ

    def grow(self, samples: Samples, probabilities: Sequence[float]) -> None:
        self._num_samples += len(samples)
        closed = self._detector.push(probabilities)
        detector = self._detector
        self._put(self._builder.push(samples, closed, detector.open_since_s, detector.needed_from_s))

    def close(self) -> None:
        self._put(self._builder.finish(self._detector.finish(self.duration_s)))
        self._chunks.put_nowait(None)

    async def chunks(self) -> AsyncGenerator[AudioChunk, None]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk

    def _put(self, chunks: Sequence[AudioChunk]) -> None:
        for chunk in chunks:
            self._chunks.put_nowait(chunk)
