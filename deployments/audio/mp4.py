"""Looks into MP4 and QuickTime headers before a demuxer does.

FFmpeg makes an index entry of some 24 bytes for every sample that a header claims, before it has seen one:
a file of 1 kB that claims 100 million would take gigabytes. No true count exceeds the file's bytes.
"""

from collections import Counter
from struct import unpack_from

from deployments.audio.memory_file import UploadBytes
from pipelines.errors import UndecodableAudio

PARENTS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex", b"wide", b"udta", b"edts"})
COUNT_OFFSETS = {
    b"elst": 4,
    b"stsz": 8,
    b"stz2": 8,
    b"stts": 4,
    b"ctts": 4,
    b"stsc": 4,
    b"stco": 4,
    b"co64": 4,
    b"stss": 4,
    b"trun": 4,
    b"sbgp": 8,
}
"""Where the 32-bit count stands behind a box's header."""

MAX_DEPTH = 10

SAMPLE_COUNTS = frozenset({b"stsz", b"stz2", b"trun"})
MAX_INDEXED = 4_000_000
"""Samples times edits of a track: FFmpeg copies the index for each edit."""


def refuse_forged_counts(upload: UploadBytes) -> None:
    """
    Raises:
        UndecodableAudio: a box claims more entries than the file has bytes, or hides its header by compression.
    """
    tracks: list[Counter[bytes]] = [Counter()]
    _walk(upload, 0, len(upload), 0, tracks)
    num_indexed = sum(sum(track[kind] for kind in SAMPLE_COUNTS) * track[b"elst"] for track in tracks)
    if num_indexed > MAX_INDEXED + len(upload):
        raise UndecodableAudio("The file's edit list is too long.")


def _walk(upload: UploadBytes, start: int, end: int, depth: int, tracks: list[Counter[bytes]]) -> None:
    """Entries of each kind of box, by track; what is in none is the first's."""
    while start + 8 <= end:
        size, kind = unpack_from(">I4s", upload, start)
        header = 8
        if size == 1 and start + 16 <= end:
            (size,) = unpack_from(">Q", upload, start + 8)
            header = 16
        elif size == 0:
            size = end - start
        if size < header:
            return
        if kind == b"trak":
            tracks.append(Counter())
        tracks[-1][kind] += _checked_count(upload, kind, start + header)
        if kind in PARENTS and depth < MAX_DEPTH:
            _walk(upload, start + header, min(start + size, end), depth + 1, tracks)
        start += size


def _checked_count(upload: UploadBytes, kind: bytes, payload: int) -> int:
    offset = COUNT_OFFSETS.get(kind)
    if offset is not None and payload + offset + 4 <= len(upload):
        (count,) = unpack_from(">I", upload, payload + offset)
        if count > len(upload):
            raise UndecodableAudio("The file's header claims more samples than the file can hold.")
        return int(count)
    if kind == b"cmov":
        raise UndecodableAudio("Compressed QuickTime headers are not supported.")
    return 0
