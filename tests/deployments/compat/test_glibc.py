import sys

import pytest

from deployments.compat.glibc import trim_heap


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
