"""The one thing that we ask of the C library by name."""

import asyncio
import ctypes
import gc
import time
from contextlib import suppress

TRIM_EVERY_S = 60.0


def trim_heap(collect: bool = True) -> None:
    """Give freed memory back to the system.

    After a checkpoint was loaded and its weights were converted, glibc keeps what they took for the process, which will
    never need as much again. Other C libraries have no `malloc_trim`; then nothing happens.

    Args:
        collect: Python's cycles first, which takes a quarter of a second where torch is loaded.
    """
    if collect:
        gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class HeapKeeper:
    """For a replica of many threads and short calls: each thread's part of the heap keeps what its largest call took,
    and after an hour of mixed traffic none of them is small any more."""

    def __init__(self, every_s: float = TRIM_EVERY_S) -> None:
        self._every_s = every_s
        self._trimmed_at = time.monotonic()

    async def keep(self) -> None:
        """Give freed memory back, now and then: call it as often as you like."""
        if time.monotonic() - self._trimmed_at < self._every_s:
            return
        self._trimmed_at = time.monotonic()
        await asyncio.to_thread(trim_heap, collect=False)
