"""An answer in pieces: when its 200 goes out, and what is said when something goes wrong after it."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, TypeVar

from deployments.ingress.http import sse
from deployments.ingress.http.errors import UNEXPECTED, envelope
from pipelines.errors import AudioServerError

logger = logging.getLogger("ray.serve")

EventT = TypeVar("EventT")

STATUS_WAIT_S = 2.0
"""How long after a request's last byte the status line waits for the first event, so that what is refused until then
gets its status. Clients give up after 5 s of silence, and must have it after 3 (GEN-11): the rest is for the way there
and back on a busy machine."""


async def open_stream(
    events: AsyncGenerator[EventT, None], render: Callable[[EventT], Iterable[dict[str, Any]]], arrived_at_s: float
) -> sse.EventStream:
    """Answer 200 unless the work is refused soon. All that may take long belongs into `events`.

    Args:
        render: an event as the JSON objects of its lines.
        arrived_at_s: when the last byte of the request was here, on the event loop's clock.
    """
    first = asyncio.ensure_future(anext(events, None))
    try:
        wait_s = arrived_at_s + STATUS_WAIT_S - asyncio.get_running_loop().time()
        await asyncio.wait({first}, timeout=max(wait_s, 0.0))
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
