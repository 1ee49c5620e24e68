import asyncio
from collections.abc import Sequence

import pytest

from pipelines.errors import ModelUnavailable, Overloaded
from pipelines.patience import patiently


class Queue:
    """Refuses with `refusals` one after the other, then answers; remembers when it was asked."""

    def __init__(self, refusals: Sequence[Exception]) -> None:
        self._refusals = list(refusals)
        self.asked_at: list[float] = []

    async def ask(self) -> str:
        self.asked_at.append(asyncio.get_running_loop().time())
        if self._refusals:
            raise self._refusals.pop(0)
        return "answer"


@pytest.mark.parametrize("is_first_step", [True, False])
async def test_what_is_answered_is_asked_once(is_first_step: bool) -> None:
    queue = Queue([])
    assert await patiently(queue.ask, is_first_step) == "answer"
    assert len(queue.asked_at) == 1


async def test_a_full_queue_refuses_the_first_step_at_once() -> None:
    refusal = Overloaded("busy", 60.0)
    queue = Queue([refusal])
    with pytest.raises(Overloaded) as raised:
        await asyncio.wait_for(patiently(queue.ask, is_first_step=True), 1)
    assert raised.value is refusal
    assert len(queue.asked_at) == 1


async def test_later_steps_ask_until_they_are_answered() -> None:
    queue = Queue([Overloaded("busy", 0.0)] * 50)
    assert await patiently(queue.ask) == "answer"
    assert len(queue.asked_at) == 51


async def test_as_much_time_passes_between_as_the_queue_asked_for() -> None:
    queue = Queue([Overloaded("busy", 0.05), Overloaded("busy", 0.1)])
    await patiently(queue.ask)
    first, second, third = queue.asked_at
    assert second - first >= 0.045
    assert third - second >= 0.09


@pytest.mark.parametrize("is_first_step", [True, False])
@pytest.mark.parametrize("error", [ModelUnavailable("lost", 0.0), ValueError("wrong")])
async def test_other_errors_are_not_waited_out(error: Exception, is_first_step: bool) -> None:
    queue = Queue([error])
    with pytest.raises(type(error)):
        await patiently(queue.ask, is_first_step)
    assert len(queue.asked_at) == 1


async def test_an_error_after_a_refusal_is_raised() -> None:
    queue = Queue([Overloaded("busy", 0.0), ModelUnavailable("lost")])
    with pytest.raises(ModelUnavailable):
        await patiently(queue.ask)
    assert len(queue.asked_at) == 2


async def test_who_leaves_while_waiting_asks_no_more() -> None:
    queue = Queue([Overloaded("busy", 0.02)] * 100)
    task = asyncio.create_task(patiently(queue.ask))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.05)
    assert len(queue.asked_at) == 1
