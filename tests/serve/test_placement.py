"""Several replicas share a GPU, and what does not fit goes to the next one. The GPUs are only numbers here."""

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from tests.conftest import RunningServer, Server
from tests.serve.conftest import light, scripted_model, serve_config
from tests.serve.tools import is_healthy, post, wait_until

NUM_REPLICAS = 5


def gpu_config() -> dict[str, Any]:
    asr = light(
        "asr-quarter",
        num_replicas=NUM_REPLICAS,
        max_ongoing_requests=1,
        ray_actor_options={"num_cpus": 0.1, "num_gpus": 0.25},
    )
    return serve_config([scripted_model("quarter", "Slow", 0)], [light("ingress"), light("audio"), asr])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without GPUs, and a node with two."""
    directory = tempfile.mkdtemp(prefix="auricle-")  # sockets need a short path
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "num_gpus": 0, "include_dashboard": False, "temp_dir": directory},
    )
    cluster.add_node(num_cpus=2, num_gpus=2)
    yield cluster
    cluster.shutdown()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def joined(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Our server on a cluster that runs already."""
    with RunningServer(gpu_config(), tmp_path_factory.mktemp("joined"), RAY_ADDRESS=cluster.address) as running:
        yield running


def replicas(server: Server, sentence: bytes) -> dict[str, str]:
    """GPU of every replica that answers one of many requests at once."""
    with ThreadPoolExecutor(2 * NUM_REPLICAS) as pool:
        answers = list(pool.map(lambda _: post(server, sentence, "quarter", prompt="0.5"), range(2 * NUM_REPLICAS)))
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return {pid: gpu for answer in answers for pid, gpu in re.findall(r"pid=(\d+) gpu=(\S+)", answer.json()["text"])}


def test_four_quarters_share_a_gpu_and_the_fifth_gets_the_next(joined: Server, sentence: bytes) -> None:
    gpus: dict[str, str] = {}

    def all_seen() -> bool:
        gpus.update(replicas(joined, sentence))
        return len(gpus) == NUM_REPLICAS

    wait_until(all_seen, "an answer of every replica")
    assert sorted(Counter(gpus.values()).values()) == [1, 4]
    assert set(gpus.values()) == {"0", "1"}


def test_replicas_move_to_another_node_when_theirs_is_lost(joined: Server, cluster: Cluster, sentence: bytes) -> None:
    (node,) = cluster.worker_nodes
    old = set(replicas(joined, sentence))
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(num_cpus=2, num_gpus=2)
    wait_until(lambda: post(joined, sentence, "quarter").status_code == 200, "an answer from the new node", 120)
    wait_until(lambda: is_healthy(joined), "a healthy server")
    assert not set(replicas(joined, sentence)) & old
