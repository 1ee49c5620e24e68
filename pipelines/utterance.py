"""Speech of a turn as it grows: what has come of it, what was spoken, and whether it has ended."""

import asyncio

import numpy as np

from pipelines.audio_types import SAMPLE_RATE_HZ, Samples

PREFIX_S, SUFFIX_S = 0.3, 0.2
"""How much silence the detector leaves around speech (`pipelines.vad`) where nobody asks for more."""


class Utterance:
    """Speech without a long pause, as it grows; times on its turn's clock."""

    def __init__(self, start_s: float) -> None:
        self.start_s = start_s
        self.spoken_until_s = start_s
        self.ended = asyncio.Event()
        self._samples: Samples = np.zeros(0, np.float32)
        self._forgotten = 0
        self._grown = asyncio.Event()

    @property
    def end_s(self) -> float:
        return self.start_s + (self._forgotten + len(self._samples)) / SAMPLE_RATE_HZ

    @property
    def must_hear_s(self) -> float:
        """A word's quiet end is still to come where the detector hears no more speech."""
        return min(self.spoken_until_s + SUFFIX_S, self.end_s)

    @property
    def is_going_on(self) -> bool:
        """Whether somebody speaks, and does not pause."""
        return self.end_s < self.spoken_until_s + SUFFIX_S

    @property
    def kept_s(self) -> float:
        return len(self._samples) / SAMPLE_RATE_HZ

    def grow(self, samples: Samples, spoken_until_s: float) -> None:
        self._samples = np.concatenate((self._samples, samples))
        self.spoken_until_s = spoken_until_s
        self._grown.set()

    def end(self) -> None:
        self.ended.set()
        self._grown.set()

    async def must_be_heard(self, tried_until_s: float, pause_s: float) -> bool:
        """Wait until it has grown by so much, or somebody pauses. False when it ends before.

        Args:
            tried_until_s: what is before was decoded, or somebody tried.
        """
        while not (self.ended.is_set() or self._is_due(tried_until_s, pause_s)):
            self._grown.clear()
            await self._grown.wait()
        return not self.ended.is_set()

    def _is_due(self, tried_until_s: float, pause_s: float) -> bool:
        if self.is_going_on:
            return self.end_s >= tried_until_s + pause_s
        return tried_until_s < self.must_hear_s

    def since(self, start_s: float) -> Samples:
        return self._samples[self._position(start_s) :]

    def forget(self, until_s: float) -> None:
        position = self._position(until_s)
        self._samples = self._samples[position:].copy()
        self._forgotten += position

    def _position(self, time_s: float) -> int:
        return max(round((time_s - self.start_s) * SAMPLE_RATE_HZ) - self._forgotten, 0)
