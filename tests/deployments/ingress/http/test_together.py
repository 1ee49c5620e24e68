import asyncio

import pytest

from deployments.ingress.http.together import together


async def after(gate: asyncio.Event, result: int, ended: list[int]) -> int:
    try:
        await gate.wait()
        return result
    finally:
        ended.append(result)


async def failing(error: Exception) -> int:
    raise error


async def test_results_in_order_whoever_is_first() -> None:
    first, second, ended = asyncio.Event(), asyncio.Event(), list[int]()
    waiting = asyncio.create_task(together(after(first, 1, ended), after(second, 2, ended)))
    second.set()
    await asyncio.sleep(0.01)
    first.set()
    assert await waiting == [1, 2]
    assert ended == [2, 1]
    assert await together() == []


async def test_the_first_that_fails_ends_the_others() -> None:
    ended, error = list[int](), ValueError("no")
    with pytest.raises(ValueError, match="no") as caught:
        await together(after(asyncio.Event(), 1, ended), failing(error))
    assert caught.value is error
    assert ended == [1]


async def test_who_is_cancelled_leaves_nobody_behind() -> None:
    ended = list[int]()
    waiting = asyncio.create_task(together(after(asyncio.Event(), 1, ended), after(asyncio.Event(), 2, ended)))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert sorted(ended) == [1, 2]
