"""How much audio a replica has to work off, and how fast it does: what `deployments.autoscaling` decides by."""

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


class Backlog:
    """Of one replica, kept by its event loop alone.

    Speed is that of the whole replica, however many calls share a batch: audio done by the seconds in which there was
    any to do.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: list[float] = []
        self._arrived: deque[tuple[float, float]] = deque()
        self._looked_at = clock()
        self._worked_s = self._done_s = self._num_done = 0.0
        self._unfinished_s = 0.0
        self._left_at = clock()

    @property
    def idle_s(self) -> float:
        """How long there has been nothing to do."""
        return 0.0 if self._held else self._clock() - self._left_at

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
        self._look()
        self._arrived.append((self._looked_at, audio_s))
        self._held.append(audio_s)

    def end(self, audio_s: float, is_done: bool = True) -> None:
        self._look()
        self._held.remove(audio_s)
        self._left_at = self._looked_at
        if is_done:
            self._remember(audio_s)

    def stats(self) -> dict[str, float]:
        """Without speed and length before the first call is done."""
        self._look()
        stats = {AUDIO: sum(self._held), ARRIVING: sum(audio_s for _, audio_s in self._arrived) / WINDOW_S}
        if self._done_s and self._worked_s:
            stats |= {SPEED: self._done_s / self._worked_s, LENGTH: self._done_s / self._num_done}
        return stats

    def _look(self) -> None:
        """Let the time pass that has passed; it is work where something was held."""
        now = self._clock()
        elapsed_s, self._looked_at = now - self._looked_at, now
        while self._arrived and self._arrived[0][0] <= now - WINDOW_S:
            self._arrived.popleft()
        if self._held:
            self._unfinished_s += elapsed_s

    def _remember(self, audio_s: float) -> None:
        """Of a call that was done, with the work since the one before: in the midst of a long one, that is no speed."""
        kept = math.exp(-self._unfinished_s / MEMORY_S)
        self._worked_s = self._worked_s * kept + self._unfinished_s
        self._done_s, self._num_done = self._done_s * kept + audio_s, self._num_done * kept + 1
        self._unfinished_s = 0.0
