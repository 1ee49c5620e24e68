import pickle

from prometheus_client.parser import text_string_to_metric_families

from deployments.ingress.metrics import IngressMetrics, to_prometheus_text
from pipelines.transcript_types import Work


def parsed(*replicas: IngressMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Through the wire: snapshots travel between replicas, the text is what Prometheus reads."""
    snapshots = [pickle.loads(pickle.dumps(replica.snapshot())) for replica in replicas]
    text = to_prometheus_text(snapshots).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


def test_gauges_are_there_before_the_first_request() -> None:
    metrics = IngressMetrics()
    metrics.declare_models(["tiny", "base"])
    found = parsed(metrics)
    for model in ("tiny", "base"):
        assert found["vllm:num_requests_running", labels(model_name=model)] == 0
        assert found["vllm:num_requests_waiting", labels(model_name=model)] == 0


def test_amounts_of_replicas_add_up_and_counts_stay_apart() -> None:
    first, second = IngressMetrics("a"), IngressMetrics("b")
    first.requests.labels("transcriptions", "200").inc(3)
    second.requests.labels("transcriptions", "200").inc(4)
    first.running.labels("tiny").inc(2)
    second.running.labels("tiny").inc(5)
    found = parsed(first, second)
    answered = {"endpoint": "transcriptions", "status": "200"}
    assert found["auricle_requests_total", labels(**answered, replica="a")] == 3
    assert found["auricle_requests_total", labels(**answered, replica="b")] == 4
    assert found["vllm:num_requests_running", labels(model_name="tiny")] == 7


def test_no_count_falls_when_a_replica_leaves_and_another_comes() -> None:
    leaving, staying = IngressMetrics("a"), IngressMetrics("b")
    for metrics in (leaving, staying):
        metrics.requests.labels("transcriptions", "200").inc(3)
        metrics.observe_work("tiny", Work(0.1, 0.1, 1.0))
    before, after = parsed(leaving, staying), parsed(staying, IngressMetrics("c"))
    kept = {key for key in before.keys() & after.keys() if before[key]}
    assert {"auricle_requests_total", "auricle_batch_size_sum", "auricle_batch_size_bucket"} <= {
        name for name, _ in kept
    }
    assert all(after[key] >= before[key] for key in kept)


def test_the_work_of_a_chunk() -> None:
    metrics = IngressMetrics("a")
    metrics.observe_work("tiny", Work(queue_s=0.02, model_s=0.7, mean_batch_size=3.5))
    metrics.observe_work("tiny", Work(queue_s=20.0, model_s=0.7, mean_batch_size=1.0))
    found = parsed(metrics)
    tiny = {"model": "tiny", "replica": "a"}
    assert found["auricle_queue_wait_seconds_count", labels(**tiny)] == 2
    assert found["auricle_queue_wait_seconds_sum", labels(**tiny)] == 20.02
    assert found["auricle_queue_wait_seconds_bucket", labels(**tiny, le="0.025")] == 1
    assert found["auricle_queue_wait_seconds_bucket", labels(**tiny, le="+Inf")] == 2
    assert found["auricle_model_seconds_bucket", labels(**tiny, le="1.0")] == 2
    assert found["auricle_batch_size_sum", labels(**tiny)] == 4.5


def test_the_text_has_each_family_once() -> None:
    metrics = IngressMetrics()
    metrics.observe_work("tiny", Work(0.1, 0.1, 1.0))
    text = to_prometheus_text([metrics.snapshot(), metrics.snapshot()]).decode()
    declared = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert declared
    assert len(declared) == len(set(declared))
    assert "# HELP auricle_batch_size Mean number of those in a batch, of one of them" in text
    assert "_created" not in text


def test_no_replica_no_numbers() -> None:
    assert to_prometheus_text([]) == b""


def test_metrics_of_one_process_are_apart() -> None:
    first, second = IngressMetrics(), IngressMetrics()
    untouched = parsed(second)
    first.audio_seconds.labels("tiny", "transcribe").inc(5)
    first.sessions.set(3)
    assert parsed(first) != untouched
    assert parsed(second) == untouched
