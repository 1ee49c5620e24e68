"""Ray Serve handles as the pipelines' ports: Ray's errors become ours, and what nobody waits for is cancelled."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any
from uuid import uuid4

import numpy as np
import ray
from ray.exceptions import RayActorError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from pipelines.errors import AudioServerError, ModelUnavailable, Overloaded
from pipelines.types import (
    AudioChunk,
    AudioInfo,
    AudioPage,
    ChunkTranscript,
    DecodingOptions,
    RecognizerInfo,
    VadOptions,
    Work,
)

MAX_ATTEMPTS = 2
RETRY_DELAY_S = 0.2
RETRY_AFTER_S = 2.0


async def call(method: Any, *args: Any) -> Any:
    """Call an idempotent method of a deployment once, and again when the replica that worked on it died.

    Raises:
        AudioServerError: as the deployment returned it; `Overloaded` when its queue is full; `ModelUnavailable`
            when no replica lives long enough to answer.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        response = method.remote(*args)
        try:
            result = await response
            if isinstance(result, ModelUnavailable) and attempt < MAX_ATTEMPTS:
                continue
            if isinstance(result, AudioServerError):
                raise result
            return result
        except asyncio.CancelledError:
            response.cancel()  # nobody waits any more, and Serve would let it run on
            raise
        except BackPressureError:
            raise Overloaded("The server is busy. Try again shortly.", 1.0) from None
        except DeploymentUnavailableError:
            raise ModelUnavailable("The model is not available at the moment.", RETRY_AFTER_S) from None
        except TaskCancelledError:
            raise ModelUnavailable("The replica that worked on this request shut down.", RETRY_AFTER_S) from None
        except RayActorError:
            if attempt == MAX_ATTEMPTS:
                raise ModelUnavailable("The replica that worked on this request was lost.", RETRY_AFTER_S) from None
        await asyncio.sleep(RETRY_DELAY_S * attempt * random.uniform(0.5, 1.5))
    raise AssertionError("unreachable")


async def _call_patiently(method: Any, *args: Any) -> Any:
    """Call as often as it takes: a request that has begun waits for its turn instead of failing half-way."""
    while True:
        try:
            return await call(method, *args)
        except Overloaded as overload:
            await asyncio.sleep(overload.retry_after_s)


class RemoteAudioReader:
    """`pipelines.ports.AudioReader` over the audio deployment: asks for a page only when its chunks are wanted."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def read(self, upload: bytes, vad: VadOptions) -> AsyncGenerator[AudioInfo | AudioChunk, None]:
        session_id = uuid4().hex
        sticky = self._handle.options(session_id=session_id)
        stored = await asyncio.to_thread(ray.put, np.frombuffer(upload, np.uint8))
        page: AudioPage = await call(sticky.read_page, session_id, stored, vad, 0)
        try:
            yield page.info
            while True:
                for chunk in page.chunks:
                    yield chunk
                if page.is_last:
                    return
                page = await _call_patiently(sticky.read_page, session_id, stored, vad, page.chunks[-1].index + 1)
        finally:
            if not page.is_last:
                sticky.release.remote(session_id)


class RemoteRecognizer:
    """`pipelines.ports.Recognizer` over one ASR deployment."""

    def __init__(self, handle: DeploymentHandle, observe: Callable[[Work], None]) -> None:
        self._handle = handle
        self._observe = observe
        self._info: RecognizerInfo | None = None

    async def transcribe(self, chunk: AudioChunk, options: DecodingOptions) -> ChunkTranscript:
        transcript, work = await call(self._handle.transcribe, chunk, options)
        self._observe(work)
        assert isinstance(transcript, ChunkTranscript)
        return transcript

    async def info(self) -> RecognizerInfo:
        if self._info is None:
            self._info = await call(self._handle.info)
        return self._info
