"""The diarization deployment: one pipeline and the thread that runs it."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TypeVar

from ray import serve

from deployments.backlog import Backlog
from deployments.diarization.engine import ENGINES, Cancelled, DiarizationEngine, DiarizerArgs
from deployments.engines import load_engine
from deployments.model_configs import DiarizationConfig
from deployments.resources import assigned_device, assigned_threads
from deployments.unloading import IDLE_S
from models.sources import resolve
from pipelines.audio_types import AudioStretch, Waveform
from pipelines.errors import AudioServerError, ModelUnavailable
from pipelines.speaker_types import Diarization, Embedding
from pipelines.transcript_types import Work

logger = logging.getLogger("ray.serve")

ResultT = TypeVar("ResultT")

MAX_FAILURES = 5


@serve.deployment(
    max_ongoing_requests=8,
    max_queued_requests=64,
    health_check_period_s=2,
    graceful_shutdown_timeout_s=60,
    ray_actor_options={"num_cpus": 1},
)
class DiarizationDeployment:
    """Windows wait in line for the one thread, so a replica needs memory for one of them, and others come in between
    the stretches of a long recording. More at once takes more replicas, which may share a GPU.
    """

    measures_audio = True

    def __init__(self, config: DiarizationConfig) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="diarizer")
        started_at = time.monotonic()
        args = DiarizerArgs(
            resolve(config.source),
            assigned_device(config.device),
            config.batch_size,
            assigned_threads(),
            config.hop_s,
        )
        self._engine: DiarizationEngine = load_engine(config.engine, ENGINES)(args)
        self._num_failures = 0
        self._source = config.source
        self._backlog = Backlog()
        logger.info("Loaded %s in %.1f s on %s", config.source, time.monotonic() - started_at, args.device)

    async def diarize(self, stretch: AudioStretch) -> tuple[Diarization, Work] | AudioServerError:
        """That the model failed is returned: what is raised, Serve would log a second time."""
        audio_s = stretch.end_s - stretch.offset_s
        try:
            with self._backlog.holding(audio_s):
                diarization, work = await self._in_line(lambda is_gone: self._engine.diarize(stretch, is_gone))
        except AudioServerError as error:
            return error
        numbers = {"stretch": stretch.index, "audio_s": round(audio_s, 3), **asdict(work)}
        logger.info("Diarized a stretch: %s", numbers, extra=numbers)
        return diarization, work

    async def embed(self, speech: Waveform) -> tuple[Embedding, Work] | AudioServerError:
        try:
            with self._backlog.holding(speech.duration_s):
                return await self._in_line(lambda _: self._engine.embed(speech))
        except AudioServerError as error:
            return error

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What `AudioBacklogPolicy` and `UnloadWhenIdle` go by; Serve asks."""
        return {IDLE_S: self._backlog.idle_s, **self._backlog.stats()}

    def check_health(self) -> None:
        if self._num_failures >= MAX_FAILURES:
            raise RuntimeError("The engine fails on every stretch: this replica must be replaced.")

    async def _in_line(self, work: Callable[[Callable[[], bool]], ResultT]) -> tuple[ResultT, Work]:
        cancelled = threading.Event()
        waiting_since = time.monotonic()

        def run() -> tuple[ResultT, Work]:
            started_at = time.monotonic()
            if cancelled.is_set():
                raise Cancelled
            result = work(cancelled.is_set)
            return result, Work(started_at - waiting_since, time.monotonic() - started_at, 1.0)

        try:
            outcome = await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except (Cancelled, asyncio.CancelledError):
            raise
        except Exception:
            # Whatever an engine raises, the next stretch starts afresh.
            logger.exception("The diarizer failed on a request")
            self._num_failures += 1
            raise ModelUnavailable("The diarizer failed on this request.") from None
        finally:
            cancelled.set()
        self._num_failures = 0
        return outcome

    def __del__(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        if hasattr(self, "_backlog"):  # else the engine could not be loaded
            logger.info("Unloaded %s, which had been idle for %.0f s", self._source, self._backlog.idle_s)
