"""API keys: who may ask."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.requests import Request

from deployments.ingress.http.errors import InvalidApiKey


def bearer_token(headers: Headers) -> str:
    """What the client sends as its key; nothing when it sends none."""
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    return sent.strip() if scheme.lower() == "bearer" else ""


def check_key(sent: str, keys: frozenset[str]) -> str:
    """A name for whose key it is, which does not tell it.

    Raises:
        InvalidApiKey
    """
    if not keys:
        return ""
    known = [hmac.compare_digest(sent.encode(), key.encode()) for key in keys]
    if not any(known):
        raise InvalidApiKey("Incorrect API key provided." if sent else "No API key was provided.")
    return owner_of(sent)


def owner_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def require_key(keys: frozenset[str]) -> Callable[[Request], Awaitable[None]]:
    """A dependency of routes."""

    async def require(request: Request) -> None:
        check_key(bearer_token(request.headers), keys)

    return require
