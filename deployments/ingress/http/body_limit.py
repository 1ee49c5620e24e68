"""Bounds on the bytes of one request and of all of them together, and when the last byte of one was here."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.http.errors import RequestTooLarge, error_response
from pipelines.errors import Overloaded

RETRY_AFTER_S = 2.0
CLAIM_BYTES = 1 << 20
"""What a body may claim beyond what it has brought: who only claims keeps nobody out."""

_hold: ContextVar[Callable[[int], None]] = ContextVar("hold", default=lambda num_bytes: None)


def hold(num_bytes: int) -> None:
    """Count so many bytes more for the request that is being answered, until it is: what was fetched for it.

    Raises:
        Overloaded
    """
    _hold.get()(num_bytes)


class ByteBudget:
    """For what one process holds of all requests at once."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0

    def take(self, num_bytes: int, num_held: int) -> None:
        """`num_bytes` more for a request that has `num_held`; one that is alone gets what it needs.

        Raises:
            Overloaded
        """
        others = self._num_bytes - num_held
        if others and self._num_bytes + num_bytes > self._max_bytes:
            raise Overloaded("The server is busy with other uploads. Try again shortly.", RETRY_AFTER_S)
        self._num_bytes += num_bytes

    def give_back(self, num_bytes: int) -> None:
        self._num_bytes -= num_bytes


class BodyLimit:
    """Refuses a body by its Content-Length, and stops reading one that turns out larger.

    What a body has brought, and the next piece that it claims, counts until its request is answered, from when it is
    first read: who has no key or no route takes nothing. What is fetched for it counts as well (`hold`). Notes as
    `request.state.arrived_at_s` when the last byte was here, on the event loop's clock.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_bytes_in_flight: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._budget = ByteBudget(max_bytes_in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        declared = int(length) if length.isdigit() else 0
        if declared > self._max_bytes:
            await error_response(self._error())(scope, receive, send)
            return
        received = claimed = held = 0

        def take(num_bytes: int) -> None:
            nonlocal held
            self._budget.take(num_bytes, held)
            held += num_bytes

        def claim(num_bytes: int) -> None:
            nonlocal claimed
            if num_bytes > claimed:
                take(num_bytes - claimed)
                claimed = num_bytes

        async def counted() -> Message:
            nonlocal received
            claim(min(declared, received + CLAIM_BYTES))
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._error()
            claim(received)
            if not message.get("more_body", False):
                scope.setdefault("state", {})["arrived_at_s"] = asyncio.get_running_loop().time()
            return message

        token = _hold.set(take)  # in this request's task, and in those that come of it
        try:
            await self._app(scope, counted, send)
        finally:
            _hold.reset(token)
            self._budget.give_back(held)

    def _error(self) -> RequestTooLarge:
        return RequestTooLarge(f"The request is larger than the {self._max_bytes} bytes that this server accepts.")
