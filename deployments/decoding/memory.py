"""How much memory a replica may take, and how many rows that is enough for."""

import logging
from dataclasses import dataclass
from pathlib import Path
from resource import getpagesize

import torch

from deployments.compat.glibc import trim_heap
from deployments.engines import GB, EngineArgs
from pipelines.errors import ConfigurationError

logger = logging.getLogger("ray.serve")

WORKING_SHARE = 0.1
"""Of the budget, for what lies between a network's layers while it computes."""


@dataclass(frozen=True, slots=True)
class Budget:
    """num_bytes: what may be taken beside what is loaded."""

    source: str
    num_bytes: int

    def num_rows(self, row_bytes: float, what: str) -> int:
        """How many rows, or tokens, there is memory for.

        Raises:
            ConfigurationError: for not even one.
        """
        num_rows = int(self.num_bytes / row_bytes)
        if num_rows < 1:
            raise ConfigurationError(
                f"max_memory_gb, or its share of a GPU, leaves '{self.source}' {self.num_bytes / GB:.2f} GB beside its "
                f"weights, and {what} takes {row_bytes / GB:.2f} GB."
            )
        return num_rows

    def num_growing_rows(self, row_bytes: float, what: str, at_first: int) -> int:
        """The same where more than `at_first` are allocated anew: while they grow, the smaller ones are still there."""
        num_rows = self.num_rows(row_bytes, what)
        return num_rows if num_rows <= at_first else max(at_first, num_rows // 2)


def budget_of(args: EngineArgs, kept_bytes: int = 0) -> Budget | None:
    """Of an engine that has loaded its weights; None where nothing bounds it. Of a GPU the process gets no more.

    Args:
        kept_bytes: what caches may take besides.
    """
    if args.max_bytes is None:
        return None
    taken = _bounded_gpu_bytes(args) if torch.device(args.device).type == "cuda" else _trimmed_bytes()
    return Budget(args.source, int(args.max_bytes * (1 - WORKING_SHARE)) - taken - kept_bytes)


def _bounded_gpu_bytes(args: EngineArgs) -> int:
    device = torch.device(args.device)
    number = torch.cuda.current_device() if device.index is None else device.index  # torch bounds none without a number
    total = torch.cuda.get_device_properties(number).total_memory
    torch.cuda.set_per_process_memory_fraction(min((args.max_bytes or total) / total, 1.0), number)
    torch.cuda.empty_cache()  # of what loading took, torch keeps blocks that nobody uses
    return torch.cuda.memory_reserved(number)


def _trimmed_bytes() -> int:
    trim_heap()
    return resident_bytes()


def resident_bytes() -> int:
    """Of this process's memory, what is in the machine's; where Linux's /proc is missing, 0."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * getpagesize() if statm.exists() else 0
