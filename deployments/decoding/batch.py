"""The rows of a running batch, and their cache: both change together."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from deployments.decoding.cache import BatchCache

RowT = TypeVar("RowT")
CacheT = TypeVar("CacheT", bound=BatchCache)


class Batch(Generic[RowT, CacheT]):
    """Rows join when their prefix was read, and leave when they have finished or nobody waits for them."""

    def __init__(self, new_cache: Callable[[], CacheT]) -> None:
        self._new_cache = new_cache
        self.rows: list[RowT] = []
        self.cache = new_cache()

    def join(self, rows: Sequence[RowT], cache: CacheT) -> None:
        """`cache`: of these rows, in their order."""
        self.cache.join(cache)
        self.rows = [*self.rows, *rows]

    def keep(self, rows: Sequence[RowT]) -> None:
        """Drop all others; `rows` are in the batch's own order."""
        if len(rows) == len(self.rows):
            return
        if rows:
            self.cache.keep([position for position, row in enumerate(self.rows) if row in rows])
        else:
            self.cache = self._new_cache()
        self.rows = list(rows)
