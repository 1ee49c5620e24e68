import io
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from deployments.audio.decode import decode, read
from deployments.audio.reader import StretchReader, UploadReader, read_clip, read_recording
from deployments.audio.silero import SileroModel
from pipelines.audio import to_pcm
from pipelines.audio_types import (
    MAX_CHUNK_S,
    SAMPLE_RATE_HZ,
    AudioChunk,
    AudioPage,
    DecodeLimits,
    PcmSamples,
    Samples,
    VadOptions,
)
from pipelines.errors import AudioTooLong, AudioTooShort, UndecodableAudio

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


@pytest.mark.parametrize("peak_dbfs", [-6, -36, -50, -60])
def test_quiet_speech_is_found(model: SileroModel, peak_dbfs: float) -> None:
    loud = soundfile.read(DATA / "en-00.flac", dtype="float32")[0]
    quiet = loud * np.float32(10 ** (peak_dbfs / 20) / np.abs(loud).max())
    before, after = (pages(reader(as_flac(samples), model))[-1].chunks[0] for samples in (loud, quiet))
    assert abs(before.offset_s - after.offset_s) < 0.2
    assert abs(before.end_s - after.end_s) < 0.2
    assert np.abs(after.waveform.samples).max() < 10 ** ((peak_dbfs + 1) / 20)  # as it was


@pytest.mark.parametrize("peak_dbfs", [-6, -40, -60, -80])
def test_hiss_is_no_speech(model: SileroModel, peak_dbfs: float) -> None:
    hiss = np.random.default_rng(0).uniform(-1, 1, 25 * SAMPLE_RATE_HZ).astype(np.float32)
    assert pages(reader(as_flac(hiss * np.float32(10 ** (peak_dbfs / 20))), model))[-1].chunks == ()


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


DURATION_S = 135.588563
"""Of `long_upload`."""


def claiming(seconds: float, flac: bytes) -> bytes:
    """Its header (STREAMINFO) says that it is so long."""
    packed = int.from_bytes(flac[18:26], "big")
    claimed = packed >> 36 << 36 | round(seconds * SAMPLE_RATE_HZ)
    return flac[:18] + claimed.to_bytes(8, "big") + flac[26:]


@pytest.fixture
def is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What says to be longer than a minute is believed."""
    monkeypatch.setattr("deployments.audio.decode.LONG_S", 60.0)


@pytest.mark.usefixtures("is_long")
@pytest.mark.parametrize("claimed_s", [70.0, 90.0, 3_000.0])
def test_a_header_is_believed_until_all_is_read(model: SileroModel, long_upload: bytes, claimed_s: float) -> None:
    told = pages(reader(claiming(claimed_s, long_upload), model))
    right = pages(reader(long_upload, model))
    assert told[0].info.duration_s == claimed_s
    assert not told[0].info.is_measured
    assert told[-1].info.is_measured
    assert told[-1].info.duration_s == pytest.approx(DURATION_S, abs=1e-5)
    assert described(chunks_of(told)) == described(chunks_of(right))


@pytest.mark.parametrize("claimed_s", [0.0, 30.0, 300.0, 100_000.0])
def test_a_header_that_cannot_be_right_is_not_believed(
    model: SileroModel, long_upload: bytes, claimed_s: float
) -> None:
    info = reader(claiming(claimed_s, long_upload), model).info
    assert info.is_measured
    assert info.duration_s == pytest.approx(DURATION_S, abs=1e-5)


@pytest.mark.usefixtures("is_long")
def test_what_is_longer_than_its_header_says_and_than_it_may_be_is_refused_on_the_way(
    model: SileroModel, long_upload: bytes
) -> None:
    upload = claiming(70.0, long_upload)
    reading = UploadReader(upload, VadOptions(), model, DecodeLimits(max_duration_s=80.0))
    with pytest.raises(AudioTooLong, match="more than 90"):
        pages(reading)
    assert reading.position > 0


@pytest.mark.usefixtures("is_long")
def test_a_recording_is_as_long_as_its_samples(long_upload: bytes) -> None:
    recording = read_recording(claiming(70.0, long_upload), DecodeLimits())
    assert recording.info.is_measured
    assert recording.info.duration_s == pytest.approx(len(recording.pcm) / SAMPLE_RATE_HZ, abs=1e-5)
    assert recording.info.duration_s > 90


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


# windows

LIMITS = DecodeLimits()


@pytest.fixture(scope="module")
def decoded(long_upload: bytes) -> PcmSamples:
    return to_pcm(np.concatenate(list(decode(long_upload, LIMITS))))


@pytest.fixture
def block_lengths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of the blocks that were decoded so far."""
    lengths: list[int] = []

    def counting(*asked: Any) -> Iterator[Samples]:
        for block in decode(*asked):
            lengths.append(len(block))
            yield block

    monkeypatch.setattr("deployments.audio.reader.decode", counting)
    return lengths


