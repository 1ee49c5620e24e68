"""Serve's handles without Serve: methods that answer what a test has laid out for them."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

CANCELLED_BELOW = asyncio.CancelledError("below")
"""What Ray makes of a task that was cancelled below, and of one that nobody waits for any more."""


class FakeMethod:
    """The outcomes of its calls, one after the other: a value, an exception, an event that is waited for; of a
    streaming method a list of those."""

    def __init__(self, outcomes: Sequence[Any]) -> None:
        self._outcomes = iter(outcomes)
        self.asked: list[tuple[Any, ...]] = []
        self.num_cancelled = 0

    def remote(self, *args: Any) -> "FakeResponse":
        self.asked.append(args)
        return FakeResponse(self, next(self._outcomes))


class FakeResponse:
    def __init__(self, method: FakeMethod, outcome: Any) -> None:
        self._method = method
        self._outcome = outcome

    def cancel(self) -> None:
        self._method.num_cancelled += 1

    def __await__(self) -> Generator[Any, None, Any]:
        return _become(self._outcome).__await__()

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        outcomes: Iterator[Any] = iter(self._outcome if isinstance(self._outcome, list) else [self._outcome])
        for outcome in outcomes:
            yield await _become(outcome)


class FakeHandle(SimpleNamespace):
    def options(self, **_: Any) -> "FakeHandle":
        return self


async def _become(outcome: Any) -> Any:
    if isinstance(outcome, asyncio.Event):
        await outcome.wait()
    # our own errors are answers: a deployment returns them
    if isinstance(outcome, BaseException) and not type(outcome).__module__.startswith("pipelines"):
        raise outcome
    return outcome
