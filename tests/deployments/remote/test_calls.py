"""The one policy of what is asked again, over a handle that does as it is told."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from ray.exceptions import (
    NodeDiedError,
    ObjectRefStreamEndOfStreamError,
    OutOfMemoryError,
    OwnerDiedError,
    RayActorError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.remote import calls
from deployments.remote.calls import call, pieces
from deployments.remote.chat_model import RemoteChatModel
from pipelines.chat_types import ChatDelta, ChatUsage, SamplingOptions
from pipelines.errors import AudioServerError, InvalidRequest, ModelUnavailable, Overloaded
from pipelines.transcript_types import Work
from tests.support.handles import CANCELLED_BELOW, FakeHandle, FakeMethod

FULL = BackPressureError(num_queued_requests=9, max_queued_requests=9)
LOST = RayActorError()
BROKEN = ModelUnavailable("The model failed.", 0.0)
WRONG = InvalidRequest("No.", "n")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited between two attempts, which take none here."""
    told: list[float] = []

    async def noted(seconds: float) -> None:
        told.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(calls, "sleep", noted)
    return told


@pytest.mark.parametrize("is_first_step", [True, False])
async def test_what_is_answered_is_asked_once(is_first_step: bool, waits: list[float]) -> None:
    method = FakeMethod(["answer"])
    assert await call(method, 1, "two", is_first_step=is_first_step) == "answer"
    assert method.asked == [(1, "two")]
    assert waits == []


async def test_a_full_queue_refuses_the_first_step_at_once(waits: list[float]) -> None:
    method = FakeMethod([FULL, "answer"])
    with pytest.raises(Overloaded):
        await call(method)
    assert len(method.asked) == 1
    assert waits == []


async def test_later_steps_ask_until_they_are_answered(waits: list[float]) -> None:
    method = FakeMethod([FULL] * 50 + ["answer"])
    assert await call(method, is_first_step=False) == "answer"
    assert len(method.asked) == 51
    assert waits == [1.0] * 50


