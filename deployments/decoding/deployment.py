"""What the deployments of Whisper and of chat have in common: one engine, the loop that drives it, and their health."""

import logging
import time
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from deployments.compat.glibc import trim_heap
from deployments.decoding.loop import Engine, EngineLoop
from deployments.engines import GB
from deployments.unloading import IDLE_S

logger = logging.getLogger("ray.serve")

InfoT_co = TypeVar("InfoT_co", covariant=True)
InfoT = TypeVar("InfoT")
ResultT = TypeVar("ResultT")


class UserConfig(BaseModel):
    """What may change without a restart: `user_config` of a deployment that batches."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    max_batch_size: int = Field(default=8, ge=1)
    """Rows that are decoded at once."""
    max_step_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    """A replica whose model works on one step for longer is replaced."""


class InformedEngine(Engine, Protocol[InfoT_co]):
    @property
    def info(self) -> InfoT_co: ...


class EngineDeployment(Generic[InfoT, ResultT]):
    """A replica with one engine. What its model refuses, and that it failed, subclasses return: of what is raised,
    Serve would log a traceback."""

    def _start(
        self,
        engine: InformedEngine[InfoT],
        source: str,
        started_at_s: float,
        device: str,
        is_serial: bool = False,
    ) -> None:
        trim_heap()  # of what loading took, glibc keeps hundreds of megabytes
        self._info = engine.info
        self._source = source
        self._max_rows: int | None = getattr(engine, "max_rows", None)
        self._row_bytes: int | None = getattr(engine, "row_bytes", None)
        self._loop: EngineLoop[ResultT] = EngineLoop(engine, **UserConfig().model_dump(), is_serial=is_serial)
        logger.info("Loaded %s in %.1f s on %s", source, time.monotonic() - started_at_s, device)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        config = UserConfig.model_validate(user_config)
        num_rows = min(config.max_batch_size, self._max_rows or config.max_batch_size)
        self._loop.max_batch_size, self._loop.max_step_s = num_rows, config.max_step_s
        if num_rows < config.max_batch_size:
            logger.warning("There is memory for %d rows of %d: max_memory_gb", num_rows, config.max_batch_size)
        if self._row_bytes:
            logger.info("%d slots of %s: %.1f GB", num_rows, self._source, num_rows * self._row_bytes / GB)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        return {IDLE_S: self._idle_s}

    async def info(self) -> InfoT:
        return self._info

    def check_health(self) -> None:
        if not self._loop.is_healthy:
            raise RuntimeError("The engine fails at every step, or hangs in one: this replica must be replaced.")

    @property
    def _idle_s(self) -> float:
        return self._loop.idle_s

    def __del__(self) -> None:
        if hasattr(self, "_loop"):  # else the engine could not be loaded
            self._loop.stop()
            logger.info("Unloaded %s, which had been idle for %.0f s", self._source, self._idle_s)