def windows(reader: StretchReader, num_samples: int) -> list[PcmSamples]:
    read = [reader.next_stretch(0, num_samples)]
    while len(read[-1]) == num_samples:
        read.append(reader.next_stretch(reader.position, num_samples))
    return read


def cancelled_after(num_asked: int) -> Callable[[], bool]:
    asked = count(1)
    return lambda: next(asked) > num_asked


@pytest.mark.parametrize("num_samples", [9_999, 159_999, 160_000, 160_001, 400_000, 1_600_000, 100_000_000])
def test_joined_windows_are_all_samples(long_upload: bytes, decoded: PcmSamples, num_samples: int) -> None:
    reader = StretchReader(long_upload, LIMITS)
    read = windows(reader, num_samples)
    assert {window.dtype for window in read} == {np.dtype(np.int16)}
    assert {len(window) for window in read[:-1]} <= {num_samples}
    assert len(read[-1]) < num_samples
    np.testing.assert_array_equal(np.concatenate(read), decoded)
    assert reader.position == len(decoded)


@pytest.mark.parametrize("first", [0, 1, 159_999, 160_000, 160_001, 1_000_000])
def test_a_fresh_reader_goes_on_from_any_sample(long_upload: bytes, decoded: PcmSamples, first: int) -> None:
    reader = StretchReader(long_upload, LIMITS)
    np.testing.assert_array_equal(reader.next_stretch(first, 200_000), decoded[first : first + 200_000])
    assert reader.position == first + 200_000
    np.testing.assert_array_equal(reader.next_stretch(first + 200_000, 50_000), decoded[first + 200_000 :][:50_000])


def test_a_reader_skips_what_nobody_asks_for(long_upload: bytes, decoded: PcmSamples) -> None:
    reader = StretchReader(long_upload, LIMITS)
    for first in (5_000, 17_000, 500_000):
        np.testing.assert_array_equal(reader.next_stretch(first, 1_000), decoded[first : first + 1_000])


def test_the_last_window_is_short_and_behind_it_there_is_nothing(long_upload: bytes, decoded: PcmSamples) -> None:
    for first in (len(decoded) - 7, len(decoded), len(decoded) + 160_000):
        reader = StretchReader(long_upload, LIMITS)
        np.testing.assert_array_equal(reader.next_stretch(first, 1_000), decoded[first:])
        assert len(reader.next_stretch(reader.position, 1_000)) == 0


@pytest.mark.parametrize(("first", "num_samples"), [(0, 1), (0, 160_000), (30_000, 500_000), (700_000, 10)])
def test_no_more_is_decoded_than_was_asked_for(
    long_upload: bytes, block_lengths: list[int], first: int, num_samples: int
) -> None:
    reader = StretchReader(long_upload, LIMITS)
    assert block_lengths == []
    reader.next_stretch(first, num_samples)
    assert sum(block_lengths[:-1]) < first + num_samples <= sum(block_lengths)


def test_what_is_left_of_a_block_is_not_decoded_again(long_upload: bytes, block_lengths: list[int]) -> None:
    reader = StretchReader(long_upload, LIMITS)
    for first in range(0, 160_000, 16_000):
        reader.next_stretch(first, 16_000)
    assert len(block_lengths) == 1


def test_windows_hold_their_own_samples(long_upload: bytes) -> None:
    """A window that was a view of a block would keep all of it in memory."""
    reader = StretchReader(long_upload, LIMITS)
    for first in (0, 1_000):
        window = reader.next_stretch(first, 1_000)
        base = window if window.base is None else window.base
        assert base.nbytes == window.nbytes


@pytest.mark.parametrize("num_asked", [0, 1, 3])
def test_reading_a_window_stops_when_nobody_waits(
    long_upload: bytes, decoded: PcmSamples, block_lengths: list[int], num_asked: int
) -> None:
    reader = StretchReader(long_upload, LIMITS)
    window = reader.next_stretch(0, 10_000_000, cancelled_after(num_asked))
    assert len(block_lengths) == num_asked
    assert len(window) == sum(block_lengths) == reader.position
    np.testing.assert_array_equal(window, decoded[: len(window)])


def test_skipping_to_a_window_stops_when_nobody_waits(long_upload: bytes, block_lengths: list[int]) -> None:
    reader = StretchReader(long_upload, LIMITS)
    assert len(reader.next_stretch(1_500_000, 100, cancelled_after(2))) == 0
    assert len(block_lengths) == 2


