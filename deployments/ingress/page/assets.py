"""The files of the page, read once: they are few and small, and no request's path ever reaches the disk."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    media_type: str
    etag: str


def load_assets() -> dict[str, Asset]:
    """By name."""
    directory = files("deployments.ingress.page") / "static"
    return {file.name: new_asset(file.name, file.read_bytes()) for file in directory.iterdir()}


def new_asset(name: str, content: bytes) -> Asset:
    extension = name[name.rindex(".") :]
    return Asset(content, MEDIA_TYPES[extension], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
