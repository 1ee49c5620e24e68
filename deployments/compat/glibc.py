"""The one thing that we ask of the C library by name."""

import ctypes
import gc
from contextlib import suppress


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
