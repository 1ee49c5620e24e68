"""What the environment says: secrets, and what differs from node to node. It is read here only."""

import os
from collections.abc import Iterable
from pathlib import Path

API_KEYS_VARIABLE = "AURICLE_API_KEYS"
API_KEYS_FILE_VARIABLE = "AURICLE_API_KEYS_FILE"
ALLOWED_MEDIA_HOSTS_VARIABLE = "AURICLE_ALLOWED_MEDIA_HOSTS"
CORS_ORIGINS_VARIABLE = "AURICLE_CORS_ORIGINS"
CLIENT_SECRET_KEY_VARIABLE = "AURICLE_CLIENT_SECRET_KEY"
HAPROXY_VARIABLE = "RAY_SERVE_ENABLE_HA_PROXY"
"""Of Ray Serve's own: it must be set where Ray is started."""

SECRET_VARIABLES = (API_KEYS_VARIABLE, CLIENT_SECRET_KEY_VARIABLE, "HF_TOKEN")
"""The last is the hub's own."""


def listed_api_keys() -> tuple[str, ...]:
    """Keys that clients may send, from `AURICLE_API_KEYS` (comma separated), each once."""
    return tuple(dict.fromkeys(_named(API_KEYS_VARIABLE)))


def api_keys_file() -> Path | None:
    """Where more keys stand, with names and limits, from `AURICLE_API_KEYS_FILE`."""
    name = os.environ.get(API_KEYS_FILE_VARIABLE, "").strip()
    return Path(name) if name else None


def allowed_media_hosts(configured: Iterable[str]) -> frozenset[str]:
    """The configuration's and those of `AURICLE_ALLOWED_MEDIA_HOSTS` (comma separated)."""
    return frozenset({*(host.strip() for host in configured if host.strip()), *_named(ALLOWED_MEDIA_HOSTS_VARIABLE)})


def cors_origins(configured: Iterable[str]) -> frozenset[str]:
    """The configuration's and those of `AURICLE_CORS_ORIGINS` (comma separated)."""
    return frozenset({*configured, *_named(CORS_ORIGINS_VARIABLE)})


def client_secret_key() -> bytes | None:
    """What client secrets are signed with, from `AURICLE_CLIENT_SECRET_KEY`: any long text."""
    return os.environ.get(CLIENT_SECRET_KEY_VARIABLE, "").encode() or None


def haproxy_is_on() -> bool:
    """Whether Ray Serve was started with HAProxy in the place of its own proxy."""
    return os.environ.get(HAPROXY_VARIABLE) == "1"


def _named(variable: str) -> list[str]:
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]
