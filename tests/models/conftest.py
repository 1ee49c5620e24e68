"""A small catalogue, a package index that is a folder, and a hub on this machine."""

import hashlib
import os
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import ROOT

REVISION = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = """
import logging, sys
from pathlib import Path
from models.catalogue import load_catalogue
from models.fetch import fetch
from pipelines.errors import ConfigurationError
logging.basicConfig(level=logging.INFO, format="%(message)s")
try:
    print(fetch(load_catalogue(Path(sys.argv[1]))["small"]))
except ConfigurationError as error:
    sys.exit(error.message)
"""

WEIGHTS = os.urandom(300_000)
CONFIG = b"{}\n"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(directory: Path, name: str, files: dict[str, bytes]) -> Path:
    """The least that pip takes for a wheel, never installed."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for inner, data in files.items():
            wheel.writestr(inner, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@dataclass
class Bench:
    """What one test fetches from, and where to."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def index(self) -> Path:
        return self.root / "index"

    @property
    def model(self) -> Path:
        return self.root / "store" / "small"

    def command(self) -> list[str]:
        return [sys.executable, "-c", PROGRAM, str(self.root / "catalogue.toml")]

    def start(self, limit: Callable[[], None] | None = None, **environment: str) -> subprocess.Popen[str]:
        """limit: called in the new process before it begins."""
        wanted = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "HF_"))},
            "AURICLE_MODELS": str(self.root / "store"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.index),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_XET": "1",
            **self.environment,
            **environment,
        }
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.command(), cwd=ROOT, env=wanted, text=True, stdout=pipe, stderr=pipe, preexec_fn=limit
        )

    def fetch(self, limit: Callable[[], None] | None = None, **environment: str) -> tuple[int, str]:
        """Its status, and what it said on stderr."""
        done = self.start(limit, **environment)
        _, said = done.communicate(timeout=120)
        return done.returncode, said

    def files(self) -> dict[str, bytes]:
        found = {path.relative_to(self.model).as_posix(): path for path in self.model.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in found.items()}


WHOLE = {"weights/model.bin": WEIGHTS, "config.json": CONFIG}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """The weights in two wheels, which are there; the hub is off."""
    first = make_wheel(tmp_path / "index", "small_one", {"one/part1": WEIGHTS[:200_000], "one/config.json": CONFIG})
    second = make_wheel(tmp_path / "index", "small_two", {"two/part2": WEIGHTS[200_000:]})
    (tmp_path / "catalogue.toml").write_text(
        f"""
[wheels.small-one]
version = "1.0"
bytes = {first.stat().st_size}
sha256 = "{sha256(first.read_bytes())}"
[wheels.small-two]
version = "1.0"
bytes = {second.stat().st_size}
sha256 = "{sha256(second.read_bytes())}"
[models.small]
what = "a model"
whose = "nobody's"
licence = "MIT"
[[models.small.files]]
name = "weights/model.bin"
bytes = {len(WEIGHTS)}
sha256 = "{sha256(WEIGHTS)}"
wheel = [["small-one", "one/part1"], ["small-two", "two/part2"]]
hub = ["someone/small", "{REVISION}", "model.bin"]
[[models.small.files]]
name = "config.json"
bytes = {len(CONFIG)}
sha256 = "{sha256(CONFIG)}"
wheel = [["small-one", "one/config.json"]]
hub = ["someone/small", "{REVISION}", "config.json"]
"""
    )
    return Bench(tmp_path)


class Hub(BaseHTTPRequestHandler):
    """What the hub's own client asks for one file of a repository.

    files: what it has, by name. sent: what arrives instead of a file's bytes. is_cut: half of them arrive, no more.
    """

    files: dict[str, bytes]
    sent: dict[str, bytes]
    is_cut: bool

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        body = self._answer()
        self.wfile.write(body[: len(body) // 2] if self.is_cut else body)
        if self.is_cut:
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()  # a reset, and no end

    def _answer(self) -> bytes:
        name = self.path.rpartition("/")[2]
        data = self.files.get(name)
        self.send_response(404 if data is None else 200)
        if data is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{sha256(data)}"')
        body = (data or b"") if self.command == "HEAD" else self.sent.get(name, data or b"")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    """Has what `bench` has in wheels."""
    files = {"model.bin": WEIGHTS, "config.json": CONFIG}
    handler = type("SmallHub", (Hub,), {"files": files, "sent": {}, "is_cut": False})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
