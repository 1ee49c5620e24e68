"""Replicas come by the audio that waits, and go when it is gone. The GPU is only a number here."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster

from deployments.config_file import AUDIO_BACKLOG
from tests.conftest import RunningServer, Server
from tests.serve.conftest import light, scripted_model, serve_config
from tests.serve.tools import is_healthy, post, replica_pids, wait_until

MODEL_S = 0.5
"""Of one sentence. A replica reads one at a time."""

TARGET_WAIT_S = 2.0
MAX_REPLICAS = 4
SIZED_FOR = round(MAX_REPLICAS * TARGET_WAIT_S / MODEL_S)
"""Clients whose sentences all replicas together read in the time."""


def config() -> dict[str, Any]:
    autoscaling = {
        "min_replicas": 1,
        "max_replicas": MAX_REPLICAS,
        "look_back_period_s": 2,
        "metrics_interval_s": 0.5,
        "upscale_delay_s": 1,
        "downscale_delay_s": 2,
        "policy": {"policy_function": AUDIO_BACKLOG, "policy_kwargs": {"target_wait_s": TARGET_WAIT_S}},
    }
    reader = light(
        "asr-reader",
        max_ongoing_requests=2,
        max_queued_requests=256,
        autoscaling_config=autoscaling,
        ray_actor_options={"num_cpus": 0.1, "num_gpus": 1 / MAX_REPLICAS},
        user_config={"max_batch_size": 1},
    )
    audio = light("audio", max_ongoing_requests=16, max_queued_requests=256)
    return serve_config(
        [scripted_model("reader", "Slow", MODEL_S)], [light("ingress"), audio, reader], limits={"max_wait_s": 120}
    )


@pytest.fixture(scope="module")
def scaling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """On one GPU; the pid is that of the machine's raylet, under which replicas run."""
    directory = tempfile.mkdtemp(prefix="auricle-")  # sockets need a short path
    resources = {"num_cpus": 2, "num_gpus": 1, "include_dashboard": False, "temp_dir": directory}
    cluster = Cluster(initialize_head=True, head_node_args=resources)
    (raylet,) = cluster.head_node.all_processes[PROCESS_TYPE_RAYLET]
    try:
        with RunningServer(config(), tmp_path_factory.mktemp("scaling"), RAY_ADDRESS=cluster.address) as running:
            yield Server(running.url, raylet.process.pid)
    finally:
        cluster.shutdown()
        shutil.rmtree(directory, ignore_errors=True)


def test_one_replica_becomes_four_and_one_again_and_nobody_is_refused(scaling: Server, sentence: bytes) -> None:
    def num_replicas() -> int:
        return len(replica_pids(scaling, "asr-reader"))

    def ask(_: int) -> tuple[int, str]:
        answer = post(scaling, sentence, "reader")
        return answer.status_code, answer.text

    assert num_replicas() == 1
    gpus: set[str] = set()
    with ThreadPoolExecutor(2 * SIZED_FOR) as pool:

        def load() -> bool:
            answers = list(pool.map(ask, range(2 * SIZED_FOR)))
            assert {status for status, _ in answers} == {200}, answers
            places = {place for _, text in answers for place in re.findall(r"pid=(\d+) gpu=(\S+)", text)}
            gpus.update(gpu for _, gpu in places)
            return len(places) == MAX_REPLICAS

        wait_until(load, "answers of four replicas", 240)
    assert gpus == {"0"}
    wait_until(lambda: num_replicas() == 1, "one replica", 120)
    assert ask(0)[0] == 200
    assert is_healthy(scaling)


def test_a_single_request_brings_nobody(scaling: Server, sentence: bytes) -> None:
    for _ in range(10):
        assert post(scaling, sentence, "reader").status_code == 200
    assert len(replica_pids(scaling, "asr-reader")) == 1
