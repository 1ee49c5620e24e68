"""Prometheus numbers, read back."""

from prometheus_client.parser import text_string_to_metric_families

from tests.conformance.wire import Api

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"


def total(api: Api, sample: str, **labels: str) -> float:
    """Sum of a sample over all labels but the given ones."""
    return sum(
        found.value
        for family in text_string_to_metric_families(api.get("/metrics").text)
        for found in family.samples
        if found.name == sample and labels.items() <= found.labels.items()
    )


def in_flight(api: Api) -> float:
    return total(api, RUNNING) + total(api, WAITING)
