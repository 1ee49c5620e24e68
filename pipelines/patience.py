"""What has begun waits for its turn: a full queue refuses a request at its first step only."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipelines.errors import Overloaded

ResultT = TypeVar("ResultT")


async def patiently(ask: Callable[[], Awaitable[ResultT]], is_first_step: bool = False) -> ResultT:
    """Ask as often as it takes while queues are full.

    Raises:
        Overloaded: only at a request's first step.
    """
    while True:
        try:
            return await ask()
        except Overloaded as overload:
            if is_first_step:
                raise
            await asyncio.sleep(overload.retry_after_s)
