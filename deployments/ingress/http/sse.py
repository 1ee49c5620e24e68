"""Server-sent events that three different clients can read: only `data:` lines, and blank ones to keep alive."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

KEEP_ALIVE_S = 1.5
KEEP_ALIVE = b"\n"
DONE = b"data: [DONE]\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """Closes its generator with the connection: work must not go on until the garbage collector notices."""

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        self._lines = with_keep_alive(lines)
        self._callbacks: list[Callable[[], object]] = []
        super().__init__(self._lines, media_type="text/event-stream", headers=HEADERS)

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the connection has ended, however it did."""
        self._callbacks.append(callback)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._lines):
                await super().__call__(scope, receive, send)
        finally:
            for callback in self._callbacks:
                callback()


def to_line(data: dict[str, Any]) -> bytes:
    """ASCII only: some clients also break lines at U+2028 and its kin (contract 2.4)."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode("ascii")


async def with_keep_alive(lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Send a blank line whenever nothing was ready for `KEEP_ALIVE_S`; comment lines would crash a raw reader."""
    async with aclosing(lines):
        while True:
            pending = asyncio.ensure_future(anext(lines, None))
            try:
                while not (await asyncio.wait({pending}, timeout=KEEP_ALIVE_S))[0]:
                    yield KEEP_ALIVE
                line = pending.result()
            finally:
                await cancel_and_wait(pending)
            if line is None:
                return
            yield line


async def cancel_and_wait(task: "asyncio.Future[Any]") -> None:
    """An async generator must not be closed while a task still runs it."""
    if not task.done():
        task.cancel()
        # A server that notices a lost client cancels again and again: this wait must outlive that.
        with anyio.CancelScope(shield=True):
            await asyncio.wait({task})
