"""What every request passes on its way out: a count, a log line, and the last border."""

import asyncio
import logging
import time

from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.http.errors import UNEXPECTED, error_response
from deployments.ingress.metrics import IngressMetrics

logger = logging.getLogger("ray.serve")

CLIENT_CLOSED_REQUEST = 499


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
