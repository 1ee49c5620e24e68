"""A Ray cluster of a script's own on this machine, where `serve deploy` brings a configuration up."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml
from ray.cluster_utils import Cluster

from deployments.compat.serve import PROGRAM

START_TIMEOUT_S = 300.0
POLL_S = 0.5
OBJECT_STORE_BYTES = 1 << 29

Config = dict[str, Any]

UNCACHED: Config = {"device": "cpu", "cache_mb": 0}
"""Nothing is kept of what was heard, for clients send the same again and again."""


class OwnCluster:
    """A head, and nodes that are added; its processes are children of this one. Use it as a context."""

    def __init__(self, num_cpus: float) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="auricle-"))  # sockets need a short path
        self.port = free_port()
        # Replicas import what lies here, and so the code that is measured.
        path = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
        os.environ.update(
            PYTHONPATH=path, RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0", RAY_TMPDIR=str(self.directory)
        )
        dashboard_port = free_port()
        self._dashboard = f"http://127.0.0.1:{dashboard_port}"
        ports = {"dashboard_port": dashboard_port, "dashboard_agent_listen_port": free_port()}
        head = {"include_dashboard": True, **ports, **self._node_args(num_cpus)}
        self._nodes = Cluster(initialize_head=True, head_node_args=head)

    def add_node(self, num_cpus: float, **resources: float) -> Any:
        """Ray's own node."""
        return self._nodes.add_node(**self._node_args(num_cpus, **resources))

    def _node_args(self, num_cpus: float, **resources: float) -> dict[str, Any]:
        return {
            "num_cpus": num_cpus,
            "resources": resources,
            "temp_dir": str(self.directory / "ray"),  # where Ray writes the cluster's address, whatever is said here
            "object_store_memory": OBJECT_STORE_BYTES,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def deploy(self, config: Config) -> None:
        """As an operator does it; returns when Serve has the configuration, not when it is up."""
        config["http_options"] = {"host": "127.0.0.1", "port": self.port}
        path = self.directory / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", PROGRAM, "deploy", str(path), "-a", self._dashboard]
        subprocess.run(command, check=True, capture_output=True)

    def wait_until_up(self) -> None:
        wait_until(lambda: self.is_settled() and is_healthy(self.url), "the application is up")

    def is_settled(self) -> bool:
        """Whether nothing of the application is being started, changed or stopped.

        Raises:
            RuntimeError: it will not start.
        """
        answer = httpx.get(f"{self._dashboard}/api/serve/applications/", timeout=30)
        answer.raise_for_status()
        status = answer.json()["applications"]["auricle"]
        if status["status"] == "DEPLOY_FAILED":
            raise RuntimeError(status["message"])
        parts = status["deployments"].values()
        replicas = [replica["state"] for part in parts for replica in part["replicas"]]
        return status["status"] == "RUNNING" and set(replicas) == {"RUNNING"}

    def __enter__(self) -> "OwnCluster":
        return self

    def __exit__(self, *_: object) -> None:
        self._nodes.shutdown()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """
    Raises:
        TimeoutError
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not within {timeout_s:.0f} s: {what}.")
        time.sleep(POLL_S)


def deployment(name: str, num_cpus: float = 0.1, **options: Any) -> Config:
    return {"name": name, "ray_actor_options": {"num_cpus": num_cpus}, **options}


def application(models: list[Config], deployments: list[Config], **args: Any) -> Config:
    return {
        "logging_config": {"encoding": "JSON", "enable_access_log": False},
        "applications": [
            {
                "name": "auricle",
                "route_prefix": "/",
                "import_path": "deployments.app:build",
                "args": {"models": models, **args},
                "deployments": deployments,
            }
        ],
    }


def tiny_english(aliases: list[str], **options: Any) -> Config:
    """OpenAI's Whisper tiny.en, the smallest that there is, on a thread of its own."""
    source = {"id": "whisper-tiny.en", "name": "tiny", "source": "embedded:whisper-tiny.en"}
    return {**source, "aliases": aliases, "threads": 1, **UNCACHED, **options}
