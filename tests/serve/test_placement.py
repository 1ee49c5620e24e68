"""Several replicas share a GPU, and what does not fit goes to the next one. The GPUs are only numbers here."""

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from tests.conftest import RunningServer, Server
from tests.serve.coded_audio import CodedAudio, join, pause
from tests.serve.conftest import DIARIZER, light, scripted_model, serve_config
from tests.serve.records import Records
from tests.serve.scripted_diarizer import WHO, Order, ordered
from tests.serve.tools import is_healthy, post, wait_until

NUM_REPLICAS = 5

# Which node a replica goes to: one for the quarters, the head for those that share its only GPU.
QUARTERS, SHARED = {"quarters": 0.01}, {"shared": 0.01}


def gpu_config(records: Path) -> dict[str, Any]:
    def share(num_gpus: float, resources: dict[str, float]) -> dict[str, Any]:
        return {"num_cpus": 0.1, "num_gpus": num_gpus, "resources": resources}

    models = [scripted_model("quarter", "Slow", 0), {**scripted_model("talk", "Slow", 0), "family": "diarize"}]
    quarters = light(
        "asr-quarter", num_replicas=NUM_REPLICAS, max_ongoing_requests=1, ray_actor_options=share(0.25, QUARTERS)
    )
    talk = light("asr-talk", ray_actor_options=share(0.4, SHARED))
    diarization = light("diarization", ray_actor_options=share(0.2, SHARED))
    deployments = [light("ingress"), light("audio"), quarters, talk, diarization]
    config = serve_config(models, deployments, diarization={"engine": DIARIZER, "source": str(records)})
    # One on each node would share the port, and that of a node that dies or begins answers as it can.
    return {"proxy_location": "HeadOnly", **config}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head with one GPU, and a node with two."""
    directory = tempfile.mkdtemp(prefix="auricle-")  # sockets need a short path
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "num_gpus": 1,
            "resources": {"shared": 1},
            "include_dashboard": False,
            "temp_dir": directory,
        },
    )
    cluster.add_node(num_cpus=2, num_gpus=2, resources={"quarters": 1})
    yield cluster
    cluster.shutdown()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def joined(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, records_directory: Path) -> Iterator[Server]:
    """Our server on a cluster that runs already."""
    with RunningServer(
        gpu_config(records_directory), tmp_path_factory.mktemp("joined"), RAY_ADDRESS=cluster.address
    ) as running:
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


def test_recogniser_and_diarizer_share_a_gpu(
    joined: Server, coded_clips: list[CodedAudio], records_directory: Path
) -> None:
    """0.4 and 0.2 of the only one of their node."""
    records = Records(records_directory)
    records.clear()
    remark = ordered(join(pause(0.5), coded_clips[0], pause(0.5)), Order.ANSWER)
    answer = post(joined, remark, "talk", response_format="diarized_json")
    assert answer.status_code == 200, answer.text
    (asr_gpu,) = re.findall(r"gpu=(\S+)", answer.json()["text"])
    (window,) = records.read(WHO, "begins")
    assert (asr_gpu, window["gpu"]) == ("0", "0")


def test_replicas_move_to_another_node_when_theirs_is_lost(joined: Server, cluster: Cluster, sentence: bytes) -> None:
    (node,) = cluster.worker_nodes
    old = set(replicas(joined, sentence))
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(num_cpus=2, num_gpus=2, resources={"quarters": 1})
    wait_until(lambda: post(joined, sentence, "quarter").status_code == 200, "an answer from the new node", 120)
    wait_until(lambda: is_healthy(joined), "a healthy server")
    assert not set(replicas(joined, sentence)) & old
