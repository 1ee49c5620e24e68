"""The real server, started once, and real speech."""

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psutil
import pytest
import yaml
from openai import OpenAI

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
START_TIMEOUT_S = 480
STOP_TIMEOUT_S = 60
PATIENCE = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
"""Serve gives up a start whose proxy is not ready within three times 5 s, as it may be on a busy machine."""

LONG = ("real", "scripted_server", "napping", "tests/serve/", "tests/test_command.py")
"""Beginnings of the groups with which the processes begin, for they take longest: each has a Ray cluster."""

os.environ.update(HF_HUB_OFFLINE="1", RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of one process that wait for another's core spin meanwhile


@dataclass(frozen=True)
class Clip:
    """A recording and what is said in it."""

    path: Path
    language: str
    text: str

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True)
class Server:
    url: str
    pid: int

    @property
    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0)


def load_clips() -> list[Clip]:
    manifest = json.loads((DATA / "clips.json").read_text())
    return [Clip(DATA / name, entry["language"], entry["text"]) for name, entry in manifest.items()]


JFK = Clip(
    DATA / "jfk.flac",
    "en",
    "And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country.",
)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Files are groups of their own, so that what a file's tests share is made once; some share a server."""
    items[:] = _once_on_the_real_server(items)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            needs_real = "real_server" in item.fixturenames  # type: ignore[attr-defined]
            group = "real" if needs_real else item.path.relative_to(ROOT).as_posix()
            item.add_marker(pytest.mark.xdist_group(group))
    yield
    items.sort(key=_place)  # at last: pytest itself brings together what has a parameter in common


@pytest.hookimpl(trylast=True)  # behind what fixtures have to say to them
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """A group's servers end with it: they would take time and memory from all that is still to come."""
    if nextitem is None or _group(nextitem) != _group(item):
        while RunningServer.running:
            RunningServer.running.pop().__exit__()


def _place(item: pytest.Item) -> int:
    group = _group(item)
    return next((place for place, start in enumerate(LONG) if group.startswith(start)), len(LONG))


def _group(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    assert marker is not None
    return str(marker.args[0])


def _once_on_the_real_server(items: list[pytest.Item]) -> list[pytest.Item]:
    """What runs on the scripted server with many values runs on the real one with the first of them."""
    kept: dict[object, pytest.Item] = {}
    for item in items:
        is_double = item.get_closest_marker("also_real") and item.callspec.params["server"] == "real"  # type: ignore[attr-defined]
        kept.setdefault((item.path, item.originalname) if is_double else item, item)  # type: ignore[attr-defined]
    return list(kept.values())


@pytest.fixture(scope="session")
def clips() -> list[Clip]:
    return load_clips()


@pytest.fixture(scope="session")
def clip(clips: list[Clip]) -> Clip:
    """A sentence that Whisper base understands to the letter."""
    return next(clip for clip in clips if clip.path.name == "en-08.flac")


PORTS_OF_A_WORKER = 2_000


def _ports() -> Iterator[int]:
    """Of this test process alone, and below those that the system and Serve give away before ours is used."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    begin = random.randrange(PORTS_OF_A_WORKER)  # another run of the tests may be at work
    for count in itertools.count(begin):
        yield 20_000 + number % 4 * PORTS_OF_A_WORKER + count % PORTS_OF_A_WORKER


PORTS = _ports()


def free_port() -> int:
    for port in PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable")


def _read_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "embedded.yaml").read_text())
    return config


def _first(task: str) -> str:
    models = _read_config()["applications"][0]["args"]["models"]
    return next(str(model["id"]) for model in models if model.get("task", "transcription") == task)


ASR_MODEL, CHAT_MODEL = _first("transcription"), _first("chat")
"""Of the default configuration."""


def embedded_config(**args: Any) -> dict[str, Any]:
    """configs/embedded.yaml on a free port, with `args` of the application replaced."""
    config = _read_config()
    config["http_options"]["port"] = free_port()
    config["applications"][0]["args"].update(args)
    return config


def kill_tree(pid: int) -> None:
    """A process and all that it has started. None of them can start another before it is known of."""
    found = [psutil.Process(pid)]
    for process in found:  # grows
        with suppress(psutil.NoSuchProcess):
            process.suspend()
            found += process.children()
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()


class RunningServer:
    """`python -m deployments CONFIG`, or another program in that directory, as a process of its own. It may be ended
    more than once."""

    running: ClassVar[list["RunningServer"]] = []

    def __init__(
        self,
        config: dict[str, Any],
        directory: Path,
        program: list[str] | None = None,
        **environment: str,
    ) -> None:
        path = directory / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        self.log = directory / "server.log"
        self.url = f"http://127.0.0.1:{config['http_options']['port']}"
        self._process = subprocess.Popen(
            program or [sys.executable, "-m", "deployments", str(path)],
            cwd=directory if program else ROOT,
            env={**os.environ, **PATIENCE, "RAY_ADDRESS": "local", **environment},
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )
        self.running.append(self)

    @property
    def status(self) -> int | None:
        """With which it ended; None while it runs."""
        return self._process.poll()

    def __enter__(self) -> Server:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return Server(self.url, self._process.pid)
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        self.__exit__()
        raise RuntimeError(f"The server did not start:\n{self.log.read_text()[-4000:]}")

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            kill_tree(self._process.pid)
            self._process.wait()


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded configuration, unchanged but for its port; audio may be fetched from this machine's own address."""
    directory = tmp_path_factory.mktemp("server")
    with RunningServer(embedded_config(), directory, AURICLE_ALLOWED_MEDIA_HOSTS="127.0.0.1") as running:
        yield running
