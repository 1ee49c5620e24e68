"""API keys: who may ask, and how much."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request

from deployments.ingress.http.errors import InvalidApiKey


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; the key itself is not kept.

    name: for people, metrics and messages.
    digest: SHA-256 of the key, in lower-case hexadecimal digits.
    requests_per_hour, audio_minutes_per_hour: of all ingress replicas together; None is no limit.
    max_sessions: realtime sessions that are open at one ingress replica; None is what the configuration says of all.
    """

    name: str
    digest: str
    requests_per_hour: int | None = None
    audio_minutes_per_hour: float | None = None
    max_sessions: int | None = None

    @property
    def owner(self) -> str:
        """What client secrets say of whose they are."""
        return self.digest[:16]


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def unnamed(keys: Iterable[str]) -> tuple[ApiKey, ...]:
    """Keys without limits, which are called by their places: `key-1`, `key-2`, …"""
    return tuple(ApiKey(f"key-{place}", digest_of(key)) for place, key in enumerate(keys, 1))


def bearer_token(headers: Headers) -> str:
    """What the client sends as its key; nothing when it sends none."""
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    return sent.strip() if scheme.lower() == "bearer" else ""


def check_key(sent: str, keys: Sequence[ApiKey]) -> ApiKey | None:
    """Whose key it is; None where nobody needs one.

    Raises:
        InvalidApiKey
    """
    if not keys:
        return None
    digest = digest_of(sent)
    known = [key for key in keys if hmac.compare_digest(digest, key.digest)]
    if not known:
        raise InvalidApiKey("Incorrect API key provided." if sent else "No API key was provided.")
    return known[0]


def require_key(keys: Sequence[ApiKey]) -> Callable[[Request], Awaitable[None]]:
    """A dependency of routes, which notes whose key it is as `request.state.api_key`."""

    async def require(request: Request) -> None:
        request.state.api_key = check_key(bearer_token(request.headers), keys)

    return require
