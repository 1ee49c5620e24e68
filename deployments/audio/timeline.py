"""Where on a file's own time line its frames stand, as their stamps tell; stamps lie, too."""

from collections.abc import Iterator

TRUSTED = frozenset({"matroska", "webm", "mov", "mp4", "mpegts", "mpeg", "flv", "asf", "ogg", "avi"})
"""Containers that stamp what they hold; in others FFmpeg adds up lengths, which tells of no gap."""

FROM_ZERO = frozenset({"matroska", "webm", "mov", "mp4"})
"""Those whose time begins at 0. In the others it begins with whatever track comes first."""

MIN_GAP_S = 0.2
"""Shorter ones are jitter, or what encoders leave at the beginning."""

MAX_GAP_S = 3_600.0
"""A stamp further ahead is taken for damage."""

FREE_GAPS = 8
"""Beside one in each second of sound: stamps with more gaps are wrong all along."""


class TimeLine:
    """Told of frames in order, says how much silence comes before each.

    A stamp that goes back, or absurdly far ahead, begins a new count: what follows is put right behind what came
    before.
    """

    def __init__(self, container: str, start_s: float) -> None:
        """
        Args:
            container: FFmpeg's names of the format, with commas.
            start_s: of the container's first track.
        """
        names = frozenset(container.split(","))
        self._is_trusted = bool(names & TRUSTED)
        self._origin_s = 0.0 if names & FROM_ZERO else start_s
        self._end_s = 0.0
        self._num_gaps = 0
        self._heard_s = 0.0

    def gap_before(self, stamp_s: float | None, length_s: float) -> float:
        """Seconds of silence before a frame of that length; most have none."""
        gap_s = self._gap(stamp_s)
        self._heard_s += length_s
        self._end_s += gap_s + length_s
        return gap_s

    def _gap(self, stamp_s: float | None) -> float:
        if stamp_s is None or not self._is_trusted:
            return 0.0
        ahead_s = stamp_s - self._origin_s - self._end_s
        if abs(ahead_s) < MIN_GAP_S:
            return 0.0
        if not 0 < ahead_s <= MAX_GAP_S:
            self._origin_s += ahead_s
            return 0.0
        self._num_gaps += 1
        if self._num_gaps > FREE_GAPS + self._heard_s:
            self._is_trusted = False
            return 0.0
        return ahead_s


def silence(length_s: float, sample_rate_hz: int) -> Iterator[int]:
    """So many samples, a second at a time."""
    num_left = round(length_s * sample_rate_hz)
    while num_left > 0:
        yield min(num_left, sample_rate_hz)
        num_left -= sample_rate_hz
