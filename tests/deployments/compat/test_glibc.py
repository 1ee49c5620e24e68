import sys

import pytest

from deployments.compat.glibc import HeapKeeper, trim_heap


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc alone")
def test_memory_that_was_freed_is_given_back() -> None:
    import psutil

    kept = [bytes(1_000) for _ in range(300_000)]
    last = bytes(1_000)  # behind them, so that the heap cannot simply shrink
    del kept
    before = psutil.Process().memory_info().rss
    trim_heap()
    assert psutil.Process().memory_info().rss <= before
    assert last


async def test_a_heap_is_trimmed_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[bool] = []
    monkeypatch.setattr("deployments.compat.glibc.trim_heap", lambda collect=True: trimmed.append(collect))
    often, seldom = HeapKeeper(every_s=0), HeapKeeper(every_s=3_600)
    for _ in range(3):
        await often.keep()
        await seldom.keep()
    assert trimmed == [False] * 3
