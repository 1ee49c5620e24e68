"""Looks into ID3 tags before a demuxer does: FFmpeg unpacks compressed frames whole, 200 MB out of 200 kB.

The walk is as FFmpeg's own.
"""

import re
from struct import unpack_from

from deployments.audio.memory_file import UploadBytes
from pipelines.errors import UndecodableAudio

TAG = re.compile(rb"ID3[\x03\x04]..[\x00-\x7f]{4}", re.S)
"""Versions 2.3 and 2.4; the older one compresses nothing."""

NAME = re.compile(rb"[A-Z0-9]{4}")

UNPACKED = re.compile(rb"T...|USLT|COMM|GEOB|APIC|CHAP|PRIV", re.S)
"""Frames of other names FFmpeg skips; and what only looks like a tag, in the middle of sound, has other names."""

HEADER_BYTES, FRAME_BYTES = 10, 10
EXTENDED = 0x40
COMPRESSED = 0x88
"""In the second byte of a frame's flags: FFmpeg goes by version 2.4's bit in both versions, others by each one's."""

MAX_FRAMES = 20_000


def refuse_compressed_tags(upload: UploadBytes) -> None:
    """
    Raises:
        UndecodableAudio: a tag has compressed frames, or very many.
    """
    num_left = MAX_FRAMES  # of all tags: they may lie in one another
    for found in TAG.finditer(upload):
        start = found.start()
        version, flags = upload[start + 3], upload[start + 5]
        first = start + HEADER_BYTES
        end = first + _seven_bits(upload, start + 6)
        if flags & EXTENDED:
            first += _seven_bits(upload, first) + (0 if version == 4 else 4)
        num_left -= 1 + _num_frames(upload, first, end, version, num_left)
        if num_left < 0:
            raise UndecodableAudio("The file's ID3 tags have too many frames.")


def _num_frames(upload: UploadBytes, at: int, end: int, version: int, most: int) -> int:
    """Of a tag, counted no further than `most`."""
    num_frames = 0
    while num_frames < most and at + FRAME_BYTES <= min(end, len(upload)) and upload[at]:
        num_frames += 1
        if upload[at + 9] & COMPRESSED and UNPACKED.fullmatch(upload, at, at + 4):
            raise UndecodableAudio("The file's ID3 tag is compressed, which is not supported.")
        at += FRAME_BYTES + _length(upload, at, end, version)
    return num_frames


def _length(upload: UploadBytes, at: int, end: int, version: int) -> int:
    """Of a frame, behind its header. Some write 2.4 with the lengths of 2.3: that is told by what stands behind."""
    (whole,) = unpack_from(">I", upload, at + 4)
    if version == 3:
        return int(whole)
    in_sevens = _seven_bits(upload, at + 4)
    is_odd = 0x7F < whole < end - at and not _is_frame(upload, at + FRAME_BYTES + in_sevens)
    return int(whole) if is_odd and _is_frame(upload, at + FRAME_BYTES + whole) else in_sevens


def _is_frame(upload: UploadBytes, at: int) -> bool:
    """Or what fills a tag up."""
    name = bytes(upload[at : at + 4])
    return name == bytes(4) or NAME.fullmatch(name) is not None


def _seven_bits(upload: UploadBytes, at: int) -> int:
    """A number of 28 bits in four bytes."""
    a, b, c, d = (byte & 0x7F for byte in bytes(upload[at : at + 4]).ljust(4, b"\0"))
    return a << 21 | b << 14 | c << 7 | d
