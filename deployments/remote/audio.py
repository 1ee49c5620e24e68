"""The audio deployment as the pipelines' port."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from itertools import count
from uuid import uuid4

import numpy as np
import ray
from ray.serve.handle import DeploymentHandle

from deployments.remote.calls import call, tell
from pipelines.audio_types import (
    SAMPLE_RATE_HZ,
    AudioChunk,
    AudioClip,
    AudioPage,
    AudioRecording,
    AudioStretch,
    VadOptions,
)
from pipelines.ports import OpenUpload, StoredUpload

MAX_INLINE_BYTES = 64 * 1024
"""Ray sends up to 100 KiB of an argument with the call."""


class RemoteAudioReader:
    """`pipelines.ports.AudioReader` over the audio deployment: asks for a part only when it is wanted."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def store(self, upload: bytes) -> StoredUpload:
        """In the object store, where its replicas read it without a copy; a small one comes along with each call."""
        data = np.frombuffer(upload, np.uint8)
        return StoredUpload(data if len(upload) <= MAX_INLINE_BYTES else await asyncio.to_thread(ray.put, data))

    @asynccontextmanager
    async def open(
        self, upload: StoredUpload, vad: VadOptions, audio_track: int | None = None
    ) -> AsyncGenerator[OpenUpload, None]:
        session_id = uuid4().hex
        sticky = self._handle.options(session_id=session_id)
        page: AudioPage = await call(sticky.read_page, session_id, upload, vad, audio_track, 0)

        async def chunks() -> AsyncGenerator[AudioChunk, None]:
            nonlocal page
            while True:
                for chunk in page.chunks:
                    yield chunk
                if page.is_last:
                    return
                next_chunk = page.chunks[-1].index + 1
                asked = (session_id, upload, vad, audio_track, next_chunk)
                page = await call(sticky.read_page, *asked, is_first_step=False)
                opened.info = page.info

        try:
            async with aclosing(chunks()) as reading:
                opened = OpenUpload(page.info, reading)
                yield opened
        finally:
            if not page.is_last:
                tell(sticky.release, session_id)

    async def read_stretches(
        self, upload: StoredUpload, stretch_s: float, audio_track: int | None = None
    ) -> AsyncGenerator[AudioStretch, None]:
        session_id = uuid4().hex
        sticky = self._handle.options(session_id=session_id)
        num_samples = round(stretch_s * SAMPLE_RATE_HZ)
        is_last = False
        try:
            for index in count():
                first = index * num_samples
                asked = (session_id, upload, audio_track, first, num_samples)
                pcm = await call(sticky.read_stretch, *asked, is_first_step=False)
                is_last = len(pcm) < num_samples
                if len(pcm):
                    yield AudioStretch(index, first / SAMPLE_RATE_HZ, pcm)
                if is_last:
                    return
        finally:
            if not is_last:
                tell(sticky.release, session_id)

    async def read_clip(self, upload: bytes, max_duration_s: float) -> AudioClip:
        clip = await call(self._handle.read_clip, np.frombuffer(upload, np.uint8), max_duration_s)
        assert isinstance(clip, AudioClip)
        return clip

    async def read_recording(self, upload: bytes, max_duration_s: float) -> AudioRecording:
        recording = await call(self._handle.read_recording, np.frombuffer(upload, np.uint8), max_duration_s)
        assert isinstance(recording, AudioRecording)
        return recording
