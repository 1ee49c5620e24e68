"""How many requests are worked on at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import Overloaded


class Admission:
    """Bounds the requests whose uploads are in memory; one that only arrives does not count."""

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self._num_inside = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """
        Raises:
            Overloaded
        """
        if self._num_inside >= self._max_requests:
            raise Overloaded("The server is busy. Try again shortly.", 1.0)
        self._num_inside += 1
        try:
            yield
        finally:
            self._num_inside -= 1
