"""Looks into MP4 and QuickTime headers before a demuxer does.

FFmpeg makes an index entry of some 24 bytes for every sample that a header claims, before it has seen one:
a file of 1 kB that claims 100 million would take gigabytes. No true count exceeds the file's bytes.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from struct import unpack_from

from deployments.audio.memory_file import UploadBytes
from pipelines.errors import UndecodableAudio

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

PARENTS = frozenset(
    b"moov hoov trak mdia minf stbl stsd moof traf mvex wide udta edts free dinf tref sinf schi iprp ipco ilst wave "
    b"meta".split()
)
"""In these FFmpeg looks for others, at whatever place they stand themselves."""

HEADERS = PARENTS | COUNT_OFFSETS.keys()

TEXT_PLACES = frozenset({b"udta", b"ilst"})
TEXTS = frozenset(
    b"---- aART albm auth catg covr cprt desc dscp egid gnre keyw ldes loci perf purl sdes titl tvsh tven".split()
)
"""Of a title, a comment or a cover in these; the others' names begin with a copyright sign. A title may well speak of a
trunk, which is no `trun`. FFmpeg looks for no boxes in them."""
TEXT_PATHS = frozenset(
    {(b"", b"moov"), (b"moov", b"trak"), (b"moov", b"udta"), (b"trak", b"udta"), (b"meta", b"ilst"), (b"", b"udta")}
)
MAX_TEXTS = 1_000
NAMES = re.compile(b"|".join([b"trak", b"cmov", b"hdlr", *COUNT_OFFSETS]))

SAMPLE_COUNTS = (b"stsz", b"stz2", b"trun")
MAX_INDEXED = 4_000_000
"""Samples of which FFmpeg keeps an entry; and samples times edits of a track, for it copies the index for each edit. An
hour of AAC has 170,000."""

ONE_BY_ONE = b"\0\0\0\1"
NOT_SOUND = frozenset({b"vide", b"subp", b"clcp"})
HANDLERS = NOT_SOUND | {b"soun"}
MAX_TRACKS = 1_000


def refuse_forged_counts(upload: UploadBytes) -> None:
    """
    Raises:
        UndecodableAudio: boxes claim more entries than the file has bytes, or hide their header by compression.
    """
    tracks: list[Counter[bytes]] = [Counter()]
    for start, end in _headers(upload):
        for found in NAMES.finditer(upload, start, end):
            if found[0] == b"trak":
                tracks.append(Counter())
            if len(tracks) > MAX_TRACKS:
                raise UndecodableAudio("The file has too many tracks.")
            _note(upload, found[0], found.end(), tracks[-1])
    claimed = [sum(track[kind] for kind in SAMPLE_COUNTS) for track in tracks]
    indexed = sum(track[b"trun"] if _is_plain(track) else its for track, its in zip(tracks, claimed, strict=True))
    if sum(claimed) > len(upload) or indexed > MAX_INDEXED:
        raise UndecodableAudio("The file's header claims more samples than the file can hold.")
    if sum(its * track[b"elst"] for track, its in zip(tracks, claimed, strict=True)) > MAX_INDEXED + len(upload):
        raise UndecodableAudio("The file's edit list is too long.")


def _headers(upload: UploadBytes) -> Iterator[tuple[int, int]]:
    """Where boxes stand that are no media, of the outermost ones. What is in them is found by its name, for there are
    many ways to put one box into another."""
    start, end = 0, len(upload)
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
        if kind in HEADERS:
            yield from _around_texts(upload, start, min(start + size, end))
        start += size


def _around_texts(upload: UploadBytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    for text_start, text_end in islice(_texts(upload, start, end, b""), MAX_TEXTS):
        yield start, text_start
        start = text_end
    yield start, end


def _texts(upload: UploadBytes, at: int, end: int, parent: bytes) -> Iterator[tuple[int, int]]:
    """Where texts stand, in their order, as far as every box has its right size."""
    while at + 8 <= end:
        size, kind = unpack_from(">I4s", upload, at)
        if not 8 <= size <= end - at:
            return
        if parent in TEXT_PLACES and (kind in TEXTS or kind[:1] == b"\xa9"):
            yield at + 8, at + size
        elif kind == b"meta" and parent in (b"moov", b"udta"):
            # its children begin with the handler, behind a version where MP4 has one and QuickTime none
            first = next((first for first in (8, 12) if upload[at + first + 4 : at + first + 8] == b"hdlr"), size)
            yield from _texts(upload, at + first, at + size, kind)
        elif (parent, kind) in TEXT_PATHS:
            yield from _texts(upload, at + 8, at + size, kind)
        at += size


def _note(upload: UploadBytes, kind: bytes, payload: int, track: Counter[bytes]) -> None:
    if kind == b"cmov":
        raise UndecodableAudio("Compressed QuickTime headers are not supported.")
    if kind == b"hdlr":
        kinds = HANDLERS & {bytes(upload[payload + 8 : payload + 12])}
        track.update(kinds)
    offset = COUNT_OFFSETS.get(kind)
    if offset is None or payload + offset + 4 > len(upload):
        return
    (count,) = unpack_from(">I", upload, payload + offset)
    if count > len(upload):
        raise UndecodableAudio("The file's header claims more samples than the file can hold.")
    track[kind] += count
    if kind == b"stts" and (count != 1 or bytes(upload[payload + 12 : payload + 16]) != ONE_BY_ONE):
        track[b"longer"] += 1


def _is_plain(track: Counter[bytes]) -> bool:
    """Of plain samples, each with the duration 1: FFmpeg reads them by chunks, and has no entry for each."""
    return track[b"stts"] == 1 and not track[b"longer"] and track[b"soun"] > 0 and not NOT_SOUND & track.keys()
