"""The audio deployment: decode + VAD, chunks and stretches of an upload on demand."""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from ray import serve
from ray.serve.config import RequestRouterConfig

from deployments.audio.reader import StretchReader, UploadReader, read_clip, read_recording
from deployments.audio.silero import SileroModel
from deployments.compat.glibc import HeapKeeper
from deployments.compat.serve import CONSISTENT_HASH_ROUTER
from pipelines.audio_types import AudioClip, AudioPage, AudioRecording, DecodeLimits, PcmSamples, VadOptions
from pipelines.errors import InvalidRequest

logger = logging.getLogger("ray.serve")

FileBytes = NDArray[np.uint8]
"""An upload as an array, which replicas on one node read from shared memory, without a copy."""

Reader = UploadReader | StretchReader
ResultT = TypeVar("ResultT")

MAX_PARKED = 256
MAX_PARKED_BYTES = 1 << 30
PARKED_FOR_S = 600.0
NUM_THREADS = 16


@serve.deployment(
    max_ongoing_requests=16,
    max_queued_requests=256,
    health_check_period_s=2,
    graceful_shutdown_timeout_s=30,
    ray_actor_options={"num_cpus": 0.5},
    # The pages of one upload should find the replica that holds its decoder.
    request_router_config=RequestRouterConfig(request_router_class=CONSISTENT_HASH_ROUTER),
)
class AudioDeployment:
    """Every call reads the next part of an upload, so no more of it is decoded than its reader has asked for.

    Between two parts the decoder is parked here. That is only a short cut: a replica that does not know the
    upload, or knows it at another place, reads it again from the beginning and gives the same part.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._model = SileroModel()
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="decode")
        self._parked: OrderedDict[str, tuple[float, Reader]] = OrderedDict()
        self._heap = HeapKeeper()

    async def check_health(self) -> None:
        """Serve asks every other second; nothing but the process itself can fail here."""
        self._let_go()
        await self._heap.keep()

    async def read_page(
        self, session_id: str, upload: FileBytes, vad: VadOptions, audio_track: int | None, first_chunk: int
    ) -> AudioPage | InvalidRequest:
        """Read the page that begins with `first_chunk`.

        What is wrong with an upload is returned: Serve would log a raised error with its traceback, and
        bad uploads are no fault of the server.
        """
        parked = self._unpark(session_id, first_chunk)

        def read(is_cancelled: Callable[[], bool]) -> tuple[UploadReader, AudioPage]:
            if isinstance(parked, UploadReader):
                return parked, parked.next_page(first_chunk, is_cancelled)
            reader = UploadReader(upload.data, vad, self._model, self._limits, is_cancelled, audio_track)
            return reader, reader.next_page(first_chunk, is_cancelled)

        try:
            reader, page = await self._in_thread(read)
        except InvalidRequest as error:
            return error
        if first_chunk == 0:
            logger.info("Read an upload: %s", page.info, extra=asdict(page.info))
        if not page.is_last:
            self._park(session_id, reader)
        return page

    async def read_stretch(
        self, session_id: str, upload: FileBytes, audio_track: int | None, first_sample: int, num_samples: int
    ) -> PcmSamples | InvalidRequest:
        """Read `num_samples` of an upload that was found good, or fewer where it ends."""
        parked = self._unpark(session_id, first_sample)

        def read(is_cancelled: Callable[[], bool]) -> tuple[StretchReader, PcmSamples]:
            if isinstance(parked, StretchReader):
                reader = parked
            else:
                reader = StretchReader(upload.data, self._limits, audio_track)
            return reader, reader.next_stretch(first_sample, num_samples, is_cancelled)

        try:
            reader, pcm = await self._in_thread(read)
        except InvalidRequest as error:
            return error
        if len(pcm) == num_samples:
            self._park(session_id, reader)
        return pcm

    async def read_clip(self, upload: FileBytes, max_duration_s: float) -> AudioClip | InvalidRequest:
        """Read a short upload at once."""
        limits = self._limits_of(max_duration_s)
        try:
            return await self._in_thread(partial(read_clip, upload.data, self._model, limits))
        except InvalidRequest as error:
            return error

    async def read_recording(self, upload: FileBytes, max_duration_s: float) -> AudioRecording | InvalidRequest:
        """Read all of an upload at once."""
        try:
            return await self._in_thread(partial(read_recording, upload.data, self._limits_of(max_duration_s)))
        except InvalidRequest as error:
            return error

    async def release(self, session_id: str) -> None:
        """Forget an upload whose reader has left."""
        self._parked.pop(session_id, None)

    def _limits_of(self, max_duration_s: float) -> DecodeLimits:
        return replace(self._limits, max_duration_s=min(max_duration_s, self._limits.max_duration_s))

    async def _in_thread(self, work: Callable[[Callable[[], bool]], ResultT]) -> ResultT:
        """Run `work`, which is told by its argument when nobody waits for it any more."""
        cancelled = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, cancelled.is_set)
        finally:
            cancelled.set()

    def _unpark(self, session_id: str, position: int) -> Reader | None:
        _, reader = self._parked.pop(session_id, (0.0, None))
        return reader if reader is not None and reader.position == position else None

    def _park(self, session_id: str, reader: Reader) -> None:
        self._parked[session_id] = (time.monotonic(), reader)
        self._let_go()

    def _let_go(self) -> None:
        """Of whom nobody has come back for, and of the oldest where there are too many."""
        now = time.monotonic()
        num_bytes = sum(parked.num_bytes for _, parked in self._parked.values())
        while self._parked:
            parked_at, oldest = next(iter(self._parked.values()))
            is_room = len(self._parked) <= MAX_PARKED and num_bytes <= MAX_PARKED_BYTES
            if is_room and now - parked_at < PARKED_FOR_S:
                break
            num_bytes -= oldest.num_bytes
            self._parked.popitem(last=False)
