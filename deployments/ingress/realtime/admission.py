"""Who may open a session: keys, client secrets, and how many at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from starlette.websockets import WebSocket

from deployments.ingress.http.errors import ForbiddenOrigin, InvalidApiKey
from deployments.ingress.http.keys import ApiKey, bearer_token, check_key
from deployments.ingress.realtime.client_secrets import Claims, ClientSecrets, is_client_secret
from deployments.ingress.realtime.session import Session
from deployments.ingress.services import Services
from pipelines.errors import ModelUnavailable, Overloaded

PROTOCOL = "realtime"
KEY_PROTOCOL = "openai-insecure-api-key."
RETRY_AFTER_S = 5.0
MAX_OVERDUE_S = 3.0
"""Where somebody waits for longer, nobody more is let in."""


def offered_protocols(websocket: WebSocket) -> list[str]:
    return [name.strip() for name in websocket.headers.get("sec-websocket-protocol", "").split(",")]


def sent_key(websocket: WebSocket) -> str:
    """From the header, or as browsers send it, who cannot set one."""
    named = [name.removeprefix(KEY_PROTOCOL) for name in offered_protocols(websocket) if name.startswith(KEY_PROTOCOL)]
    return bearer_token(websocket.headers) or (named[0] if named else "")


def identify(websocket: WebSocket, services: Services) -> tuple[Claims, ApiKey | None]:
    """What a client secret says, and whose key it is that was sent, or is behind the secret.

    Raises:
        InvalidApiKey
        ForbiddenOrigin: browsers let every page open a socket to any host, and nothing here says that it may.
    """
    sent = sent_key(websocket)
    if is_client_secret(sent):
        claims = ClientSecrets(services.signing_key).open(sent)
        owner = next((key for key in services.api_keys if key.owner == claims.owner), None)
        if services.api_keys and owner is None:
            raise InvalidApiKey("The API key behind the client secret is no longer known.")
        return claims, owner
    if not services.api_keys and not _is_own_page(websocket, services.cors_origins):
        raise ForbiddenOrigin("Pages of this origin may not open sessions here: see cors.allow_origins.")
    return Claims("", 0, {}), check_key(sent, services.api_keys)


def _is_own_page(websocket: WebSocket, allowed: frozenset[str]) -> bool:
    origin = websocket.headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed:
        return True
    return urlsplit(origin).netloc == websocket.headers.get("host")


class OpenSessions:
    """Those of one ingress replica."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions: dict[Session, ApiKey | None] = {}

    def check(self, key: ApiKey | None) -> None:
        """
        Raises:
            Overloaded, ModelUnavailable: one more cannot be served well.
        """
        limits = self._services.limits
        if self._services.is_shutting_down():
            raise ModelUnavailable("The server is shutting down.", RETRY_AFTER_S)
        if len(self._sessions) >= limits.max_sessions:
            raise Overloaded("Too many realtime sessions are open. Try again later.", RETRY_AFTER_S)
        most = limits.max_sessions_per_key if key is None or key.max_sessions is None else key.max_sessions
        if most is not None and Counter(self._sessions.values())[key] >= most:
            self._services.quotas.count_refusal(key, "sessions")
            raise Overloaded(f"At most {most} realtime sessions may be open with one key.", RETRY_AFTER_S)
        if any(session.overdue_s > MAX_OVERDUE_S for session in self._sessions):
            raise Overloaded("The server falls behind in the sessions that are open. Try again later.", RETRY_AFTER_S)

    @contextmanager
    def hold(self, session: Session, key: ApiKey | None) -> Iterator[None]:
        self._sessions[session] = key
        self._services.metrics.sessions.set(len(self._sessions))
        try:
            yield
        finally:
            del self._sessions[session]
            self._services.metrics.sessions.set(len(self._sessions))
