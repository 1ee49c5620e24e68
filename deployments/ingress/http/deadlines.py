"""How long a request may take: nobody holds its place for ever."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from pipelines.errors import DeadlineExceeded

EventT = TypeVar("EventT")


@asynccontextmanager
async def deadline(max_s: float, what: str = "") -> AsyncGenerator[None, None]:
    """
    Raises:
        DeadlineExceeded: what is done inside took longer than `max_s`.
    """
    try:
        async with asyncio.timeout(max_s):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"The request took longer than {max_s:.0f} s {what}".rstrip() + ".") from None


async def until_deadline(events: AsyncGenerator[EventT, None], max_s: float) -> AsyncGenerator[EventT, None]:
    """Pass events on for at most `max_s` in all.

    Raises:
        DeadlineExceeded
    """
    ends_at = asyncio.get_running_loop().time() + max_s
    async with aclosing(events):
        while True:
            try:
                async with asyncio.timeout_at(ends_at):
                    event = await anext(events)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise DeadlineExceeded(f"The request took longer than {max_s:.0f} s.") from None
            yield event
