"""Ray Serve handles as the pipelines' ports: Ray's errors become ours, and what nobody waits for is cancelled."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, cast
from uuid import uuid4

import numpy as np
import ray
from ray.exceptions import RayActorError, TaskCancelledError
from ray.serve import context as serve_context
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from pipelines.chat_types import ChatDelta, ChatModelInfo, Message, SamplingOptions
from pipelines.errors import AudioServerError, ModelUnavailable, Overloaded
from pipelines.patience import patiently
from pipelines.resuming import Resumer
from pipelines.speaker_types import Diarization, Embedding
from pipelines.types import (
    SAMPLE_RATE_HZ,
    AudioChunk,
    AudioClip,
    AudioInfo,
    AudioPage,
    AudioRecording,
    AudioWindow,
    ChunkTranscript,
    DecodingOptions,
    RecognizerInfo,
    VadOptions,
    Waveform,
    Work,
)

MAX_ATTEMPTS = 2
RETRY_DELAY_S = 0.2
RETRY_AFTER_S = 2.0


RAY_ERRORS = (BackPressureError, DeploymentUnavailableError, TaskCancelledError, RayActorError)


async def call(method: Any, *args: Any) -> Any:
    """Call an idempotent method of a deployment once, and again when the replica that worked on it died.

    Raises:
        AudioServerError: as the deployment returned it; `Overloaded` when its queue is full; `ModelUnavailable`
            when no replica lives long enough to answer.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        response = _remote(method, *args)
        try:
            result = await response
            if not isinstance(result, AudioServerError):
                return result
            _raise_unless_worth_another_try(result, attempt)
        except asyncio.CancelledError:
            _cancel(response)
            raise
        except RAY_ERRORS as error:
            _raise_unless_worth_another_try(error, attempt)
        await _pause(attempt)
    raise AssertionError("unreachable")


def _raise_unless_worth_another_try(error: Exception, attempt: int) -> None:
    """Only what a lost or broken replica did not finish is asked again: another one may do better."""
    if attempt == MAX_ATTEMPTS or not isinstance(error, (RayActorError, ModelUnavailable)):
        raise _as_ours(error) from None


def _as_ours(error: Exception) -> AudioServerError:
    match error:
        case AudioServerError():
            return error
        case BackPressureError():
            return Overloaded("The server is busy. Try again shortly.", 1.0)
        case DeploymentUnavailableError():
            return ModelUnavailable("The model is not available at the moment.", RETRY_AFTER_S)
        case TaskCancelledError():
            return ModelUnavailable("The replica that worked on this request shut down.", RETRY_AFTER_S)
        case _:
            return ModelUnavailable("The replica that worked on this request was lost.", RETRY_AFTER_S)


def _cancel(response: Any) -> None:
    """Nobody waits any more, and Serve would let it run on."""
    with suppress(*RAY_ERRORS):  # a call that was never sent raises what kept it
        response.cancel()


async def _pause(attempt: int) -> None:
    await asyncio.sleep(RETRY_DELAY_S * attempt * random.uniform(0.5, 1.5))


def _remote(method: Any, *args: Any) -> Any:
    """Call under an id of the call's own.

    All calls that serve one HTTP request inherit one internal id, and of two that wait for a replica with the same id
    Serve's router forgets one. The request id, which the logs show, stays.
    """
    own = replace(serve_context._get_serve_request_context(), _internal_request_id="")
    token = serve_context._serve_request_context.set(own)
    try:
        return method.remote(*args)
    finally:
        serve_context._serve_request_context.reset(token)


