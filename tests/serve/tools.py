"""What the tests of the running graph share: asking it, watching it and hurting it."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Server
from tests.support.sse import read_events

TIMEOUT_S = 120.0
PATIENCE_S = 60.0


def post(server: Server, file: bytes, model: str, timeout_s: float = TIMEOUT_S, **fields: Any) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        files={"file": ("audio", file)},
        data={"model": model, **fields},
        timeout=timeout_s,
    )


def stream(server: Server, file: bytes, model: str, **fields: Any) -> Iterator[dict[str, Any]]:
    """Events up to `[DONE]`; closing the iterator closes the connection."""
    with httpx.stream(
        "POST",
        f"{server.url}/v1/audio/transcriptions",
        files={"file": ("audio", file)},
        data={"model": model, "stream": "true", **fields},
        timeout=TIMEOUT_S,
    ) as response:
        assert response.status_code == 200, response.read()
        yield from read_events(response.iter_lines())


def gauge(server: Server, name: str, model: str) -> float:
    text = httpx.get(f"{server.url}/metrics", timeout=TIMEOUT_S).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels.get("model_name") == model:
                return sample.value
    raise AssertionError(f"there is no {name} of {model}")


def total(server: Server, name: str, **labels: str) -> float:
    """Sum of a sample over all labels but the given ones."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics", timeout=TIMEOUT_S).text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def num_running(server: Server, model: str) -> float:
    return gauge(server, "vllm:num_requests_running", model)


def is_healthy(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {what}"
        time.sleep(0.1)


def replica_pids(server: Server, deployment: str) -> set[int]:
    """Processes of a deployment's replicas, of this server and no other on the machine."""
    title = re.compile(rf"^ray::ServeReplica:[^:]+:{re.escape(deployment)}(\W|$)")
    pids = set()
    for process in psutil.Process(server.pid).children(recursive=True):
        try:
            if title.match(" ".join(process.cmdline())):
                pids.add(process.pid)
        except psutil.Error:
            continue  # it has just ended
    return pids


def ray_session(server: Server) -> Path:
    """The directory of the server's own Ray."""
    option = "--session_dir="
    for process in psutil.Process(server.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            for word in process.cmdline():
                if word.startswith(option):
                    return Path(word.removeprefix(option))
    raise AssertionError("Ray does not run")


def kill_replica(server: Server, deployment: str) -> None:
    (pid,) = replica_pids(server, deployment)
    psutil.Process(pid).send_signal(signal.SIGKILL)


def wait_for_another(server: Server, deployment: str, old: set[int]) -> None:
    def is_replaced() -> bool:
        pids = replica_pids(server, deployment)
        return bool(pids) and not pids & old and is_healthy(server)

    wait_until(is_replaced, f"another replica of {deployment}")


def assert_refusal(response: httpx.Response, status: int, code: str | None) -> None:
    """Status and OpenAI's envelope; what may succeed later says when."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert "Traceback" not in error["message"]
    if status in (429, 503):
        assert int(response.headers["retry-after"]) >= 1
