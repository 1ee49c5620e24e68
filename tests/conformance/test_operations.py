"""OPS: what load balancers, routers and Prometheus ask."""

from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conformance.audio import duration_s, encode, silence
from tests.conformance.chat import MODEL, PATH, body, completion, input_audio, never_ending, user
from tests.conformance.metrics import RUNNING, WAITING, total
from tests.conformance.wire import Api
from tests.conftest import ASR_MODEL, Clip

PROBE_TIMEOUT_S = 10
"""The router's: it gives up a server that needs longer."""


@pytest.mark.also_real
@pytest.mark.parametrize("path", ["/health", "/v1/health"])
def test_ops_01_health(api: Api, path: str) -> None:
    response = api.get(path)
    models = dict.fromkeys((ASR_MODEL, MODEL), "ready")
    assert (response.status_code, response.json()["status"]) == (200, "healthy")
    assert response.json()["models"].items() >= models.items()


@pytest.mark.real
@pytest.mark.parametrize("path", ["/-/healthz", "/-/routes"])
def test_ops_01_serve_s_own_paths_stay(api: Api, path: str) -> None:
    assert api.get(path).status_code == 200


@pytest.mark.also_real
def test_ops_02_liveness_probe(api: Api) -> None:
    """production-stack's router: a tenth of a second of silence, and only `model` beside it."""
    files = {"file": ("empty.wav", encode(silence(0.1)), "audio/wav")}
    data = {"model": "openai/whisper-small"}
    response = api.client.post("/v1/audio/transcriptions", files=files, data=data, timeout=PROBE_TIMEOUT_S)
    assert (response.status_code, response.json()["text"]) == (200, "")


@pytest.mark.also_real
def test_ops_02_chat_probe(api: Api) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    request = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 3}
    response = api.client.post(PATH, json=request, timeout=PROBE_TIMEOUT_S)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"]


@pytest.mark.also_real
def test_ops_03_prometheus_text(api: Api) -> None:
    response = api.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    for gauge in (RUNNING, WAITING):
        assert families[gauge].type == "gauge"
        models = {sample.labels["model_name"] for sample in families[gauge].samples}
        assert models >= {ASR_MODEL, MODEL}
    assert families["auricle_request_seconds"].type == "histogram"


@pytest.mark.also_real
def test_ops_03_requests_are_counted_by_endpoint_and_status(api: Api, quiet: bytes) -> None:
    def counted() -> list[float]:
        endpoint = "/v1/audio/transcriptions"
        return [
            total(api, "auricle_requests_total", endpoint=endpoint, status=status) for status in ("200", "400", "404")
        ]

    before = counted()
    api.transcribe(quiet)
    api.transcribe(quiet, temperature="9")
    api.transcribe(quiet, temperature="9")
    api.transcribe(quiet, model="nobody")
    assert [after - earlier for after, earlier in zip(counted(), before, strict=True)] == [1, 2, 1]


@pytest.mark.also_real
def test_ops_03_audio_and_work_are_counted(api: Api, clip: Clip) -> None:
    samples = [
        "auricle_audio_seconds_total",
        "auricle_request_seconds_count",
        "auricle_model_seconds_count",
        "auricle_queue_wait_seconds_count",
        "auricle_batch_size_count",
    ]
    before = {sample: total(api, sample) for sample in samples}
    api.transcribe(clip.data, prompt=uuid4().hex)  # nobody has asked for that before
    moved = {sample: total(api, sample) - before[sample] for sample in samples}
    assert moved["auricle_audio_seconds_total"] == pytest.approx(duration_s(clip), abs=0.01)
    assert all(amount > 0 for amount in moved.values())


@pytest.mark.also_real
def test_ops_03_gauge_shows_running_requests(api: Api, long_audio: bytes) -> None:
    assert total(api, RUNNING) == 0
    with api.open_stream(long_audio, prompt=uuid4().hex) as response:  # not from what is kept of other tests
        lines = response.iter_lines()
        next(lines)
        assert total(api, RUNNING, model_name=ASR_MODEL) == 1
        for _ in lines:
            pass
    assert total(api, RUNNING) == 0


def test_ops_03_gauge_shows_running_chats(api: Api) -> None:
    assert total(api, RUNNING, model_name=MODEL) == 0
    request = body(max_tokens=1_000, stream=True, **never_ending())
    with api.client.stream("POST", PATH, json=request) as response:
        lines = response.iter_lines()
        next(lines)
        assert total(api, RUNNING, model_name=MODEL) == 1
        assert total(api, RUNNING, model_name=ASR_MODEL) == 0
        for _ in lines:
            pass
    assert total(api, RUNNING, model_name=MODEL) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_ops_03_tokens_are_counted(api: Api, stream: bool) -> None:
    def counted() -> list[float]:
        return [total(api, "auricle_tokens_total", model=MODEL, kind=kind) for kind in ("prompt", "completion")]

    usage = completion(api, max_tokens=6)["usage"]
    before = counted()
    api.client.post(PATH, json=body(max_tokens=6, stream=stream))
    moved = [after - earlier for after, earlier in zip(counted(), before, strict=True)]
    assert moved == [usage["prompt_tokens"], usage["completion_tokens"]]


def test_ops_03_chats_and_their_audio_are_counted(api: Api, clip: Clip) -> None:
    samples = [
        ("auricle_audio_seconds_total", {"model": MODEL, "task": "chat"}),
        ("auricle_requests_total", {"endpoint": PATH, "status": "200"}),
        ("auricle_request_seconds_count", {"endpoint": PATH}),
        ("auricle_model_seconds_count", {"model": MODEL}),
        ("auricle_queue_wait_seconds_count", {"model": MODEL}),
        ("auricle_batch_size_count", {"model": MODEL}),
    ]
    before = [total(api, sample, **labels) for sample, labels in samples]
    completion(api, user(input_audio(clip.data), "Which language is it?"))
    audio_s, *others = (
        total(api, sample, **labels) - earlier for (sample, labels), earlier in zip(samples, before, strict=True)
    )
    assert audio_s == pytest.approx(duration_s(clip), abs=0.01)
    assert others == [1] * len(others)


@pytest.mark.also_real
def test_ops_04_version(api: Api) -> None:
    body = api.get("/version").json()
    assert body.keys() == {"version"}
    assert body["version"][0].isdigit()


@pytest.mark.also_real
def test_ops_04_is_sleeping(api: Api) -> None:
    assert api.get("/is_sleeping").json() == {"is_sleeping": False}