@pytest.mark.parametrize(
    "loss",
    [
        LOST,
        BROKEN,
        CANCELLED_BELOW,
        TaskCancelledError(),
        ObjectRefStreamEndOfStreamError(),
        OutOfMemoryError("The memory monitor has killed it."),
        NodeDiedError("Its node is gone."),
        OwnerDiedError("00", b"", ""),  # an `ObjectLostError`
        WorkerCrashedError(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("is_first_step", [True, False])
async def test_what_a_lost_replica_did_not_finish_is_asked_once_more(
    loss: Any, is_first_step: bool, waits: list[float]
) -> None:
    method = FakeMethod([loss, "answer"])
    assert await call(method, is_first_step=is_first_step) == "answer"
    (wait_s,) = waits
    assert 0.1 <= wait_s <= 0.3
    method = FakeMethod([loss, loss, "answer"])
    with pytest.raises(ModelUnavailable):
        await call(method, is_first_step=is_first_step)
    assert len(method.asked) == 2


async def test_after_a_loss_a_full_queue_is_waited_for(waits: list[float]) -> None:
    """The work has begun: its place was lost by no fault of the client's."""
    method = FakeMethod([LOST, FULL, FULL, "answer"])
    assert await call(method) == "answer"
    assert len(method.asked) == 4


@pytest.mark.parametrize("is_first_step", [True, False])
@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (DeploymentUnavailableError.__new__(DeploymentUnavailableError), ModelUnavailable),
        (WRONG, InvalidRequest),
        (AudioServerError("Known."), AudioServerError),
        (ValueError("a bug"), ValueError),
    ],
    ids=repr,
)
async def test_everything_else_is_final(
    outcome: Exception, error: type[Exception], is_first_step: bool, waits: list[float]
) -> None:
    method = FakeMethod([outcome, "answer"])
    with pytest.raises(error):
        await call(method, is_first_step=is_first_step)
    assert len(method.asked) == 1
    assert waits == []


async def test_an_error_after_a_refusal_is_raised(waits: list[float]) -> None:
    method = FakeMethod([FULL, WRONG])
    with pytest.raises(InvalidRequest):
        await call(method, is_first_step=False)
    assert len(method.asked) == 2


async def test_who_leaves_cancels_the_call() -> None:
    method = FakeMethod([asyncio.Event()])
    task = asyncio.create_task(call(method))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert (len(method.asked), method.num_cancelled) == (1, 1)


async def test_who_leaves_while_waiting_asks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    method = FakeMethod([FULL] * 100)
    task = asyncio.create_task(call(method, is_first_step=False))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(method.asked) == 1


async def test_a_deadline_is_nobody_s_loss() -> None:
    """`asyncio.timeout` cancels the task that it is in: that must not look like a replica that was lost."""
    method = FakeMethod([asyncio.Event(), "answer"])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await call(method)
    assert (len(method.asked), method.num_cancelled) == (1, 1)


# In pieces


async def collected(method: FakeMethod) -> list[Any]:
    async with aclosing(pieces(method)) as given:
        return [piece async for piece in given]


async def test_pieces_come_in_order_and_nothing_is_cancelled() -> None:
    method = FakeMethod([["a", "b", "c"]])
    assert await collected(method) == ["a", "b", "c"]
    assert method.num_cancelled == 0


@pytest.mark.parametrize(
    ("outcome", "error"), [(LOST, RayActorError), (WRONG, InvalidRequest), (CANCELLED_BELOW, TaskCancelledError)]
)
async def test_an_error_among_them_is_raised_as_it_is(outcome: Any, error: type[Exception]) -> None:
    method = FakeMethod([["a", outcome]])
    given = pieces(method)
    assert await anext(given) == "a"
    with pytest.raises(error):
        await anext(given)


@pytest.mark.parametrize("leave", ["close", "cancel"])
async def test_who_leaves_them_ends_them(leave: str) -> None:
    method = FakeMethod([["a", asyncio.Event()]])

    async def read(given: AsyncGenerator[Any, None]) -> None:
        async for _ in given:
            if leave == "close":
                return

    given = pieces(method)
    task = asyncio.create_task(read(given))
    await asyncio.sleep(0.01)
    if leave == "cancel":
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await given.aclose()
    assert method.num_cancelled == 1


async def test_an_answer_goes_on_where_its_replica_was_lost(waits: list[float]) -> None:
    """`RemoteChatModel` speaks by the same policy; the next replica is told what was delivered already."""
    for loss in (LOST, BROKEN, CANCELLED_BELOW):
        text, told = await _chat(lambda deltas, loss=loss: [[*deltas[:2], loss], FULL, deltas[2:]])
        assert text == "0 1 2 "
        assert told == [(), (7, 7, 8), (7, 7, 8)]
        text, told = await _chat(lambda deltas, loss=loss: [[*deltas, loss]])  # only its end was lost
        assert (text, told) == ("0 1 2 ", [()])
    with pytest.raises(Overloaded):
        await _chat(lambda deltas: [FULL, deltas])


async def test_cht_35_a_chat_for_which_was_heard_waits_for_its_turn(waits: list[float]) -> None:
    """Minutes of transcription came before it, and would be lost."""
    text, told = await _chat(lambda deltas: [FULL, FULL, deltas], is_first_step=False)
    assert (text, told) == ("0 1 2 ", [()] * 3)
    assert waits == [1.0] * 2


async def _chat(
    outcomes: Callable[[list[Any]], Sequence[Any]], is_first_step: bool = True
) -> tuple[str, list[Sequence[int]]]:
    """The text, and what each replica was told of the answer; a delta may be of more than one token."""
    work, token_ids = Work(0.0, 1.0, 1.0), [(7, 7), (8,), ()]
    deltas = [
        (ChatDelta(f"{i} ", ChatUsage(1, 0, i + 1), (), "stop" if i == 2 else None, token_ids[i]), work)
        for i in range(3)
    ]
    observed: list[Work] = []
    method = FakeMethod(outcomes(deltas))
    model = RemoteChatModel(FakeHandle(generate=method), observed.append)  # type: ignore[arg-type]
    answer = model.generate([], SamplingOptions(seed=1), True, is_first_step)
    text = "".join([delta.text async for delta in answer])
    assert observed == [work]
    return text, [asked[-1] for asked in method.asked]
