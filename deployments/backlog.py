"""How much a replica has to work off, and how fast it does: what `deployments.autoscaling` and
`deployments.ingress.gates` decide by."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

AUDIO, ARRIVING = "audio_s", "arriving_audio_s_per_s"
"""Seconds of audio that wait or are worked on; that come in a second."""

SPEED, LENGTH = "audio_s_per_s", "audio_s_per_call"
"""Seconds of audio that are done in a second of work; of a call, in the mean."""

WINDOW_S = 60.0
"""Of what comes, on the clock: after so much quiet it is exactly nothing, and the last replica may go."""

MEMORY_S = 60.0
"""Seconds of work after which what was done counts for 1/e of what is being done."""


class Pace:
    """How much is done in a second of work. Looked at whenever work begins or ends; the time between belongs to what
    is done next, for in the midst of a long piece there is no pace."""

    def __init__(self, clock: Callable[[], float], memory_s: float = MEMORY_S) -> None:
        self._clock = clock
        self._memory_s = memory_s
        self._looked_at = clock()
        self._unfinished_s = self._worked_s = self._done = self._num_done = 0.0

    def look(self, is_working: bool) -> float:
        """Let the time pass that has passed, at work or not; returns when it is."""
        now = self._clock()
        if is_working:
            self._unfinished_s += now - self._looked_at
        self._looked_at = now
        return now

    def count(self, amount: float, within_s: float = math.inf) -> None:
        """So much is done, within so long at most: where more time has passed, something else was waited for."""
        unfinished_s = min(self._unfinished_s, within_s)
        kept = math.exp(-unfinished_s / self._memory_s)
        self._worked_s = self._worked_s * kept + unfinished_s
        self._done, self._num_done = self._done * kept + amount, self._num_done * kept + 1
        self._unfinished_s = 0.0

    @property
    def per_s(self) -> float | None:
        """None before anything is done."""
        return self._done / self._worked_s if self._done and self._worked_s else None

    @property
    def mean(self) -> float:
        """Of what was counted at once."""
        return self._done / self._num_done


class Backlog:
    """Of one replica, kept by its event loop alone.

    Speed is that of the whole replica, however many calls share a batch: audio done by the seconds in which there was
    any to do.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._held: list[float] = []
        self._arrived: deque[tuple[float, float]] = deque()
        self._pace = Pace(clock)
        self._left_at = self._look()

    @property
    def idle_s(self) -> float:
        """How long there has been nothing to do, and nobody has asked."""
        return 0.0 if self._held else self._look() - self._left_at

    def touch(self) -> None:
        """Somebody asks, whether or not it makes work."""
        self._left_at = self._look()

    @contextmanager
    def holding(self, audio_s: float) -> Iterator[None]:
        """While a call of so much audio waits or is worked on. It is done when it ends without an exception."""
        self.begin(audio_s)
        try:
            yield
        except BaseException:
            self.end(audio_s, is_done=False)
            raise
        self.end(audio_s)

    def begin(self, audio_s: float) -> None:
        self._arrived.append((self._look(), audio_s))
        self._held.append(audio_s)

    def end(self, audio_s: float, is_done: bool = True) -> None:
        self._left_at = self._look()
        self._held.remove(audio_s)
        if is_done:
            self._pace.count(audio_s)

    def stats(self) -> dict[str, float]:
        """Without speed and length before the first call is done."""
        self._look()
        stats = {AUDIO: sum(self._held), ARRIVING: sum(audio_s for _, audio_s in self._arrived) / WINDOW_S}
        if self._pace.per_s is not None:
            stats |= {SPEED: self._pace.per_s, LENGTH: self._pace.mean}
        return stats

    def _look(self) -> float:
        now = self._pace.look(is_working=bool(self._held))
        while self._arrived and self._arrived[0][0] <= now - WINDOW_S:
            self._arrived.popleft()
        return now
