import io
import random
from pathlib import Path

import numpy as np
import pytest

from deployments.audio.decode import decode, probe
from deployments.audio.memory_file import MemoryFile
from pipelines.audio_types import DecodeLimits

CLIP = (Path(__file__).parent.parent.parent / "data" / "en-00.flac").read_bytes()
DATA = bytes(range(256)) * 40


def test_it_reads_as_bytesio_does() -> None:
    draw = random.Random(5)
    mine, theirs = MemoryFile(np.frombuffer(DATA, np.uint8).data), io.BytesIO(DATA)
    for _ in range(2_000):
        length, whence = draw.choice([0, 1, 100, 20_000, -1]), draw.choice([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END])
        offset = draw.randrange(-300, 300) if whence == io.SEEK_CUR else draw.randrange(0, len(DATA) + 100)
        if whence == io.SEEK_END:
            offset = -min(offset, len(DATA))
        if theirs.tell() + offset >= 0 or whence != io.SEEK_CUR:
            assert mine.seek(offset, whence) == theirs.seek(offset, whence)
        assert mine.read(length) == theirs.read(length)
        assert mine.tell() == theirs.tell()


def test_nothing_lies_before_the_beginning() -> None:
    file = MemoryFile(DATA)
    file.seek(3)
    with pytest.raises(ValueError, match="negative"):
        file.seek(-4, io.SEEK_CUR)
    assert file.read(2) == DATA[3:5]


def test_it_holds_no_copy() -> None:
    data = bytearray(b"before")
    file = MemoryFile(memoryview(data))
    data[:] = b"behind"
    assert file.read() == b"behind"


def test_an_upload_in_shared_memory_is_heard_as_its_bytes_are() -> None:
    shared = np.frombuffer(CLIP, np.uint8).data
    assert probe(shared, DecodeLimits()) == probe(CLIP, DecodeLimits())
    heard, expected = (np.concatenate(list(decode(upload, DecodeLimits()))) for upload in (shared, CLIP))
    np.testing.assert_array_equal(heard, expected)
    assert len(heard) > 10_000
