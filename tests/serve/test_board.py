"""What the board and the alerts ask for is there on the running graph, with the labels that they group by."""

import io
import json
from collections.abc import Iterable

import httpx
import numpy as np
import pytest
import soundfile
from prometheus_client.parser import text_string_to_metric_families

from tests.conformance.realtime import opened, pcm
from tests.conftest import Server
from tests.deploy.promql import Selector, asked
from tests.serve.coded_audio import CodedAudio, join, pause
from tests.serve.scripted_diarizer import Order, ordered
from tests.serve.tools import (
    TIMEOUT_S,
    is_healthy,
    kill_replica,
    post,
    ray_session,
    replica_pids,
    stream,
    wait_for_another,
    wait_until,
)

PUSHED_WITHIN_S = 60
"""Ray's processes tell their numbers every 10 s."""


def missing(selectors: Iterable[Selector], *expositions: str) -> set[Selector]:
    """Those of which no sample has all the labels."""
    samples = [
        (sample.name, sample.labels.keys())
        for text in expositions
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    return {
        selector
        for selector in selectors
        if not any(name == selector.metric and labels >= selector.labels for name, labels in samples)
    }


@pytest.fixture(scope="module")
def lived_in(scripted_server: Server, sentence: bytes, coded_clips: list[CodedAudio]) -> Server:
    """Everything has happened once: an upload, a stream, a chat, speakers, a turn, and a replica that died."""
    server = scripted_server
    wait_until(lambda: is_healthy(server), "a healthy server")
    old = replica_pids(server, "asr-reader")
    kill_replica(server, "asr-reader")
    wait_for_another(server, "asr-reader", old)
    assert post(server, sentence, "reader").status_code == 200
    assert list(stream(server, sentence, "reader"))
    remark = ordered(join(pause(0.5), coded_clips[0], pause(0.5)), Order.ANSWER)
    assert post(server, remark, "talker", response_format="diarized_json").status_code == 200
    chat = {"model": "counter", "messages": [{"role": "user", "content": "3"}], "max_tokens": 3}
    assert httpx.post(f"{server.url}/v1/chat/completions", json=chat, timeout=TIMEOUT_S).status_code == 200
    samples, _ = soundfile.read(io.BytesIO(sentence), dtype="float32")
    with opened(server, transcription={"model": "steady"}, turn_detection=None) as session:
        session.append(pcm(np.asarray(samples, np.float32)))
        session.commit()
        assert session.completed()
    return server


def test_the_ingress_tells_all_that_is_asked_of_it(lived_in: Server) -> None:
    ours = {selector for selector in asked() if not selector.metric.startswith("ray_")}
    assert len(ours) >= 10
    assert missing(ours, httpx.get(f"{lived_in.url}/metrics", timeout=TIMEOUT_S).text) == set()


def test_ray_tells_all_that_is_asked_of_it(lived_in: Server) -> None:
    """Where its own service discovery says."""
    rays = {selector for selector in asked() if selector.metric.startswith("ray_")}
    assert len(rays) >= 5
    discovery = ray_session(lived_in) / "prom_metrics_service_discovery.json"

    def all_there() -> bool:
        try:
            targets = [target for group in json.loads(discovery.read_text()) for target in group["targets"]]
            texts = [httpx.get(f"http://{target}/metrics", timeout=TIMEOUT_S).text for target in targets]
        except (OSError, httpx.HTTPError):  # not there yet
            return False
        return not missing(rays, *texts)

    wait_until(all_there, f"all of {sorted(selector.metric for selector in rays)}", PUSHED_WITHIN_S)
