"""A bound on a request's bytes, and when the last of them was here."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.http.errors import RequestTooLarge, error_response


class BodyLimit:
    """Refuses a body by its Content-Length, and stops reading one that turns out larger.

    Notes as `request.state.arrived_at_s` when the last byte was here, on the event loop's clock.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await error_response(self._error())(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._error()
            if not message.get("more_body", False):
                scope.setdefault("state", {})["arrived_at_s"] = asyncio.get_running_loop().time()
            return message

        await self._app(scope, counted, send)

    def _error(self) -> RequestTooLarge:
        return RequestTooLarge(f"The request is larger than the {self._max_bytes} bytes that this server accepts.")
