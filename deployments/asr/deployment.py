"""The ASR deployment: one engine, its batching loop, and nothing else."""

import logging
import time
from dataclasses import asdict
from typing import Any

from ray import serve

from deployments.asr.engine import ENGINES, AsrEngine
from deployments.decoding.loop import EngineLoop, UserConfig
from deployments.engines import EngineArgs, load_engine
from deployments.resources import assigned_device, assigned_threads
from models.sources import resolve
from pipelines.audio_types import AudioChunk
from pipelines.errors import AudioServerError
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo, Work

logger = logging.getLogger("ray.serve")


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
        args = EngineArgs(resolve(source), assigned_device(device), dtype, num_threads=assigned_threads())
        self._engine: AsrEngine = load_engine(engine, ENGINES)(args)
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
        if hasattr(self, "_loop"):  # else the engine could not be loaded
            self._loop.stop()
