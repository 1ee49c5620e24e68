"""What /health makes of a controller that is slow, or silent (OPS-02)."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.schema import (
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ReplicaState,
    ServeStatus,
)

from deployments.remote import status
from deployments.remote.status import StatusWatch

SILENT = {"controller": None}


class Controller:
    """Answers, that all is well, while it may."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.num_asked = 0
        self.deployments: dict[str, DeploymentStatusOverview] = {}

    def status(self) -> ServeStatus:
        self.num_asked += 1
        assert self.may_answer.wait(30)
        return ServeStatus(applications={"app": ApplicationStatusOverview("RUNNING", "", 0.0, self.deployments)})


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    controller = Controller()
    monkeypatch.setattr(status.serve, "status", controller.status)
    monkeypatch.setattr(status.serve, "get_replica_context", lambda: SimpleNamespace(app_name="app"))
    monkeypatch.setattr(status, "STATUS_TIMEOUT_S", 0.05)
    yield controller
    controller.may_answer.set()


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the watch's clock go on."""
    now: list[float] = [1_000.0]
    monkeypatch.setattr(status, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


async def known(watch: StatusWatch) -> None:
    while await watch.unavailable() != {}:
        pass


async def test_nothing_is_claimed_before_the_first_answer(controller: Controller, wait: Any) -> None:
    controller.may_answer.clear()
    watch = StatusWatch()
    assert await watch.unavailable() == SILENT
    controller.may_answer.set()
    await known(watch)


async def test_a_slow_answer_is_no_news_however_seldom_somebody_asks(controller: Controller, wait: Any) -> None:
    watch = StatusWatch()
    await known(watch)
    wait(600)
    controller.may_answer.clear()
    assert await watch.unavailable() == {}
    wait(status.STATUS_STALE_S - 1)
    assert await watch.unavailable() == {}
    wait(2)
    assert await watch.unavailable() == SILENT
    assert controller.num_asked == 2
    controller.may_answer.set()
    await known(watch)


async def test_a_controller_that_fails_is_lost_after_a_while(
    controller: Controller, wait: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = StatusWatch()
    await known(watch)

    def fail() -> ServeStatus:
        raise RuntimeError("no controller")

    monkeypatch.setattr(status.serve, "status", fail)
    wait(600)
    assert await watch.unavailable() == {}
    wait(status.STATUS_STALE_S + 1)
    assert await watch.unavailable() == SILENT


def deployed(status: DeploymentStatus, message: str = "", **replicas: int) -> DeploymentStatusOverview:
    return DeploymentStatusOverview(
        status=status,
        status_trigger=DeploymentStatusTrigger.UNSPECIFIED,
        message=message,
        replica_states={ReplicaState(name): count for name, count in replicas.items()},
    )


@pytest.mark.parametrize(
    ("deployment", "state", "is_unavailable"),
    [
        (deployed(DeploymentStatus.HEALTHY, RUNNING=1), "ready", False),
        (deployed(DeploymentStatus.UPDATING, RUNNING=1, STARTING=1), "ready", False),
        (deployed(DeploymentStatus.UPDATING, STARTING=1), "loading", True),
        (deployed(DeploymentStatus.HEALTHY), "unloaded", False),
        (deployed(DeploymentStatus.DOWNSCALING, STOPPING=1), "unloaded", False),
        (deployed(DeploymentStatus.UPSCALING, STARTING=1), "loading", False),
        (deployed(DeploymentStatus.UPSCALING), "loading", False),
        (deployed(DeploymentStatus.UPSCALING, STARTING=1, STOPPING=1), "loading", False),
        (deployed(DeploymentStatus.UNHEALTHY, STARTING=1), "loading", True),
        (deployed(DeploymentStatus.UNHEALTHY, STOPPING=1), "loading", True),
        (deployed(DeploymentStatus.DEPLOY_FAILED), "failed", True),
        (
            deployed(DeploymentStatus.UPDATING, "\npipelines.errors.ConfigurationError: No.\n", STARTING=1),
            "failed",
            True,
        ),
    ],
)
async def test_what_a_deployment_is(
    controller: Controller, wait: Any, deployment: DeploymentStatusOverview, state: str, is_unavailable: bool
) -> None:
    watch = StatusWatch()
    assert watch.state_of("asr") == "loading"
    controller.deployments["asr"] = deployment
    while (unavailable := await watch.unavailable()) == SILENT:
        pass
    assert watch.state_of("asr") == state
    assert ("asr" in unavailable) == is_unavailable