def test_windows_of_what_is_no_audio() -> None:
    with pytest.raises(UndecodableAudio):
        StretchReader(b"no audio", LIMITS).next_stretch(0, 100)


def test_to_pcm() -> None:
    samples = np.array([-1, -0.5, 0, 1 / 32_767, 0.4 / 32_767, 0.6 / 32_767, 1], np.float32)
    np.testing.assert_array_equal(to_pcm(samples), np.array([-32_767, -16_384, 0, 1, 0, 1, 32_767], np.int16))


def test_the_loudest_audio_keeps_its_sign() -> None:
    """As any clipped recording: sharp edges ring when they are resampled."""
    square = np.sign(np.sin(2 * np.pi * 317 * np.arange(44_100) / 44_100)).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, square, 44_100, format="WAV", subtype="PCM_16")
    samples = np.concatenate(list(decode(file.getvalue(), LIMITS)))
    pcm = StretchReader(file.getvalue(), LIMITS).next_stretch(0, len(samples))
    np.testing.assert_allclose(pcm / 32_767, np.clip(samples, -1, 1), atol=1e-4)


# clips


def speech_s(upload: bytes, model: SileroModel) -> float:
    return read_clip(upload, model, LIMITS).speech.duration_s


def sentence() -> Samples:
    return np.asarray(soundfile.read(DATA / "en-00.flac", dtype="float32")[0], np.float32)


def silence(length_s: float) -> Samples:
    return np.zeros(round(length_s * SAMPLE_RATE_HZ), np.float32)


def test_a_clip_is_what_is_spoken_in_it(model: SileroModel) -> None:
    spoken = sentence()
    upload = as_flac(np.concatenate([silence(3), spoken, silence(2), spoken, silence(4)]))
    clip = read_clip(upload, model, LIMITS)
    assert clip.info.duration_s == pytest.approx(9 + 2 * len(spoken) / SAMPLE_RATE_HZ, abs=0.001)
    assert clip.info.container == "flac"
    alone_s = speech_s(as_flac(spoken), model)
    assert 1.5 < alone_s <= len(spoken) / SAMPLE_RATE_HZ
    assert clip.speech.duration_s == pytest.approx(2 * alone_s, abs=1.0)
    assert clip.speech.samples.dtype == np.float32
    loud = np.abs(clip.speech.samples) > 0.01
    assert np.diff(np.flatnonzero(loud)).max() < 0.8 * SAMPLE_RATE_HZ


def test_a_clip_s_speech_is_cut_out_exactly(model: SileroModel) -> None:
    """Not a sample of it is made up or moved within what is spoken."""
    spoken = np.concatenate([silence(2), sentence(), silence(2)])
    clip = read_clip(as_flac(spoken), model, LIMITS)
    heard = clip.speech.samples
    start = int(np.abs(spoken).argmax() - np.abs(heard).argmax())
    np.testing.assert_allclose(heard, spoken[start : start + len(heard)], atol=1e-4)


def test_a_long_clip_is_read_to_its_end(long_upload: bytes, model: SileroModel) -> None:
    clip = read_clip(long_upload, model, LIMITS)
    chunks = chunks_of(pages(reader(long_upload, model)))
    spoken_s = sum(part.end_s - part.start_s for chunk in chunks for part in chunk.speech)
    assert len(chunks) >= 4
    assert clip.speech.duration_s == pytest.approx(spoken_s, abs=0.01)


@pytest.mark.parametrize("length_s", [0.1, 3, 40])
def test_silence_says_nothing(model: SileroModel, length_s: float) -> None:
    clip = read_clip(as_flac(silence(length_s)), model, LIMITS)
    assert clip.info.duration_s == pytest.approx(length_s)
    assert clip.speech.samples.shape == (0,)
    assert clip.speech.samples.dtype == np.float32


def test_noise_says_nothing(model: SileroModel) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * SAMPLE_RATE_HZ).astype(np.float32)
    assert speech_s(as_flac(noise), model) == 0


def test_a_clip_of_the_wrong_length(model: SileroModel) -> None:
    limits = DecodeLimits(max_duration_s=10)
    with pytest.raises(AudioTooShort):
        read_clip(as_flac(silence(0.05)), model, limits)
    with pytest.raises(AudioTooLong, match="at most 10 s"):
        read_clip(as_flac(silence(10.1)), model, limits)
    assert read_clip(as_flac(silence(10)), model, limits).info.duration_s == 10


