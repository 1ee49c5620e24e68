"""Calls that cross a handle, and the one policy of what is asked again: Ray's errors become ours here.

- A replica that was lost, that was shut down, or whose model failed: once more, after a moment; another one may do
  better.
- A full queue: at a request's first step it is refused, so that its client may go elsewhere. What has begun waits for
  its turn, as long as the request may take (`ingress/http/deadlines.py`), for else what was done so far is lost.
- A call that nobody waits for any more is cancelled, and is never asked again. Ray may tell in the same words that a
  task was cancelled *below*, which is a lost replica: the current task's own state tells the two apart.
- Everything else is final.

Whatever is called must give the same answer again.
"""

import asyncio
import random
from asyncio import sleep
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    ObjectRefStreamEndOfStreamError,
    OutOfMemoryError,
    RayActorError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.compat.serve import call_under_own_id
from pipelines.errors import AudioServerError, ModelUnavailable, Overloaded

MAX_LOSSES = 1
RETRY_DELAY_S = 0.2
RETRY_AFTER_S = 2.0

# `OutOfMemoryError`: Ray's memory monitor has killed the replica. `ObjectLostError`: what it was given, or what it
# answered, lay on a node that is gone. The last one: a task below was cancelled before its answer was there.
LOSSES = (
    RayActorError,
    WorkerCrashedError,
    OutOfMemoryError,
    NodeDiedError,
    ObjectLostError,
    TaskCancelledError,
    ObjectRefStreamEndOfStreamError,
)
RAY_ERRORS = (BackPressureError, DeploymentUnavailableError, *LOSSES)
CALL_ERRORS = (*RAY_ERRORS, AudioServerError)
"""What `pieces` raises."""


async def call(method: Any, *args: Any, is_first_step: bool = True) -> Any:
    """A deployment's one answer.

    Raises:
        AudioServerError: as the deployment returned it; `Overloaded` at a request's first step, when its queue is
            full; `ModelUnavailable` when no replica lives long enough to answer.
    """
    retries = Retries(is_first_step)
    while True:
        try:
            return await _answer(method, *args)
        except CALL_ERRORS as error:
            await retries.wait_after(error)


async def pieces(method: Any, *args: Any) -> AsyncGenerator[Any, None]:
    """One replica's answer in pieces; it is told to stop when its reader leaves.

    Raises:
        CALL_ERRORS: for `Retries`, which knows what of them is worth another try.
    """
    response = call_under_own_id(method, *args)
    has_ended = False
    try:
        async for piece in response:
            if isinstance(piece, AudioServerError):
                raise piece
            yield piece
        has_ended = True
    except asyncio.CancelledError as cancellation:
        raise _told_apart(cancellation) from None
    finally:
        if not has_ended:
            _cancel(response)


def tell(method: Any, *args: Any) -> None:
    """Send what needs no answer."""
    call_under_own_id(method, *args)


class Retries:
    """Of one step of a request: waits before what is worth another try, and raises what is final."""

    def __init__(self, is_first_step: bool) -> None:
        self._has_begun = not is_first_step
        self._num_losses = 0

    async def wait_after(self, error: Exception) -> None:
        """
        Raises:
            AudioServerError: `error` as ours.
        """
        ours = _as_ours(error)
        if isinstance(ours, Overloaded) and self._has_begun:
            await sleep(ours.retry_after_s)
        elif _is_loss(error) and self._num_losses < MAX_LOSSES:
            self._num_losses += 1
            self._has_begun = True
            await sleep(RETRY_DELAY_S * random.uniform(0.5, 1.5))
        else:
            raise ours from None


async def _answer(method: Any, *args: Any) -> Any:
    response = call_under_own_id(method, *args)
    try:
        result = await response
    except asyncio.CancelledError as cancellation:
        _cancel(response)
        raise _told_apart(cancellation) from None
    if isinstance(result, AudioServerError):
        raise result
    return result


def _told_apart(cancellation: asyncio.CancelledError) -> BaseException:
    """This task's own cancellation as it is; that of a task below, which it waited for, as Ray's."""
    task = asyncio.current_task()
    return cancellation if task is None or task.cancelling() else TaskCancelledError()


def _is_loss(error: Exception) -> bool:
    return isinstance(error, (*LOSSES, ModelUnavailable))


def _as_ours(error: Exception) -> AudioServerError:
    match error:
        case AudioServerError():
            return error
        case BackPressureError():
            return Overloaded("The server is busy. Try again shortly.", 1.0)
        case DeploymentUnavailableError():
            return ModelUnavailable("The model is not available at the moment.", RETRY_AFTER_S)
        case TaskCancelledError():
            return ModelUnavailable("The replica that worked on this request shut down.", RETRY_AFTER_S)
        case _:
            return ModelUnavailable("The replica that worked on this request was lost.", RETRY_AFTER_S)


def _cancel(response: Any) -> None:
    """Nobody waits any more, and Serve would let it run on."""
    with suppress(*RAY_ERRORS):  # a call that was never sent raises what kept it
        response.cancel()
