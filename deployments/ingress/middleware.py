"""What every request passes on its way in and out: a bound on its bytes, a count, a log line, and the last border."""

import asyncio
import logging
import time

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.errors import UNEXPECTED, RequestTooLarge, error_response
from deployments.ingress.metrics import IngressMetrics

logger = logging.getLogger("ray.serve")

CLIENT_CLOSED_REQUEST = 499


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


class Observation:
    """Counts and logs every answer, and turns what nobody expected into a 500 without its details."""

    def __init__(self, app: ASGIApp, metrics: IngressMetrics, endpoints: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at = time.monotonic()
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except asyncio.CancelledError:
            status = CLIENT_CLOSED_REQUEST
            raise
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        except Exception:
            logger.exception("Unexpected error")
            if not status:
                await error_response(UNEXPECTED)(scope, receive, observed)
        finally:
            self._record(scope, status, time.monotonic() - started_at)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        if isinstance(route, APIRoute):
            endpoint = route.path
        else:  # refused before it was routed
            endpoint = scope["path"] if scope["path"] in self._endpoints else "unknown"
        self._metrics.requests.labels(endpoint, str(status)).inc()
        self._metrics.request_seconds.labels(endpoint).observe(seconds)
        if endpoint.startswith("/v1/"):
            # Serve adds the request id, here and in every deployment that works on the request.
            numbers = {"endpoint": endpoint, "status": status, "seconds": round(seconds, 3)}
            logger.info("%s %s %d in %.3f s", scope["method"], endpoint, status, seconds, extra=numbers)
