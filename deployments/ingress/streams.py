"""An answer in pieces: when its 200 goes out, and what is said when something goes wrong after it."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, TypeVar

from deployments.ingress import sse
from deployments.ingress.errors import UNEXPECTED, envelope
from pipelines.errors import AudioServerError

logger = logging.getLogger("ray.serve")

EventT = TypeVar("EventT")

FIRST_EVENT_WAIT_S = 10.0
"""How long the status line waits for the first event, so that what is refused gets its status on a busy machine, too:
clients have nothing to show before it, and what stands between breaks off silent connections after 30 s and more."""


async def open_stream(
    events: AsyncGenerator[EventT, None], render: Callable[[EventT], Iterable[dict[str, Any]]]
) -> sse.EventStream:
    """Answer 200 unless the work is refused at once.

    Args:
        render: an event as the JSON objects of its lines.
    """
    first = asyncio.ensure_future(anext(events, None))
    try:
        await asyncio.wait({first}, timeout=FIRST_EVENT_WAIT_S)
        if first.done():
            first.result()
    except BaseException:
        await sse.cancel_and_wait(first)
        raise
    response = sse.EventStream(_lines(first, events, render))
    response.on_close(first.cancel)  # also when the client left before the first line
    return response


async def _lines(
    first: "asyncio.Future[EventT | None]",
    events: AsyncGenerator[EventT, None],
    render: Callable[[EventT], Iterable[dict[str, Any]]],
) -> AsyncGenerator[bytes, None]:
    """After the 200, errors travel as an event (TRS-05, CHT-33)."""
    try:
        async with aclosing(events):
            event = await first
            while event is not None:
                for wire in render(event):
                    yield sse.to_line(wire)
                event = await anext(events, None)
    except AudioServerError as error:
        yield sse.to_line(envelope(error))
    except Exception:
        # The last border of a stream: the middleware can no longer change the status.
        logger.exception("Unexpected error in a stream")
        yield sse.to_line(envelope(UNEXPECTED))
    finally:
        await sse.cancel_and_wait(first)
    yield sse.DONE
