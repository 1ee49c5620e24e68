"""What of a session's audio nobody has taken yet."""

from collections import deque

import numpy as np

from pipelines.audio_types import Samples
from pipelines.realtime_types import AudioAppended
from pipelines.vad import FRAME_SAMPLES


class RecentAudio:
    """Frames that nobody has taken yet, with their probabilities. Positions are samples of the session."""

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self._frames: deque[tuple[Samples, float]] = deque()

    def append(self, event: AudioAppended) -> None:
        starts = range(0, len(event.samples), FRAME_SAMPLES)
        for start, probability in zip(starts, event.probabilities, strict=True):
            # a copy: else a frame that is kept keeps all that came with it
            self._frames.append((event.samples[start : start + FRAME_SAMPLES].copy(), probability))
        self.end += len(event.samples)

    def take(self, end: int) -> tuple[Samples, list[float]]:
        """All frames that begin before `end`."""
        taken: list[tuple[Samples, float]] = []
        while self._frames and self.start < end:
            taken.append(self._frames.popleft())
            self.start += len(taken[-1][0])
        samples = [np.zeros(0, np.float32), *(frame for frame, _ in taken)]
        return np.concatenate(samples), [probability for _, probability in taken]

    def forget(self, end: int) -> None:
        """All frames that end before `end`, or there."""
        while self._frames and self.start + len(self._frames[0][0]) <= end:
            self.start += len(self._frames.popleft()[0])

    def between(self, start: int, end: int) -> Samples:
        samples = np.concatenate([np.zeros(0, np.float32), *(frame for frame, _ in self._frames)])
        return samples[max(start - self.start, 0) : end - self.start]
