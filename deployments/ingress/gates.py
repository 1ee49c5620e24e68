"""Who is let in to a model: one decision, made before anything is done for a request.

Whoever comes waits for those who came before, whatever it brings itself. So what counts is how much of their work is
inside and how fast it goes through the whole graph (J. Little, "A Proof for the Queuing Formula: L = λW", 1961): both
are known here, however many replicas there are. The pace is that of a batch for which somebody waits: with fewer inside
it would be theirs. Until it was seen it is taken for one replica's, and it is never less than what those aboard one
replica need: when many come at once, nobody is answered for a while, and then all are. Work is counted in rows of a
batch: windows of audio, which cost nearly the same whether they are full or not, and answers.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deployments.backlog import Pace
from pipelines.errors import Overloaded
from pipelines.transcript_types import Work

MEMORY_S = 20.0
"""Seconds of work after which a pace counts for 1/e of the newest."""

NEWEST = 0.1
"""What the last one aboard counts in a mean."""

MAX_ANSWERS = 1.5
"""So many answers' time may somebody wait in any case. With the answer's own that is well within three times as long as
with a full batch."""

MAX_RETRY_AFTER_S = 30.0


class Visit:
    """One request inside a gate."""

    def __init__(self, gate: "Gate", num_rows: int) -> None:
        self._gate = gate
        self.num_rows = num_rows

    def expects(self, num_rows: int) -> None:
        """It has so many rows at once, as is known now."""
        self._gate.add(num_rows - self.num_rows)
        self.num_rows = num_rows


class Gate:
    """Before one model, of one ingress replica, by whose event loop alone it is used. Several of them share the model,
    and each sees its share of the work and of the pace: the same wait."""

    def __init__(self, max_wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._pace = Pace(clock, MEMORY_S)
        self._num_inside = 0
        self._num_places = 0
        self._answer_s: float | None = None
        self._row_s: float | None = None
        self._room_at = 0.0

    @contextmanager
    def enter(self, num_rows: int = 1) -> Iterator[Visit]:
        """
        Raises:
            Overloaded: it would wait too long. Before the model's first answer nobody knows, and nobody is refused.
        """
        if self.wait_s > self._allowed_s:
            raise Overloaded("The server is busy. Try again shortly.", self._appointment_s())
        visit = Visit(self, num_rows)
        self.add(num_rows)
        try:
            yield visit
        finally:
            self.add(-visit.num_rows)

    def add(self, num_rows: int) -> None:
        self._pace.look(self._is_full)
        self._num_inside += num_rows

    def observe(self, work: Work) -> None:
        """A row is done. What is done for realtime sessions, which go before all others, is no pace of those inside."""
        if not work.mean_batch_size or work.is_urgent:  # or it was known already
            return
        self._num_places = work.num_places
        self._answer_s = _mean(self._answer_s, work.model_s)
        self._row_s = _mean(self._row_s, work.model_s / work.mean_batch_size)
        self._pace.look(self._is_full)
        if self._is_full:
            self._pace.count(1, within_s=work.queue_s + work.model_s)

    @property
    def _is_full(self) -> bool:
        return self._num_inside > self._num_places > 0

    @property
    def _rows_per_s(self) -> float | None:
        """None before the first answer."""
        if not self._answer_s or not self._row_s:
            return None
        pace = self._pace.per_s
        return max(pace, 1 / self._row_s) if pace else self._num_places / self._answer_s

    @property
    def wait_s(self) -> float:
        """How long a newcomer would wait for its place in a batch."""
        num_ahead = max(self._num_inside + 1 - self._num_places, 0)
        return num_ahead / self._rows_per_s if self._rows_per_s else 0.0

    @property
    def _allowed_s(self) -> float:
        return max(self._max_wait_s, MAX_ANSWERS * (self._answer_s or 0.0))

    def _appointment_s(self) -> float:
        """When to come again: everybody who is refused gets a time of its own, behind those refused before, so that no
        more come back than can be let in."""
        assert self._rows_per_s is not None
        now = self._clock()
        self._room_at = max(self._room_at, now + self.wait_s - self._allowed_s) + 1 / self._rows_per_s
        self._room_at = min(self._room_at, now + MAX_RETRY_AFTER_S)
        return self._room_at - now


def _mean(last: float | None, new: float) -> float:
    return new if last is None else last + NEWEST * (new - last)


class Gates:
    """One before each model, by its name."""

    def __init__(self, max_wait_s: float) -> None:
        self._max_wait_s = max_wait_s
        self._gates: dict[str, Gate] = {}

    def __getitem__(self, model: str) -> Gate:
        if model not in self._gates:
            self._gates[model] = Gate(self._max_wait_s)
        return self._gates[model]
