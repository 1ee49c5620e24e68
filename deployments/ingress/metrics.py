"""Numbers of the ingress, and of the work that came back to it, for Prometheus."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from pipelines.chat_types import ChatUsage
from pipelines.transcript_types import Work

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

disable_created_metrics()  # type: ignore[no-untyped-call]


class IngressMetrics:
    """One ingress replica's registry. The `vllm:` gauges are what production-stack's router scrapes."""

    def __init__(self, replica: str = "") -> None:
        """`replica`: what its counts are labelled with."""
        self._replica = replica
        self.registry = CollectorRegistry(auto_describe=True)
        registry = self.registry
        self.requests = Counter(
            "auricle_requests",
            "Requests answered; 499 is a client that left",
            ["endpoint", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "auricle_request_seconds",
            "Seconds from the first byte to the last",
            ["endpoint"],
            buckets=SECONDS,
            registry=registry,
        )
        self.first_delta_seconds = Histogram(
            "auricle_time_to_first_delta_seconds",
            "Seconds from the request to its first text, of a chat only where it is streamed",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.turn_first_delta_seconds = Histogram(
            "auricle_turn_first_delta_seconds",
            "Seconds from the beginning of a realtime turn to its first text",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.turn_completed_seconds = Histogram(
            "auricle_turn_completed_seconds",
            "Seconds from a realtime turn's commit to all of its text",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.sessions = Gauge("auricle_realtime_sessions", "Realtime sessions that are open", registry=registry)
        self.audio_seconds = Counter(
            "auricle_audio_seconds", "Seconds of audio taken in", ["model", "task"], registry=registry
        )
        self.key_requests = Counter(
            "auricle_key_requests", "Requests and realtime sessions of an API key", ["key"], registry=registry
        )
        self.key_audio_seconds = Counter(
            "auricle_key_audio_seconds", "Seconds of audio heard for an API key", ["key"], registry=registry
        )
        self.key_refusals = Counter(
            "auricle_key_refusals",
            "What an API key was refused by its limit of requests, audio or sessions",
            ["key", "limit"],
            registry=registry,
        )
        self.tokens = Counter(
            "auricle_tokens",
            "Tokens of chats, read (prompt) and written (completion)",
            ["model", "kind"],
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "auricle_queue_wait_seconds",
            "Seconds a chunk or a chat waited for a place in a batch",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.model_seconds = Histogram(
            "auricle_model_seconds",
            "Seconds a chunk or a chat was in a batch",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "auricle_batch_size",
            "Mean number of those in a batch, of one of them",
            ["model"],
            buckets=BATCH_SIZES,
            registry=registry,
        )
        self.cache_lookups = Counter(
            "auricle_cache_lookups",
            "Windows that were looked up in a cache: of what was heard (text), of what the encoder made (encoder)",
            ["model", "cache", "result"],
            registry=registry,
        )
        self.running = Gauge(
            "vllm:num_requests_running", "Requests that a model works on", ["model_name"], registry=registry
        )
        self.waiting = Gauge(
            "vllm:num_requests_waiting", "Requests whose audio was not read yet", ["model_name"], registry=registry
        )

    def declare_models(self, models: Iterable[str]) -> None:
        """Gauges are there, at zero, before the first request."""
        for model in models:
            self.running.labels(model)
            self.waiting.labels(model)

    def observe_work(self, model: str, work: Work) -> None:
        for lookup in work.lookups:
            self.cache_lookups.labels(model, lookup.cache, "hit" if lookup.is_hit else "miss").inc()
        if not work.mean_batch_size:
            return
        self.queue_seconds.labels(model).observe(work.queue_s)
        self.model_seconds.labels(model).observe(work.model_s)
        self.batch_size.labels(model).observe(work.mean_batch_size)

    def observe_usage(self, model: str, usage: ChatUsage, is_prompt_counted: bool) -> None:
        """`is_prompt_counted`: by another answer to it."""
        self.tokens.labels(model, "prompt").inc(0 if is_prompt_counted else usage.num_prompt_tokens)
        self.tokens.labels(model, "completion").inc(usage.num_output_tokens)

    def snapshot(self) -> list[Metric]:
        """Counts carry the replica's name, for a sum of them would fall when a replica leaves. Amounts do not."""
        return [metric if metric.type == "gauge" else self._labelled(metric) for metric in self.registry.collect()]

    def _labelled(self, metric: Metric) -> Metric:
        labelled = Metric(metric.name, metric.documentation, metric.type)
        for sample in metric.samples:
            labelled.add_sample(sample.name, {**sample.labels, "replica": self._replica}, sample.value)
        return labelled


def to_prometheus_text(snapshots: Iterable[list[Metric]]) -> bytes:
    """One exposition of several replicas: what has the same labels adds up, so amounts do, and counts stay apart."""
    registry = CollectorRegistry()
    registry.register(_Sum(list(snapshots)))
    return generate_latest(registry)


class _Sum:
    def __init__(self, snapshots: list[list[Metric]]) -> None:
        self._snapshots = snapshots

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        families: dict[str, Metric] = {}
        values: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}
        for metric in (metric for snapshot in self._snapshots for metric in snapshot):
            families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            for sample in metric.samples:
                key = (metric.name, sample.name, tuple(sorted(sample.labels.items())))
                values[key] = values.get(key, 0.0) + sample.value
        for (family, name, labels), value in values.items():
            families[family].samples.append(Sample(name, dict(labels), value))
        return list(families.values())
