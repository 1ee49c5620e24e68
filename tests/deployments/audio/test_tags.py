import struct
import zlib

import pytest

from deployments.audio.decode import decode
from deployments.audio.tags import refuse_compressed_tags
from pipelines.audio_types import DecodeLimits
from pipelines.errors import UndecodableAudio
from tests.deployments.audio.test_decode import encode


def seven_bits(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def frame(version: int, payload: bytes, flag: int = 0) -> bytes:
    length = seven_bits(len(payload)) if version == 4 else struct.pack(">I", len(payload))
    return b"TIT2" + length + bytes([0, flag]) + payload


def tag(version: int, *frames: bytes, flags: int = 0) -> bytes:
    body = b"".join(frames) + bytes(20)
    return b"ID3" + bytes([version, 0, flags]) + seven_bits(len(body)) + body


PACKED = struct.pack(">I", 1_000_000) + zlib.compress(bytes(1_000_000))
PLAIN = b"\x03A title of some length, and more of it, so that its length is more than 127: " + b"x" * 200


@pytest.mark.parametrize(("version", "flag"), [(3, 0x80), (3, 0x09), (4, 0x09)])
def test_compressed_frames_are_refused(version: int, flag: int) -> None:
    packed = frame(version, PACKED, flag)
    extended = seven_bits(6 + (4 if version == 4 else 0)) + bytes(6)
    for upload in (
        tag(version, packed),
        tag(version, frame(version, PLAIN), packed),
        b"RIFF....WAVEid3 " + tag(version, packed),
        tag(version, extended, packed, flags=0x40),
    ):
        with pytest.raises(UndecodableAudio, match="compressed"):
            refuse_compressed_tags(upload + b"x" * 300)


def test_a_length_is_read_in_both_ways() -> None:
    """As FFmpeg does where 2.4 is written like 2.3."""
    like_2_3 = b"TIT2" + struct.pack(">I", len(PLAIN)) + bytes(2) + PLAIN
    with pytest.raises(UndecodableAudio):
        refuse_compressed_tags(tag(4, like_2_3, frame(4, PACKED, 0x08)))


@pytest.mark.parametrize("version", [3, 4])
def test_plain_tags_are_passed_over(version: int) -> None:
    music = encode("mp3", "libmp3lame")
    tagged = tag(version, *[frame(version, PLAIN)] * 20) + music[music.index(b"\xff\xfb") :]
    assert sum(map(len, decode(tagged, DecodeLimits()))) > 16_000
    for upload in (b"", b"ID3", tag(version)[:12], tag(version, frame(version, PLAIN))[:30]):
        refuse_compressed_tags(upload)


def test_frames_without_end_are_refused() -> None:
    with pytest.raises(UndecodableAudio, match="too many"):
        refuse_compressed_tags(tag(4, *[frame(4, b"")] * 30_000))


def test_tags_within_tags_are_not_walked_again_and_again() -> None:
    """A thousand that all hold the same frames would be walked for minutes."""
    num_tags, frames = 1_000, frame(4, b"x") * 10_000
    spans = [20 * (num_tags - 1 - number) for number in range(num_tags)]  # each first frame reaches to the common ones
    tags = [
        b"ID3\x04\0\0" + seven_bits(10 + span + len(frames)) + b"TIT2" + seven_bits(span) + bytes(2) for span in spans
    ]
    with pytest.raises(UndecodableAudio, match="too many"):
        refuse_compressed_tags(b"".join(tags) + frames)
    refuse_compressed_tags(tags[-1] + frames)


@pytest.mark.parametrize("version", [3, 4])
def test_what_only_looks_like_a_tag_is_passed_over(version: int) -> None:
    """As sound may, by chance: FFmpeg unpacks frames of few names only."""
    by_chance = tag(version, b"q\x91\x03\x7f" + frame(version, PACKED, 0xFF)[4:])
    refuse_compressed_tags(b"fLaC" + bytes(100) + by_chance)
    for name in (b"TXXX", b"T\x01\x02\x03", b"USLT", b"COMM", b"GEOB", b"APIC", b"CHAP", b"PRIV"):
        with pytest.raises(UndecodableAudio, match="compressed"):
            refuse_compressed_tags(tag(version, name + frame(version, PACKED, 0xFF)[4:]))
