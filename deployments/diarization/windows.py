"""Short windows of what a segmentation network heard in long chunks: who speaks in them, and where that is heard."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from pyannote.core import SlidingWindow, SlidingWindowFeature

MIN_SOLO_S = 0.3
"""Of one speaker alone, to embed; who is never heard alone for so long is embedded with whom he interrupts."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What one speaker of one chunk says alone, all the rest cut out.

    features: places of the feature frames that are kept.
    windows: which of them every window has: (window, first, last + 1), counted in `features`.
    """

    speaker: int
    features: NDArray[np.int64]
    windows: tuple[tuple[int, int, int], ...]


class Windows(SlidingWindowFeature):
    """(windows, frames, speakers), 0 or 1, each window cut from the chunk that has it nearest to its middle.

    Speakers are numbered within a chunk, so windows of one chunk agree about them.

    chunks: what they are cut from, (chunks, frames, speakers).
    frames: a frame of both, in time.
    window_s, hop_s: of the windows, rounded to frames.
    every_s: only chunks so far apart are cut, and the last one.
    """

    def __init__(
        self,
        chunks: SlidingWindowFeature,
        frames: SlidingWindow,
        duration_s: float,
        window_s: float,
        hop_s: float,
        every_s: float,
    ) -> None:
        self.chunks, self._frames = chunks, frames
        self.size, hop = round(window_s / frames.step), max(1, round(hop_s / frames.step))
        num_windows = max(1, ceil((duration_s / frames.step - self.size) / hop) + 1)
        self.starts = np.arange(num_windows) * hop
        every = max(1, round(every_s / chunks.sliding_window.step))
        cut = np.unique([*range(0, len(chunks.data), every), len(chunks.data) - 1])
        first_frames = np.rint(cut * chunks.sliding_window.step / frames.step).astype(int)
        half = (chunks.data.shape[1] - self.size) / 2
        nearest = np.abs(self.starts[:, None] - first_frames - half).argmin(axis=1)
        self.hosts, self._offsets = cut[nearest], self.starts - first_frames[nearest]
        sliding = SlidingWindow(start=0.0, duration=self.size * frames.step, step=hop * frames.step)
        super().__init__(np.stack([self._of_chunk(window, self.size) for window in range(num_windows)]), sliding)

    def streams(self, num_features: int, feature_times_s: SlidingWindow) -> Iterator[Stream]:
        """Whom to embed, chunk by chunk."""
        times_s = feature_times_s.start + feature_times_s.duration / 2 + np.arange(num_features) * feature_times_s.step
        places = np.rint((times_s - self._frames.start - self._frames.duration / 2) / self._frames.step).astype(int)
        for host in np.unique(self.hosts):
            windows = np.flatnonzero(self.hosts == host)
            span = self._of_chunk(windows[0], self.starts[windows[-1]] - self.starts[windows[0]] + self.size)
            first, last = np.searchsorted(places, [self.starts[windows[0]], self.starts[windows[0]] + len(span)])
            heard = span[places[first:last] - self.starts[windows[0]]]
            edges = np.searchsorted(places[first:last], [self.starts[windows], self.starts[windows] + self.size])
            for speaker in np.flatnonzero(heard.any(axis=0)):
                kept = _kept(heard, int(speaker), MIN_SOLO_S / feature_times_s.step)
                before = np.concatenate([[0], np.cumsum(kept)])
                parts = zip(windows.tolist(), *before[edges].tolist(), strict=True)
                yield Stream(int(speaker), first + np.flatnonzero(kept), tuple(parts))

    def _of_chunk(self, window: int, length: int) -> NDArray[np.float32]:
        """From the beginning of the window on; silence where the chunk has ended."""
        offset = self._offsets[window]
        before = max(0, -offset)
        part = self.chunks.data[self.hosts[window], max(0, offset) : offset + length].astype(np.float32)
        return np.pad(part, ((before, length - before - len(part)), (0, 0)))


def _kept(heard: NDArray[np.float32], speaker: int, fewest: float) -> NDArray[np.bool_]:
    """Where to listen to a speaker, of what is heard in (frames, speakers)."""
    spoken = heard[:, speaker] > 0
    alone = spoken & (heard.sum(axis=1) == 1)
    return np.asarray(alone if alone.sum() >= fewest else spoken)
