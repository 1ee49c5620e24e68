"""The audio deployment: decode + VAD, pages of chunks on demand."""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray
from ray import serve
from ray.serve.config import RequestRouterConfig

from deployments.audio.reader import UploadReader
from deployments.audio.silero import SileroModel
from pipelines.errors import InvalidRequest
from pipelines.types import AudioPage, DecodeLimits, VadOptions

logger = logging.getLogger("ray.serve")

FileBytes = NDArray[np.uint8]
"""An upload as an array, which replicas on one node read from shared memory."""

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
    request_router_config=RequestRouterConfig(
        request_router_class="ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
    ),
)
class Audio:
    """Every call reads the next page of an upload, so no more of it is decoded than its reader has asked for.

    Between two pages the decoder is parked here. That is only a short cut: a replica that does not know the
    upload, or knows it at another place, reads it again from the beginning and gives the same chunks.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._model = SileroModel()
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="decode")
        self._parked: OrderedDict[str, tuple[float, UploadReader]] = OrderedDict()

    async def read_page(
        self, session_id: str, upload: FileBytes, vad: VadOptions, first_chunk: int
    ) -> AudioPage | InvalidRequest:
        """Read the page that begins with `first_chunk`.

        What is wrong with an upload is returned: Serve would log a raised error with its traceback, and
        bad uploads are no fault of the server.
        """
        cancelled = threading.Event()
        reader = self._unpark(session_id, first_chunk)
        loop = asyncio.get_running_loop()
        try:
            used, page = await loop.run_in_executor(
                self._threads, self._read, reader, upload, vad, first_chunk, cancelled
            )
        except InvalidRequest as error:
            return error
        finally:
            cancelled.set()
        if first_chunk == 0:
            logger.info("Read an upload: %s", page.info, extra=asdict(page.info))
        if not page.is_last:
            self._park(session_id, used)
        return page

    async def release(self, session_id: str) -> None:
        """Forget an upload whose reader has left."""
        self._parked.pop(session_id, None)

    def _read(
        self,
        reader: UploadReader | None,
        upload: FileBytes,
        vad: VadOptions,
        first_chunk: int,
        cancelled: threading.Event,
    ) -> tuple[UploadReader, AudioPage]:
        if reader is None:
            reader = UploadReader(upload.tobytes(), vad, self._model, self._limits, cancelled.is_set)
        return reader, reader.next_page(first_chunk, cancelled.is_set)

    def _unpark(self, session_id: str, first_chunk: int) -> UploadReader | None:
        _, reader = self._parked.pop(session_id, (0.0, None))
        return reader if reader is not None and reader.next_chunk == first_chunk else None

    def _park(self, session_id: str, reader: UploadReader) -> None:
        now = time.monotonic()
        self._parked[session_id] = (now, reader)
        num_bytes = sum(parked.num_bytes for _, parked in self._parked.values())
        while self._parked:
            parked_at, oldest = next(iter(self._parked.values()))
            is_room = len(self._parked) <= MAX_PARKED and num_bytes <= MAX_PARKED_BYTES
            if is_room and now - parked_at < PARKED_FOR_S:
                break
            num_bytes -= oldest.num_bytes
            self._parked.popitem(last=False)
