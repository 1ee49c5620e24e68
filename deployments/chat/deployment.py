"""The deployment of one language model."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import asdict

from ray import serve

from deployments.chat.engine import ENGINES, ChatEngine, ChatEngineArgs
from deployments.decoding.deployment import EngineDeployment, UserConfig
from deployments.engines import load_engine
from deployments.model_configs import ChatModelConfig
from deployments.resources import assigned_bytes, assigned_device, assigned_threads
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
class ChatDeployment(EngineDeployment[ChatModelInfo, ChatDelta]):
    def __init__(self, model: ChatModelConfig) -> None:
        started_at_s = time.monotonic()
        device = assigned_device(model.device)
        args = ChatEngineArgs(
            source=resolve(model.source),
            device=device,
            dtype=model.dtype,
            num_threads=model.threads or assigned_threads(),
            max_bytes=assigned_bytes(model.max_memory_gb, device),
            max_context_tokens=model.max_context_tokens,
        )
        self._engine: ChatEngine = load_engine(model.engine, ENGINES)(args)
        if model.hears is not None and self._engine.info.hears_audio:
            raise ConfigurationError(f"'{model.source}' hears by itself: leave out 'hears: {model.hears}'.")
        # one, because tokenizers are not for several at once
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="prompts")
        self._start(self._engine, model.source, started_at_s, args.device)

    async def generate(
        self, messages: Sequence[Message], options: SamplingOptions, in_pieces: bool, written: Sequence[int] = ()
    ) -> AsyncGenerator[tuple[ChatDelta, Work] | AudioServerError, None]:
        """Yield the answer as it is written, or else all of it at its end; only what comes behind the tokens that
        another replica had `written`."""
        try:
            prompt = await asyncio.get_running_loop().run_in_executor(self._preparing, self._engine.prepare, messages)
            async with aclosing(self._loop.stream(prompt, options, written)) as answers:
                unsent: list[ChatDelta] = []
                async for deltas, work in answers:
                    unsent += deltas
                    if in_pieces or unsent[-1].finish_reason:
                        yield join_deltas(unsent), work
                        unsent = []
        except AudioServerError as error:
            yield error
        else:
            usage = deltas[-1].usage
            numbers = {"finish_reason": deltas[-1].finish_reason, **asdict(usage), **asdict(work)}
            logger.info("Wrote an answer: %s", numbers, extra=numbers)

    def __del__(self) -> None:
        super().__del__()
        if hasattr(self, "_preparing"):
            self._preparing.shutdown(wait=False, cancel_futures=True)
