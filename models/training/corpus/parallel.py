"""Work on several processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

FEW_ITEMS = 16  # not worth the start of processes


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[Result]:
    """The results in the items' order; in this process if one is enough, or the items are few.

    Raises:
        concurrent.futures.process.BrokenProcessPool: a process died.
    """
    if processes == 1 or len(items) < FEW_ITEMS:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as executor:
        yield from executor.map(work, items)