class RemoteAudioReader:
    """`pipelines.ports.AudioReader` over the audio deployment: asks for a part only when it is wanted."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def read(self, upload: bytes, vad: VadOptions) -> AsyncGenerator[AudioInfo | AudioChunk, None]:
        session_id = uuid4().hex
        sticky = self._handle.options(session_id=session_id)
        stored = await _store(upload)
        page: AudioPage = await call(sticky.read_page, session_id, stored, vad, 0)
        try:
            yield page.info
            while True:
                for chunk in page.chunks:
                    yield chunk
                if page.is_last:
                    return
                next_chunk = page.chunks[-1].index + 1
                page = await patiently(partial(call, sticky.read_page, session_id, stored, vad, next_chunk))
        finally:
            if not page.is_last:
                _remote(sticky.release, session_id)

    async def read_windows(self, upload: bytes, window_s: float) -> AsyncGenerator[AudioWindow, None]:
        session_id = uuid4().hex
        sticky = self._handle.options(session_id=session_id)
        stored = await _store(upload)
        num_samples = round(window_s * SAMPLE_RATE_HZ)
        is_last = False
        try:
            for index in count():
                first = index * num_samples
                pcm = await patiently(partial(call, sticky.read_window, session_id, stored, first, num_samples))
                is_last = len(pcm) < num_samples
                if len(pcm):
                    yield AudioWindow(index, first / SAMPLE_RATE_HZ, pcm)
                if is_last:
                    return
        finally:
            if not is_last:
                _remote(sticky.release, session_id)

    async def read_clip(self, upload: bytes, max_duration_s: float) -> AudioClip:
        clip = await call(self._handle.read_clip, np.frombuffer(upload, np.uint8), max_duration_s)
        assert isinstance(clip, AudioClip)
        return clip

    async def read_recording(self, upload: bytes, max_duration_s: float) -> AudioRecording:
        recording = await call(self._handle.read_recording, np.frombuffer(upload, np.uint8), max_duration_s)
        assert isinstance(recording, AudioRecording)
        return recording


async def _store(upload: bytes) -> Any:
    """Put an upload into the object store, where its replica reads it without a copy."""
    return await asyncio.to_thread(ray.put, np.frombuffer(upload, np.uint8))


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


class RemoteDiarizer:
    """`pipelines.ports.Diarizer` over the diarization deployment."""

    def __init__(self, handle: DeploymentHandle, observe: Callable[[Work], None]) -> None:
        self._handle = handle
        self._observe = observe

    async def diarize(self, window: AudioWindow) -> Diarization:
        diarization, work = await call(self._handle.diarize, window)
        self._observe(work)
        assert isinstance(diarization, Diarization)
        return diarization

    async def embed(self, speech: Waveform) -> Embedding:
        embedding, work = await call(self._handle.embed, speech)
        self._observe(work)
        return cast(Embedding, embedding)


class RemoteChatModel:
    """`pipelines.ports.ChatModel` over one chat deployment."""

    def __init__(self, handle: DeploymentHandle, observe: Callable[[Work], None]) -> None:
        self._handle = handle
        self._streaming = handle.options(stream=True)
        self._observe = observe
        self._info: ChatModelInfo | None = None

    async def generate(
        self, messages: Sequence[Message], options: SamplingOptions, in_pieces: bool
    ) -> AsyncGenerator[ChatDelta, None]:
        """When the replica dies, another one writes the answer again, and what was delivered already is skipped."""
        resumer, attempt = Resumer(), 1
        while True:
            try:
                async with aclosing(self._write(messages, options, in_pieces)) as deltas:
                    async for delta in deltas:
                        if news := resumer.push(delta):
                            yield news
                return
            except BackPressureError as error:
                if attempt == 1:
                    raise _as_ours(error) from None
                # It has begun: whoever has taken its place meanwhile, it waits for the next.
            except (*RAY_ERRORS, AudioServerError) as error:
                _raise_unless_worth_another_try(error, attempt)
                attempt += 1
            await _pause(attempt)
            resumer.begin_anew()

    async def _write(
        self, messages: Sequence[Message], options: SamplingOptions, in_pieces: bool
    ) -> AsyncGenerator[ChatDelta, None]:
        """One replica's answer; raises Ray's errors as they are."""
        response = _remote(self._streaming.generate, messages, options, in_pieces)
        has_ended = False
        try:
            async for item in response:
                if isinstance(item, AudioServerError):
                    raise item
                delta, work = item
                yield delta
            has_ended = True
            self._observe(work)
        finally:
            if not has_ended:
                _cancel(response)

    async def info(self) -> ChatModelInfo:
        if self._info is None:
            self._info = await call(self._handle.info)
        return self._info
