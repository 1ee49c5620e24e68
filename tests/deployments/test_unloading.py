"""When an idle model goes, by what Serve tells a policy."""

from types import SimpleNamespace
from typing import Any

import pytest

from deployments.unloading import IDLE_S, UnloadWhenIdle


def context(*idle_s: float, asked: float = 0.0, running: int = 1, target: int = 1) -> Any:
    """`idle_s`: what the replica has told, the newest last."""
    points = [SimpleNamespace(timestamp=float(at), value=value) for at, value in enumerate(idle_s)]
    raw_metrics = {IDLE_S: {"replica": points}} if points else {}
    replicas = ["replica"] * running
    return SimpleNamespace(
        running_replicas=replicas, target_num_replicas=target, raw_metrics=raw_metrics, total_num_requests=asked
    )


@pytest.mark.parametrize(
    ("told", "num_replicas"),
    [
        (context(), 1),  # it has told nothing yet
        (context(0.0, 59.9), 1),
        (context(59.0, 60.0), 0),
        (context(70.0, 0.0), 1),  # somebody has come
        (context(70.0, asked=0.1), 1),  # somebody is on the way
        (context(running=0, target=0), 0),
        (context(running=0, target=1), 1),  # it is being loaded
    ],
)
def test_a_model_goes_when_it_has_been_idle_for_long_enough(told: Any, num_replicas: int) -> None:
    assert UnloadWhenIdle(60.0)(told) == (num_replicas, {})
