"""HAProxy on every node of a cluster, with what `deploy/kuberay` sets: any of them reaches the replicas of all."""

import csv
import io
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import soundfile
import yaml
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster

from deployments.launching import haproxy_program
from tests.conformance.realtime import connected, pcm
from tests.conftest import ROOT, RunningServer, Server, free_port
from tests.serve.conftest import light, scripted_model, serve_config
from tests.serve.tools import TIMEOUT_S, is_healthy, post, total, wait_until
from tests.support.sse import read_events

NUM_REPLICAS = 2
NUM_CLIENTS = 4
NOTICED_S = 15.0
"""After which nobody sends anything to a node that has died."""

FILES = ("METRICS_SOCKET_PATH", "CONFIG_FILE_LOC", "SOCKET_PATH", "SERVER_STATE_BASE", "SERVER_STATE_FILE")


@dataclass(frozen=True)
class Entry:
    """A node's HAProxy."""

    cluster: Cluster
    node: Any
    server: Server
    statistics_port: int

    def lose(self) -> None:
        """With all that runs there: when only Ray's own process dies, HAProxy stays."""
        (ray,) = self.node.all_processes[PROCESS_TYPE_RAYLET]
        lost = psutil.Process(ray.process.pid)
        for process in (lost, *lost.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.cluster.remove_node(self.node, allow_graceful=False)

    def num_sent(self) -> dict[str, int]:
        """To each ingress replica, so far."""
        text = httpx.get(f"http://127.0.0.1:{self.statistics_port}/stats;csv").text.removeprefix("# ")
        return {
            row["svname"]: int(row["stot"])
            for row in csv.DictReader(io.StringIO(text))
            if row["pxname"] == "http-auricle" and "ingress" in row["svname"]
        }


def shipped_environment(directory: str) -> dict[str, str]:
    """Of the ConfigMap, but for where the program and its files are."""
    documents = yaml.safe_load_all((ROOT / "deploy" / "kuberay" / "common.yaml").read_text())
    (shipped,) = (document["data"] for document in documents if document["metadata"]["name"] == "auricle-haproxy")
    # below a directory that is called as the node: of a socket's path not much is left
    files = {f"RAY_SERVE_HAPROXY_{name}": f"{directory}/{number}" for number, name in enumerate(FILES)}
    quickly = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1"}
    return {**shipped, **files, **quickly, "RAY_SERVE_HAPROXY_BINARY_PATH": haproxy_program()}


def haproxy_config() -> dict[str, Any]:
    spread = {"num_replicas": NUM_REPLICAS, "max_replicas_per_node": 1}
    placed = {"num_cpus": 0.1, "resources": {"worker": 0.01}}
    names = ("ingress", "audio", "asr-steady")
    deployments = [light(name, **spread, ray_actor_options=placed) for name in names]
    config = serve_config([scripted_model("steady", "Slow", 0.2)], deployments, haproxy=True, require_api_key=False)
    config["http_options"]["host"] = "0.0.0.0"
    return config


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Entry]]:
    """Of a head that takes no replica, and of two workers with one of each."""
    directory = tempfile.mkdtemp(prefix="auricle-")  # sockets need a short path
    config = haproxy_config()
    environment = shipped_environment(directory)
    http, statistics = [config["http_options"]["port"], free_port(), free_port()], [free_port() for _ in range(3)]

    def environment_of(number: int) -> dict[str, str]:
        ports = {"HAPROXY_STATS": statistics[number], "HAPROXY_METRICS": free_port(), "WORKER_PROXY_HTTP": http[number]}
        return {**environment, **{f"RAY_SERVE_{name}_PORT": str(port) for name, port in ports.items()}}

    head = {"num_cpus": 1, "include_dashboard": False, "temp_dir": directory, "env_vars": environment_of(0)}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    workers = [cluster.add_node(num_cpus=1, resources={"worker": 1}, env_vars=environment_of(n)) for n in (1, 2)]
    nodes = [cluster.head_node, *workers]
    try:
        with RunningServer(config, tmp_path_factory.mktemp("nodes"), RAY_ADDRESS=cluster.address) as server:
            servers = [Server(f"http://127.0.0.1:{port}", server.pid) for port in http]
            wait_until(lambda: all(is_healthy(one) for one in servers), "an HAProxy on every node")
            entries = [Entry(cluster, *parts) for parts in zip(nodes, servers, statistics, strict=True)]
            wait_until(lambda: all(len(one.num_sent()) == NUM_REPLICAS for one in entries), "all replicas told to all")
            yield entries
    finally:
        cluster.shutdown()
        shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class Answer:
    asked_at: float
    is_good: bool


