"""Which of a file's audio tracks is heard (TRP-01)."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np
from av.audio.stream import AudioStream
from av.stream import Disposition

from pipelines.errors import InvalidRequest, UndecodableAudio

MAX_LOOKED_AT = 8
"""Tracks that are decoded to see whether they are silent."""

BEGINNING_S = 10.0
MAX_PIECES = 1_000
SILENCE = 2.0**-14
"""Two steps of 16 bits, which dithering leaves."""


def choose(streams: Sequence[AudioStream], wanted: int | None, is_silent: Callable[[AudioStream], bool]) -> AudioStream:
    """The one that is `wanted`, counted from 0; else the one that is flagged default; else the first that is not silent
    at its beginning; else the first. Where several are flagged, only those are looked at.

    Raises:
        InvalidRequest: naming `audio_track`: there is none of that number.
        UndecodableAudio: there is no track at all.
    """
    if not streams:
        raise UndecodableAudio("The file holds no audio track.")
    if wanted is not None:
        if wanted >= len(streams):
            number = f"{len(streams)} audio tracks" if len(streams) > 1 else "one audio track"
            raise InvalidRequest(f"The file has {number}, counted from 0: there is no {wanted}.", "audio_track")
        return streams[wanted]
    flagged = [stream for stream in streams if stream.disposition & Disposition.default] or streams
    if len(flagged) == 1:
        return flagged[0]
    return next((stream for stream in flagged[:MAX_LOOKED_AT] if not is_silent(stream)), flagged[0])


def is_silent(pieces: Iterable[tuple[float, np.ndarray]]) -> bool:
    """Whether the beginning of a track is; `pieces` are seconds and samples."""
    length_s = 0.0
    for piece_s, samples in islice(pieces, MAX_PIECES):
        if np.abs(samples).max(initial=0.0) > SILENCE:
            return False
        length_s += piece_s
        if length_s >= BEGINNING_S:
            break
    return True
