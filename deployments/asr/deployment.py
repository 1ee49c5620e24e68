"""The ASR deployment: one engine, its batching loop, and nothing else."""

import logging
import time
from dataclasses import asdict
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from deployments.asr.engine import EngineArgs, load_engine
from deployments.batching import EngineLoop
from pipelines.errors import AudioServerError
from pipelines.types import AudioChunk, ChunkTranscript, DecodingOptions, RecognizerInfo, Work

logger = logging.getLogger("ray.serve")


class UserConfig(BaseModel):
    """What may change without a restart: `user_config` of the deployment."""

    model_config = ConfigDict(extra="forbid")

    max_batch_size: int = Field(default=8, ge=1)


@serve.deployment(
    max_ongoing_requests=32,
    max_queued_requests=256,
    health_check_period_s=2,
    graceful_shutdown_timeout_s=60,
    ray_actor_options={"num_cpus": 1},
    user_config=UserConfig().model_dump(),
)
class Asr:
    def __init__(self, engine: str, source: str, device: str, dtype: str) -> None:
        started_at = time.monotonic()
        args = EngineArgs(source, assigned_device(device), dtype, num_threads=assigned_threads())
        self._engine = load_engine(engine)(args)
        self._loop: EngineLoop[ChunkTranscript] = EngineLoop(self._engine, UserConfig().max_batch_size)
        logger.info("Loaded %s in %.1f s on %d threads", source, time.monotonic() - started_at, args.num_threads)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        self._loop.max_batch_size = UserConfig.model_validate(user_config).max_batch_size

    async def transcribe(
        self, chunk: AudioChunk, options: DecodingOptions
    ) -> tuple[ChunkTranscript, Work] | AudioServerError:
        """What this model refuses, and that it failed, is returned: Serve would log a traceback of it."""
        try:
            transcript, work = await self._loop.run(chunk, options)
        except AudioServerError as error:
            return error
        numbers = {"chunk": chunk.index, "audio_s": round(chunk.waveform.duration_s, 3), **asdict(work)}
        logger.info("Transcribed a chunk: %s", numbers, extra=numbers)
        return transcript, work

    async def info(self) -> RecognizerInfo:
        return self._engine.info

    def check_health(self) -> None:
        if not self._loop.is_healthy:
            raise RuntimeError("The engine fails at every step: this replica must be replaced.")

    def __del__(self) -> None:
        self._loop.stop()


def assigned_device(device: str) -> str:
    """A replica that was given no GPU may still see one: Ray does not hide what it did not assign."""
    if device != "auto":
        return device
    return "cuda" if ray.get_runtime_context().get_accelerator_ids().get("GPU") else "cpu"


def assigned_threads() -> int:
    """CPU threads that Ray gave this replica; Ray itself exports OMP_NUM_THREADS=1 for every fraction."""
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1.0)
    return max(int(cpus), 1)
