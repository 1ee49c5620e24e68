"""Replicas that work at a given speed on a clock that is given, too: what `benchmarks.scale_simulation` scales."""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from deployments.backlog import Backlog


@dataclass(frozen=True, slots=True)
class Part:
    """A deployment.

    piece_s: the longest call. num_in_flight: calls of one recording at once. speed: audio seconds a second.
    batch: calls that share it.
    """

    name: str
    piece_s: float
    num_in_flight: int
    speed: float
    batch: int
    max_ongoing: int
    max_queued: int
    cold_start_s: float = 30.0


@dataclass(slots=True)
class Recording:
    """Cut in equal pieces, of which `num_left` are still to be sent."""

    arrives_at: float
    piece_s: float
    num_left: int


@dataclass(slots=True)
class Call:
    recording: Recording
    sent_at: float


@dataclass(eq=False)
class Replica:
    """Those aboard share its speed evenly; `progress_s` is the audio that each of them has been given so far."""

    part: Part
    clock: Callable[[], float]
    is_leaving: bool = False
    waiting: "deque[Call]" = field(default_factory=deque)
    aboard: list[tuple[float, int, Call]] = field(default_factory=list)
    progress_s: float = 0.0
    version: int = 0

    def __post_init__(self) -> None:
        self.started_at = self.looked_at = self.clock()
        self.ready_at = self.started_at + self.part.cold_start_s
        self.backlog = Backlog(self.clock)

    @property
    def num_calls(self) -> int:
        return len(self.waiting) + len(self.aboard)

    @property
    def is_open(self) -> bool:
        is_ready = self.ready_at <= self.clock() and not self.is_leaving
        return is_ready and self.num_calls < self.part.max_ongoing

    def take(self, call: Call) -> None:
        self.backlog.begin(call.recording.piece_s)
        self.waiting.append(call)

    def board(self) -> Iterator[Call]:
        while self.waiting and len(self.aboard) < self.part.batch:
            call = self.waiting.popleft()
            heapq.heappush(self.aboard, (self.progress_s + call.recording.piece_s, id(call), call))
            yield call

    def look(self) -> None:
        now = self.clock()
        if self.aboard:
            self.progress_s += (now - self.looked_at) * self.part.speed / len(self.aboard)
        self.looked_at = now

    def next_end_s(self) -> float:
        return max(self.aboard[0][0] - self.progress_s, 0.0) * len(self.aboard) / self.part.speed

    def finish(self) -> Call:
        _, _, call = heapq.heappop(self.aboard)
        self.backlog.end(call.recording.piece_s)
        return call
