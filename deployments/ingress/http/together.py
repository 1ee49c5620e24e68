"""Several things that one request waits for at once: the first that fails ends the others."""

import asyncio
from collections.abc import Awaitable
from typing import Any


async def together(*awaited: Awaitable[Any]) -> list[Any]:
    """All results, in order. Nothing of it runs any more when this returns or raises, also when it is cancelled."""
    tasks = [asyncio.ensure_future(one) for one in awaited]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
