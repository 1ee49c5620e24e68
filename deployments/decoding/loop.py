"""One thread that owns an engine, and the way from an event loop to it and back."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

from deployments.engines import StepOutput
from pipelines.errors import AudioServerError, ModelUnavailable
from pipelines.transcript_types import Lookup, Work

logger = logging.getLogger("ray.serve")

ResultT = TypeVar("ResultT")

MAX_FAILED_STEPS = 5
NO_WORK = Work(0.0, 0.0, 0.0)


class Engine(Protocol):
    """The part of every engine that the loop drives; what `add` takes beside the id is the engine's own."""

    def add(self, request_id: str, *request: Any) -> None: ...

    def step(self) -> Sequence[StepOutput[Any]]: ...

    def abort(self, request_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one step gave a passenger; an error is the last there is."""

    result: Any
    work: Work = NO_WORK
    is_last: bool = True


@dataclass(slots=True, eq=False)
class _Passenger:
    """`outcomes` belongs to the event loop `home`; everything else to the engine's thread."""

    request_id: str
    request: tuple[Any, ...]
    head_start_s: float
    home: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    outcomes: "asyncio.Queue[_Outcome]" = field(default_factory=asyncio.Queue)
    submitted_at: float = field(default_factory=time.monotonic)
    boarded_at: float = 0.0
    num_steps: int = 0
    sum_batch_sizes: int = 0

    @property
    def place(self) -> float:
        """In the queue: who waits long enough comes before any newcomer, whatever head start that has."""
        return self.submitted_at - self.head_start_s

    def goes_before(self, other: "_Passenger") -> bool:
        """Whether it shall not be delayed by somebody less urgent who comes later."""
        return self.head_start_s > other.head_start_s and self.place < other.place

    def work(self, num_places: int, lookups: tuple[Lookup, ...]) -> Work:
        return Work(
            queue_s=self.boarded_at - self.submitted_at,
            model_s=time.monotonic() - self.boarded_at,
            mean_batch_size=self.sum_batch_sizes / max(self.num_steps, 1),
            num_places=num_places,
            is_urgent=self.head_start_s > 0,
            lookups=lookups,
        )


class EngineLoop(Generic[ResultT]):
    """Admits waiting requests between steps, up to `max_batch_size` aboard, and steps the engine.

    The engine is only ever touched by this loop's thread, so it needs no locks, and the event loops that
    wait for results are never blocked by a model, and are woken once per step however many wait.
    """

    def __init__(self, engine: Engine, max_batch_size: int, max_step_s: float, is_serial: bool = False) -> None:
        """
        Args:
            max_step_s: a step that takes longer hangs, and will never end.
            is_serial: who joins delays those aboard, as on a CPU, where windows are encoded one after the other. So one
                joins in a step, and nobody while somebody more urgent is aboard who came before.
        """
        self._is_serial = is_serial
        self.max_batch_size = max_batch_size
        self.max_step_s = max_step_s
        self._step_since_s: float | None = None
        self._engine = engine
        self._ids = count()
        self._changed = threading.Condition()
        self._waiting: list[_Passenger] = []
        self._left: list[str] = []
        self._aboard: dict[str, _Passenger] = {}
        self._is_stopped = False
        self._num_failed_steps = 0
        self._num_inside = 0
        self._left_at_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def is_healthy(self) -> bool:
        """False when no step has succeeded for a while, or one does not end: a GPU, say, may be beyond repair in this
        process."""
        since_s = self._step_since_s
        hangs = since_s is not None and time.monotonic() - since_s > self.max_step_s
        return self._thread.is_alive() and self._num_failed_steps < MAX_FAILED_STEPS and not hangs

    @property
    def idle_s(self) -> float:
        """How long there has been nothing to do."""
        return 0.0 if self._num_inside else time.monotonic() - self._left_at_s

    async def run(self, *request: Any, head_start_s: float = 0.0) -> tuple[ResultT, Work]:
        """Wait for the engine's last answer; raises as `stream`."""
        async with aclosing(self.stream(*request, head_start_s=head_start_s)) as answers:
            async for results, work in answers:
                answer = results[-1], work
        return answer

    async def stream(
        self, *request: Any, head_start_s: float = 0.0
    ) -> AsyncGenerator[tuple[list[ResultT], Work], None]:
        """Yield what the engine has answered since the last time, and what it has cost so far.

        Closing the generator, or cancelling its caller, takes the request out within a step.

        Args:
            head_start_s: it boards before those who have waited longer by no more than this.

        Raises:
            AudioServerError: what `Engine.add` refused, or `ModelUnavailable` when the engine failed.
        """
        passenger = _Passenger(str(next(self._ids)), request, head_start_s)
        with self._changed:
            self._num_inside += 1
            self._waiting.append(passenger)
            self._changed.notify()
        has_ended = False
        try:
            while not has_ended:
                outcomes = [await passenger.outcomes.get()]
                while not passenger.outcomes.empty():
                    outcomes.append(passenger.outcomes.get_nowait())
                has_ended = outcomes[-1].is_last
                results = [one.result for one in outcomes if not isinstance(one.result, Exception)]
                if results:
                    yield results, outcomes[len(results) - 1].work
                if isinstance(outcomes[-1].result, Exception):
                    raise outcomes[-1].result
        finally:
            self._leave(passenger.request_id, has_ended)

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        self._thread.join()

    def _leave(self, request_id: str, has_ended: bool) -> None:
        with self._changed:
            self._num_inside -= 1
            self._left_at_s = time.monotonic()
            if not has_ended:
                self._left.append(request_id)
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._left or self._aboard or self._is_stopped)
                if self._is_stopped:
                    return
                left, self._left = self._left, []
                boarding = self._next_to_board(left)
            for request_id in left:
                if self._aboard.pop(request_id, None):
                    self._abort(request_id)
            for passenger in boarding:
                self._board(passenger)
            if self._aboard:
                _deliver(self._step())

    def _next_to_board(self, left: list[str]) -> list[_Passenger]:
        waiting = [passenger for passenger in self._waiting if passenger.request_id not in left]
        aboard = [passenger for request_id, passenger in self._aboard.items() if request_id not in left]
        num_free = max(self.max_batch_size - len(aboard), 0)
        waiting.sort(key=lambda passenger: passenger.place)
        if self._is_serial:
            num_free = min(num_free, not (waiting and any(one.goes_before(waiting[0]) for one in aboard)))
        self._waiting = waiting[num_free:]
        return waiting[:num_free]

    def _board(self, passenger: _Passenger) -> None:
        passenger.boarded_at = time.monotonic()
        try:
            self._engine.add(passenger.request_id, *passenger.request)
        except AudioServerError as error:
            _deliver([(passenger, _Outcome(error))])
        except Exception:
            # Whatever an engine raises, the thread must live on.
            logger.exception("An engine could not take a request")
            _deliver([(passenger, _Outcome(ModelUnavailable("The model failed on this request.")))])
        else:
            self._aboard[passenger.request_id] = passenger

    def _step(self) -> list[tuple[_Passenger, _Outcome]]:
        for passenger in self._aboard.values():
            passenger.num_steps += 1
            passenger.sum_batch_sizes += len(self._aboard)
        self._step_since_s = time.monotonic()
        try:
            outputs = self._engine.step()
        except Exception:
            # The same here: everybody aboard is told, and the next start afresh.
            logger.exception("An engine step failed; %d requests are lost", len(self._aboard))
            self._num_failed_steps += 1
            return self._give_everybody_up()
        finally:
            self._step_since_s = None
        self._num_failed_steps = 0
        outcomes = []
        for output in outputs:
            answered = self._aboard.get(output.request_id)
            if answered is None:
                continue
            work = answered.work(self.max_batch_size, output.lookups)
            outcomes.append((answered, _Outcome(output.result, work, output.is_last)))
            if output.is_last:
                del self._aboard[output.request_id]
        return outcomes

    def _give_everybody_up(self) -> list[tuple[_Passenger, _Outcome]]:
        passengers, self._aboard = list(self._aboard.values()), {}
        for passenger in passengers:
            self._abort(passenger.request_id)
        return [
            (passenger, _Outcome(ModelUnavailable("The model failed on this request."))) for passenger in passengers
        ]

    def _abort(self, request_id: str) -> None:
        try:
            self._engine.abort(request_id)
        except Exception:
            # The thread must live on here, too: the others aboard wait for it.
            logger.exception("An engine could not take a request out")


def _deliver(outcomes: list[tuple[_Passenger, _Outcome]]) -> None:
    for home in {passenger.home for passenger, _ in outcomes}:
        own = [(passenger, outcome) for passenger, outcome in outcomes if passenger.home is home]
        with suppress(RuntimeError):  # that event loop has closed, so nobody waits
            home.call_soon_threadsafe(_put, own)


def _put(outcomes: list[tuple[_Passenger, _Outcome]]) -> None:
    for passenger, outcome in outcomes:
        passenger.outcomes.put_nowait(outcome)
