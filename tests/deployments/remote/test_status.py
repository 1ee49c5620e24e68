"""What /health makes of a controller that is slow, or silent (OPS-02)."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.schema import ApplicationStatusOverview, ServeStatus

from deployments.remote import status
from deployments.remote.status import StatusWatch

SILENT = {"controller": None}


class Controller:
    """Answers, that all is well, while it may."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.num_asked = 0

    def status(self) -> ServeStatus:
        self.num_asked += 1
        assert self.may_answer.wait(30)
        return ServeStatus(applications={"app": ApplicationStatusOverview("RUNNING", "", 0.0, {})})


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
