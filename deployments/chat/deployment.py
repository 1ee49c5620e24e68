"""The chat deployment: one engine, its batching loop, and nothing else."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from ray import serve

from deployments.chat.engine import ENGINES, ChatEngine, ChatEngineArgs
from deployments.decoding.loop import EngineLoop, UserConfig
from deployments.engines import load_engine
from deployments.resources import assigned_device, assigned_threads
from models.sources import resolve
from pipelines.chat_types import ChatDelta, ChatModelInfo, Message, SamplingOptions, join_deltas
from pipelines.errors import AudioServerError, ConfigurationError
from pipelines.transcript_types import Work

logger = logging.getLogger("ray.serve")


@serve.deployment(
    max_ongoing_requests=32,
    max_queued_requests=128,
    health_check_period_s=2,
    graceful_shutdown_timeout_s=60,
    ray_actor_options={"num_cpus": 1},
    user_config=UserConfig().model_dump(),
)
class Chat:
    def __init__(
        self,
        engine: str,
        source: str,
        device: str,
        dtype: str,
        max_context_tokens: int | None,
        hears: str | None = None,
    ) -> None:
        started_at = time.monotonic()
        args = ChatEngineArgs(resolve(source), assigned_device(device), dtype, assigned_threads(), max_context_tokens)
        self._engine: ChatEngine = load_engine(engine, ENGINES)(args)
        if hears is not None and self._engine.info.hears_audio:
            raise ConfigurationError(f"'{source}' hears by itself: leave out 'hears: {hears}'.")
        self._loop: EngineLoop[ChatDelta] = EngineLoop(self._engine, UserConfig().max_batch_size)
        # one, because tokenizers are not for several at once
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="prompts")
        logger.info("Loaded %s in %.1f s on %s", source, time.monotonic() - started_at, args.device)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        self._loop.max_batch_size = UserConfig.model_validate(user_config).max_batch_size

    async def generate(
        self, messages: Sequence[Message], options: SamplingOptions, in_pieces: bool
    ) -> AsyncGenerator[tuple[ChatDelta, Work] | AudioServerError, None]:
        """Yield the answer as it is written, or else all of it at its end.

        What this model refuses, and that it failed, is yielded: Serve would log a traceback of what is raised.
        """
        try:
            prompt = await asyncio.get_running_loop().run_in_executor(self._preparing, self._engine.prepare, messages)
            async with aclosing(self._loop.stream(prompt, options)) as answers:
                written: list[ChatDelta] = []
                async for deltas, work in answers:
                    written += deltas
                    if in_pieces or written[-1].finish_reason:
                        yield join_deltas(written), work
                        written = []
        except AudioServerError as error:
            yield error
        else:
            usage = deltas[-1].usage
            numbers = {"finish_reason": deltas[-1].finish_reason, **asdict(usage), **asdict(work)}
            logger.info("Wrote an answer: %s", numbers, extra=numbers)

    async def info(self) -> ChatModelInfo:
        return self._engine.info

    def check_health(self) -> None:
        if not self._loop.is_healthy:
            raise RuntimeError("The engine fails at every step: this replica must be replaced.")

    def __del__(self) -> None:
        if hasattr(self, "_loop"):  # else the engine could not be loaded
            self._loop.stop()
        if hasattr(self, "_preparing"):
            self._preparing.shutdown(wait=False, cancel_futures=True)
