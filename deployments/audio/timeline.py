"""Where on a file's own time line its frames stand, as their stamps tell; stamps lie, too."""

from collections.abc import Callable, Iterator

STAMPED = frozenset({"matroska", "webm", "mov", "mp4", "mpegts", "mpeg", "flv", "asf", "ogg"})
"""Containers that stamp what they hold; in others FFmpeg adds up lengths, which tells of no gap."""

FROM_ZERO = frozenset({"matroska", "webm", "mov", "mp4"})
"""Those whose time begins at 0. In the others it begins with whatever track comes first."""

JOINED = frozenset({"mpegts", "mpeg", "ogg"})
"""Those that are cut and joined as they are, so that stamps jump where nothing is missing."""

MIN_GAP_S = 0.2
"""Shorter ones are jitter, or what encoders leave at the beginning."""

MAX_GAP_S = 3_600.0
MAX_JOINED_GAP_S = 10.0
"""A stamp further ahead is no gap; where files are joined, FFmpeg's own programs draw the line at the same place."""

MAX_START_S = 60.0
"""A file all of whose tracks begin later is a part of a longer one: its time begins with it."""

LATE_S = 1.0
NUM_LATE = 5
"""So many frames in a row that are stamped as long past begin a new count. One alone is wrong, and a little too early
is what a busy recorder stamps that makes up for lost time."""

FREE_GAPS = 8
"""Beside one in each second of sound. A gap behind a quiet frame is not counted: telephones send hardly any in pauses.
Where many are cut into what is heard, the stamps are wrong."""


class TimeLine:
    """Told of frames in order, says how much silence comes before each."""

    def __init__(self, container: str, start_s: float | None) -> None:
        """
        Args:
            container: FFmpeg's names of the format, with commas.
            start_s: of the container's first track.
        """
        names = frozenset(container.split(","))
        self._is_trusted = bool(names & STAMPED)
        self._max_gap_s = MAX_JOINED_GAP_S if names & JOINED else MAX_GAP_S
        is_whole = bool(names & FROM_ZERO) and (start_s is None or start_s <= MAX_START_S)
        self._origin_s: float | None = 0.0 if is_whole else start_s
        self._end_s = 0.0
        self._num_late = 0
        self._num_gaps = 0
        self._heard_s = 0.0

    def gap_before(
        self,
        stamp_s: float | None,
        length_s: float,
        next_stamp_s: float | None = None,
        follows_sound: Callable[[], bool] = lambda: True,
    ) -> float:
        """Seconds of silence before a frame of that length; most have none.

        Args:
            next_stamp_s: of the frame behind it, without which a stamp far ahead is not believed.
            follows_sound: whether the frame before it is loud.
        """
        gap_s = self._gap(stamp_s, next_stamp_s, follows_sound)
        self._heard_s += length_s
        self._end_s += gap_s + length_s
        return gap_s

    def _gap(self, stamp_s: float | None, next_stamp_s: float | None, follows_sound: Callable[[], bool]) -> float:
        if stamp_s is None or not self._is_trusted:
            return 0.0
        if self._origin_s is None:
            self._origin_s = stamp_s
        ahead_s = stamp_s - self._origin_s - self._end_s
        if self._begins_anew(ahead_s, stamp_s, next_stamp_s):
            self._origin_s += ahead_s
        is_gap = MIN_GAP_S <= ahead_s <= self._max_gap_s and (next_stamp_s is None or next_stamp_s >= stamp_s)
        if not is_gap:
            return 0.0
        self._num_gaps += follows_sound()
        if self._num_gaps > FREE_GAPS + self._heard_s:
            self._is_trusted = False
            return 0.0
        return ahead_s

    def _begins_anew(self, ahead_s: float, stamp_s: float, next_stamp_s: float | None) -> bool:
        self._num_late = self._num_late + 1 if ahead_s < -LATE_S else 0
        is_far_ahead = ahead_s > self._max_gap_s and next_stamp_s is not None and next_stamp_s >= stamp_s
        return is_far_ahead or self._num_late >= NUM_LATE


def silence(length_s: float, sample_rate_hz: int) -> Iterator[int]:
    """So many samples, a second at a time."""
    num_left = round(length_s * sample_rate_hz)
    while num_left > 0:
        yield min(num_left, sample_rate_hz)
        num_left -= sample_rate_hz
