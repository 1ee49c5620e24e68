"""A server of one Whisper, for as long as it is asked."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

START_TIMEOUT_S = 180


@contextmanager
def serving(source: str, device: str) -> Iterator[str]:
    """Where it transcribes, under the id whisper-1.

    Raises:
        RuntimeError: it did not start; with the end of its log.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        path, log = Path(directory) / "config.yaml", Path(directory) / "log"
        path.write_text(yaml.safe_dump(_config(source, device, port)))
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "deployments", str(path)],
                cwd=Path(__file__).parents[1],
                env={**os.environ, "RAY_ADDRESS": "local"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1/audio/transcriptions"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _config(source: str, device: str, port: int) -> dict[str, Any]:
    """No window is answered from the cache: clips are asked for again."""
    is_gpu = device == "cuda"
    model = {"id": "whisper-1", "name": "checked", "source": source, "cache_mb": 0}
    replica = {"num_cpus": 1, "num_gpus": 1 if is_gpu else 0}
    deployments = [
        {"name": "audio", "num_replicas": 6 if is_gpu else 1, "ray_actor_options": {"num_cpus": 1 if is_gpu else 0.5}},
        {
            "name": "asr-checked",
            "max_ongoing_requests": 64,
            "ray_actor_options": replica,
            "user_config": {"max_batch_size": 64},
        },
    ]
    application = {
        "name": "auricle",
        "route_prefix": "/",
        "import_path": "deployments.app:build",
        "args": {"models": [model]},
        "deployments": deployments,
    }
    return {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]}


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"The server did not start: {log.read_text()[-2000:]}")