@pytest.mark.parametrize("upload", [b"", b"no audio", b"RIFF\x00\x00\x00\x00WAVE"])
def test_a_clip_that_is_no_audio(model: SileroModel, upload: bytes) -> None:
    with pytest.raises(UndecodableAudio):
        read_clip(upload, model, LIMITS)


# recordings


def test_a_recording_is_all_of_it(long_upload: bytes, decoded: PcmSamples) -> None:
    recording = read_recording(long_upload, LIMITS)
    np.testing.assert_array_equal(recording.pcm, decoded)
    assert recording.pcm.dtype == np.int16
    assert recording.info.duration_s == pytest.approx(len(decoded) / SAMPLE_RATE_HZ, abs=0.001)
    assert (recording.info.container, recording.info.codec) == ("flac", "flac")


def test_silence_stays_in_a_recording() -> None:
    spoken = to_pcm(sentence())
    whole = np.concatenate([silence(3), sentence(), silence(2)])
    pcm = read_recording(as_flac(whole), LIMITS).pcm
    assert len(pcm) == len(whole)
    assert not pcm[: 3 * SAMPLE_RATE_HZ].any()
    assert not pcm[-2 * SAMPLE_RATE_HZ :].any()
    np.testing.assert_allclose(pcm[3 * SAMPLE_RATE_HZ :][: len(spoken)], spoken, atol=1)


def test_a_recording_of_nothing_but_silence() -> None:
    recording = read_recording(as_flac(silence(0.1)), LIMITS)
    assert len(recording.pcm) == 1_600
    assert not recording.pcm.any()


@pytest.mark.parametrize(("rate_hz", "num_channels"), [(8_000, 1), (44_100, 2), (48_000, 6)])
def test_a_recording_has_one_rate_and_one_channel(rate_hz: int, num_channels: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(2 * rate_hz) / rate_hz).astype(np.float32) * 0.5
    file = io.BytesIO()
    soundfile.write(file, np.repeat(tone[:, None], num_channels, axis=1), rate_hz, format="WAV", subtype="PCM_16")
    recording = read_recording(file.getvalue(), LIMITS)
    assert recording.info.duration_s == pytest.approx(2.0, abs=0.001)
    assert len(recording.pcm) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=SAMPLE_RATE_HZ * 0.01)
    spectrum = np.abs(np.fft.rfft(recording.pcm))
    assert spectrum.argmax() * SAMPLE_RATE_HZ / len(recording.pcm) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("num_asked", [0, 1, 2])
def test_reading_a_recording_stops_when_nobody_waits(long_upload: bytes, num_asked: int) -> None:
    """First all of it is decoded once to see whether it is good, which is not counted here."""
    block_lengths = [len(block) for block in decode(long_upload, LIMITS)]
    num_probed = count_of_questions(long_upload)
    recording = read_recording(long_upload, LIMITS, cancelled_after(num_probed + num_asked))
    assert len(recording.pcm) == sum(block_lengths[:num_asked])


def count_of_questions(upload: bytes) -> int:
    """How often it is asked whether anybody waits before the first block."""
    asked = []
    read(upload, LIMITS, lambda: bool(asked.append(True)))
    return len(asked)


def test_a_recording_has_the_limits_of_what_asks() -> None:
    limits = DecodeLimits(max_duration_s=10)
    with pytest.raises(AudioTooShort):
        read_recording(as_flac(silence(0.05)), limits)
    with pytest.raises(AudioTooLong, match="at most 10 s"):
        read_recording(as_flac(silence(10.1)), limits)
    assert read_recording(as_flac(silence(10)), limits).info.duration_s == 10


@pytest.mark.parametrize("upload", [b"", b"no audio", b"RIFF\x00\x00\x00\x00WAVE"])
def test_a_recording_that_is_no_audio(upload: bytes) -> None:
    with pytest.raises(UndecodableAudio):
        read_recording(upload, LIMITS)


def test_trf_07_speech_ends_with_the_audio(model: SileroModel) -> None:
    """The model hears frames of 32 ms, the last one filled up with silence: this ended 9 ms behind it."""
    samples, rate_hz = soundfile.read(DATA / "en-00.flac", dtype="float32")
    cut = soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ)[:32_258]
    reading = UploadReader(as_flac(cut), VadOptions(silence_duration_ms=10), model, DecodeLimits())
    ends = [speech.end_s for chunk in chunks_of(pages(reading)) for speech in chunk.speech]
    assert ends[-1] == pytest.approx(len(cut) / SAMPLE_RATE_HZ)
    assert ends[-1] <= len(cut) / SAMPLE_RATE_HZ
