"""The audio deployment's own reader, in this process."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from itertools import count

from deployments.audio.reader import StretchReader, UploadReader, read_clip, read_recording
from deployments.audio.silero import SileroModel
from pipelines.audio_types import (
    SAMPLE_RATE_HZ,
    AudioChunk,
    AudioClip,
    AudioInfo,
    AudioRecording,
    AudioStretch,
    DecodeLimits,
    VadOptions,
)
from pipelines.ports import StoredUpload
from tests.support.ports import opening


class LocalReader:
    """`pipelines.ports.AudioReader`: uploads are decoded and searched for speech as under Serve."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._model = SileroModel()

    async def store(self, upload: bytes) -> StoredUpload:
        return StoredUpload(upload)

    @opening
    async def open(
        self, upload: StoredUpload, vad: VadOptions, audio_track: int | None = None
    ) -> AsyncGenerator[AudioInfo | AudioChunk, None]:
        read = partial(UploadReader, upload, vad, self._model, self._limits, audio_track=audio_track)
        reader = await asyncio.to_thread(read)
        yield reader.info
        is_last = False
        while not is_last:
            page = await asyncio.to_thread(reader.next_page, reader.position)
            is_last = page.is_last
            yield page.info
            for chunk in page.chunks:
                yield chunk

    async def read_stretches(
        self, upload: StoredUpload, window_s: float, audio_track: int | None = None
    ) -> AsyncGenerator[AudioStretch, None]:
        reader = StretchReader(upload, self._limits, audio_track)
        num_samples = round(window_s * SAMPLE_RATE_HZ)
        for index in count():
            pcm = await asyncio.to_thread(reader.next_stretch, index * num_samples, num_samples)
            if len(pcm):
                yield AudioStretch(index, index * window_s, pcm)
            if len(pcm) < num_samples:
                return

    async def read_clip(self, upload: bytes, max_duration_s: float) -> AudioClip:
        return await asyncio.to_thread(read_clip, upload, self._model, self._limits_of(max_duration_s))

    async def read_recording(self, upload: bytes, max_duration_s: float) -> AudioRecording:
        return await asyncio.to_thread(read_recording, upload, self._limits_of(max_duration_s))

    def _limits_of(self, max_duration_s: float) -> DecodeLimits:
        return DecodeLimits(max_duration_s, self._limits.max_channels, self._limits.max_sample_rate_hz)
