"""Keys for one purpose and a short time, which a server may hand to a browser: they open realtime sessions.

A value says itself what it is for, and is signed with a key that all ingress replicas have, so none of them remembers
any. Everybody who has one can read what it says.
"""

import base64
import hashlib
import hmac
import json
import time
import zlib
from dataclasses import dataclass
from typing import Any

from deployments.ingress.http.errors import InvalidApiKey
from pipelines.errors import InvalidRequest

PREFIX = "ek_"
SEPARATOR = "."
MAX_VALUE_LENGTH = 4_096
"""It travels in a header."""


@dataclass(frozen=True, slots=True)
class Claims:
    """owner: whose key made it. session: what the session begins with, as on the wire."""

    owner: str
    expires_at: int
    session: dict[str, Any]


class ClientSecrets:
    def __init__(self, signing_key: bytes) -> None:
        self._signing_key = signing_key

    def issue(self, claims: Claims) -> str:
        """
        Raises:
            InvalidRequest: the session says more than a header can carry.
        """
        said = json.dumps([claims.owner, claims.expires_at, claims.session]).encode()
        content = _encoded(zlib.compress(said, 9))
        value = f"{PREFIX}{content}{SEPARATOR}{self._signature(content)}"
        if len(value) > MAX_VALUE_LENGTH:
            raise InvalidRequest("The session is too long: give a shorter prompt, or fewer keywords.", "session")
        return value

    def open(self, value: str) -> Claims:
        """
        Raises:
            InvalidApiKey: it is not one of ours, or has expired.
        """
        content, _, signature = value.removeprefix(PREFIX).partition(SEPARATOR)
        if not hmac.compare_digest(signature.encode(), self._signature(content).encode()):
            raise InvalidApiKey("Incorrect client secret provided.")
        claims = Claims(*json.loads(zlib.decompress(_decoded(content))))
        if claims.expires_at <= time.time():
            raise InvalidApiKey("The client secret has expired.")
        return claims

    def _signature(self, content: str) -> str:
        return _encoded(hmac.new(self._signing_key, content.encode(), hashlib.sha256).digest())


def is_client_secret(value: str) -> bool:
    return value.startswith(PREFIX)


def _encoded(data: bytes) -> str:
    """What may stand in a subprotocol's name."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