class Askers:
    """Clients that ask one after the other until nobody needs them."""

    def __init__(self, entries: list[Entry], sentence: bytes) -> None:
        self.answers: list[Answer] = []
        self._enough = threading.Event()
        self._pool = ThreadPoolExecutor(NUM_CLIENTS)
        self._asking = [
            self._pool.submit(self._ask, entries[number % len(entries)], sentence) for number in range(NUM_CLIENTS)
        ]

    def num_good_since(self, asked_at: float) -> int:
        return sum(answer.is_good and answer.asked_at > asked_at for answer in list(self.answers))

    def stop(self) -> None:
        self._enough.set()
        for asking in self._asking:
            asking.result()
        self._pool.shutdown()

    def _ask(self, entry: Entry, sentence: bytes) -> None:
        while not self._enough.is_set():
            asked_at = time.monotonic()
            try:
                is_good = post(entry.server, sentence, "steady").status_code == 200
            except (httpx.NetworkError, httpx.RemoteProtocolError):  # closed without an answer
                is_good = False
            self.answers.append(Answer(asked_at, is_good))


def test_each_of_them_reaches_the_replicas_of_all_nodes(entries: list[Entry], sentence: bytes) -> None:
    places = set[str]()

    def all_asked(entry: Entry) -> bool:
        with ThreadPoolExecutor(NUM_CLIENTS) as pool:
            answers = list(pool.map(lambda _: post(entry.server, sentence, "steady"), range(4 * NUM_CLIENTS)))
        assert [answer.status_code for answer in answers] == [200] * len(answers)
        places.update(re.findall(r"pid=(\d+)", answer.json()["text"])[0] for answer in answers)
        sent = entry.num_sent()
        return len(sent) == NUM_REPLICAS and min(sent.values()) > 0

    for entry in entries:
        wait_until(lambda: all_asked(entry), "each ingress asked by way of this node")  # noqa: B023
    assert len(places) == NUM_REPLICAS  # an ingress asks whoever is nearest, while there is room


@contextmanager
def begun_stream(entry: Entry, sentence: bytes) -> Iterator[Iterator[str]]:
    """Its lines: blank ones from 4 s on, and text after 8."""
    url, fields = f"{entry.server.url}/v1/audio/transcriptions", {"model": "steady", "stream": "true", "prompt": "8"}
    with httpx.stream("POST", url, files={"file": sentence}, data=fields, timeout=TIMEOUT_S) as response:
        assert response.status_code == 200
        yield response.iter_lines()


def test_streams_and_sockets_pass_each_of_them(entries: list[Entry], sentence: bytes) -> None:
    samples, _ = soundfile.read(io.BytesIO(sentence), dtype="float32")
    for entry in entries[:2]:
        with begun_stream(entry, sentence) as lines:
            assert next(lines) == ""  # nothing on the way waits for the end
            with connected(entry.server, "?model=steady") as session:
                assert session.next()["type"] == "session.created"
                session.configure(turn_detection=None)
                session.append(pcm(np.asarray(samples, np.float32)))
                session.commit()
                (turn,) = session.completed()
            assert turn["transcript"]
            assert [event["type"] for event in read_events(lines)][-1] == "transcript.text.done"


def test_a_client_that_leaves_any_of_them_is_worked_for_no_longer(entries: list[Entry], sentence: bytes) -> None:
    def ask(entry: Entry) -> None:
        with pytest.raises(httpx.TimeoutException):
            post(entry.server, sentence, "steady", timeout_s=2, prompt="60")

    for entry in entries:
        with ThreadPoolExecutor(NUM_CLIENTS) as pool:
            list(pool.map(ask, [entry] * 2 * NUM_CLIENTS))
        wait_until(lambda: total(entry.server, "vllm:num_requests_running") == 0, "nothing in flight", 10)  # noqa: B023


def test_a_node_that_dies_takes_no_more_than_it_held(entries: list[Entry], sentence: bytes) -> None:
    *kept, lost = entries
    askers = Askers(kept, sentence)
    time.sleep(2)
    lost_from = time.monotonic()
    lost.lose()
    lost_until = time.monotonic()
    # those whose work was there wait until Ray has noticed
    wait_until(lambda: askers.num_good_since(lost_until + NOTICED_S) > NUM_CLIENTS, "answers of the others")
    askers.stop()
    failed = [answer for answer in askers.answers if not answer.is_good]
    assert len(failed) <= 2 * NUM_CLIENTS
    assert all(answer.asked_at < lost_until + NOTICED_S for answer in failed)
    assert any(answer.asked_at < lost_from for answer in askers.answers)
    with pytest.raises(httpx.ConnectError):
        post(lost.server, sentence, "steady")
