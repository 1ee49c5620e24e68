"""What is left of a limit, told on every answer as OpenAI tells it."""

from dataclasses import dataclass
from math import ceil

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """reset_s: until nothing is in use any more."""

    limit: int
    remaining: int
    reset_s: float


class RateHeaders:
    """Adds what the routes have noted as `request.state.rate_limit`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        state = scope.setdefault("state", {})

        async def told(message: Message) -> None:
            rate_limit = state.get("rate_limit")
            if message["type"] == "http.response.start" and rate_limit is not None:
                values = (str(rate_limit.limit), str(rate_limit.remaining), duration(rate_limit.reset_s))
                MutableHeaders(scope=message).update(dict(zip(HEADERS, values, strict=True)))
            await send(message)

        await self._app(scope, receive, told)


def duration(seconds: float) -> str:
    """Such as `1h0m12s`, as Go writes it and OpenAI does."""
    minutes, rest = divmod(ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
