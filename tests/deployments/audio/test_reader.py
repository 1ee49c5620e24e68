import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from deployments.audio.reader import UploadReader
from deployments.audio.silero import SileroModel
from pipelines.errors import AudioTooShort, UndecodableAudio
from pipelines.types import MAX_CHUNK_S, SAMPLE_RATE_HZ, AudioChunk, AudioPage, DecodeLimits, Samples, VadOptions

DATA = Path(__file__).parent.parent.parent / "data"
CLIPS = sorted(DATA.glob("*-0[0-7].flac"))


@pytest.fixture(scope="module")
def model() -> SileroModel:
    return SileroModel()


def as_flac(samples: Samples) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE_HZ, format="FLAC")
    return file.getvalue()


@pytest.fixture(scope="module")
def long_upload() -> bytes:
    """About a minute and a half of speech, with a pause that no chunk bridges."""
    clips = [soundfile.read(path, dtype="float32")[0] for path in CLIPS]
    return as_flac(np.concatenate([*clips[:16], np.zeros(40 * SAMPLE_RATE_HZ, np.float32), *clips[16:32]]))


def reader(upload: bytes, model: SileroModel) -> UploadReader:
    return UploadReader(upload, VadOptions(), model, DecodeLimits())


def pages(reader: UploadReader) -> list[AudioPage]:
    read = [reader.next_page()]
    while not read[-1].is_last:
        read.append(reader.next_page(reader.position))
    return read


def described(chunks: list[AudioChunk]) -> list[tuple[int, float, float, bytes]]:
    return [(c.index, c.offset_s, c.end_s, c.waveform.samples.tobytes()) for c in chunks]


def chunks_of(read: list[AudioPage]) -> list[AudioChunk]:
    return [chunk for page in read for chunk in page.chunks]


def test_pages_hold_every_chunk_once_and_in_order(model: SileroModel, long_upload: bytes) -> None:
    read = pages(reader(long_upload, model))
    chunks = chunks_of(read)
    assert len(chunks) >= 4
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert all(page.chunks for page in read)
    assert {page.info for page in read} == {read[0].info}
    assert all(chunk.waveform.duration_s <= MAX_CHUNK_S for chunk in chunks)
    assert all(left.end_s <= right.offset_s for left, right in pairwise(chunks))
    assert chunks[-1].end_s <= read[0].info.duration_s + 0.001


def test_another_reader_gives_the_same_chunks(model: SileroModel, long_upload: bytes) -> None:
    first, second = (chunks_of(pages(reader(long_upload, model))) for _ in range(2))
    assert described(first) == described(second)


@pytest.mark.parametrize("first_chunk", [1, 2, 3])
def test_a_fresh_reader_goes_on_from_any_chunk(model: SileroModel, long_upload: bytes, first_chunk: int) -> None:
    whole = chunks_of(pages(reader(long_upload, model)))
    fresh = reader(long_upload, model)
    page = fresh.next_page(first_chunk)
    rest = [*page.chunks]
    while not page.is_last:
        page = fresh.next_page(fresh.position)
        rest += page.chunks
    assert described(rest) == described(whole[first_chunk:])


def test_no_more_is_read_than_was_asked_for(model: SileroModel, long_upload: bytes) -> None:
    one = reader(long_upload, model)
    page = one.next_page()
    assert not page.is_last
    assert one.position == page.chunks[-1].index + 1
    assert page.chunks[-1].end_s < page.info.duration_s / 2


def test_one_sentence_is_one_chunk(model: SileroModel) -> None:
    (chunk,) = chunks_of(pages(reader((DATA / "en-00.flac").read_bytes(), model)))
    assert chunk.waveform.duration_s > 1.5


def test_silence_has_no_chunks(model: SileroModel) -> None:
    (page,) = pages(reader(as_flac(np.zeros(20 * SAMPLE_RATE_HZ, np.float32)), model))
    assert (page.chunks, page.is_last) == ((), True)
    assert page.info.duration_s == 20


def test_a_tenth_of_a_second(model: SileroModel) -> None:
    assert pages(reader(as_flac(np.zeros(1_600, np.float32)), model))[-1].is_last


def test_what_cannot_be_used_raises_before_the_first_page(model: SileroModel) -> None:
    with pytest.raises(UndecodableAudio):
        reader(b"no audio", model)
    with pytest.raises(AudioTooShort):
        reader(as_flac(np.zeros(800, np.float32)), model)


def test_reading_stops_when_nobody_waits(model: SileroModel) -> None:
    upload = as_flac(np.zeros(300 * SAMPLE_RATE_HZ, np.float32))
    one = reader(upload, model)
    asked: list[bool] = []

    def is_cancelled() -> bool:
        asked.append(True)
        return True

    assert one.next_page(0, is_cancelled).chunks == ()
    assert len(asked) == 1
