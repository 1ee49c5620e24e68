import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile

from deployments.audio.decode import decode, probe
from deployments.audio.libav import open_libav
from deployments.audio.memory_file import UploadBytes
from deployments.audio.source import MAX_PIECE_VALUES, Source
from deployments.audio.wave import CODECS, open_wave
from pipelines.audio_types import DecodeLimits, Samples
from pipelines.errors import InvalidRequest, UndecodableAudio

CLIP = Path(__file__).parent.parent.parent / "data" / "en-00.flac"
LIMITS = DecodeLimits()


def wav(subtype: str = "PCM_16", num_channels: int = 1, container: str = "WAV") -> bytes:
    samples, rate_hz = soundfile.read(CLIP, dtype="float32")
    file = BytesIO()
    scales = np.linspace(1.0, 0.5, num_channels, dtype=np.float32)
    soundfile.write(file, samples[:, None] * scales, rate_hz, format=container, subtype=subtype)
    return file.getvalue()


def read(source: Source) -> Samples:
    return np.concatenate([piece.samples for piece in source.pieces()])


def by_soundfile(upload: UploadBytes) -> tuple[str, str, Samples]:
    with open_wave(upload, LIMITS) as source:
        assert source is not None
        return source.container, source.codec, read(source)


def by_libav(upload: bytes) -> tuple[str, str, Samples]:
    with open_libav(upload, LIMITS) as source:
        return source.container, source.codec, read(source)


def check_equal(upload: bytes) -> None:
    *names, samples = by_soundfile(memoryview(upload))
    *others, expected = by_libav(upload)
    assert names == others
    np.testing.assert_array_equal(samples, expected)
    assert len(samples) > 1_000


@pytest.mark.parametrize("num_channels", [1, 2, 3])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", CODECS)
def test_both_readers_give_the_same(subtype: str, container: str, num_channels: int) -> None:
    check_equal(wav(subtype, num_channels, container))


WAV = wav()
HEADER = WAV.index(b"data") + 8


def claiming(riff_size: int, data_size: int) -> bytes:
    return WAV[:4] + struct.pack("<I", riff_size) + WAV[8 : HEADER - 4] + struct.pack("<I", data_size) + WAV[HEADER:]


ODD_FILES: dict[str, bytes] = {
    "a recorder's that never ended": claiming(0xFFFFFFFF, 0xFFFFFFFF),
    "a size beyond the file": claiming(0x7FFFFFFF, 0x7FFFFFFF),
    "a size of half the file": claiming(len(WAV) - 8, (len(WAV) - HEADER) // 4 * 2),
    "cut within a sample": WAV[:-1],
    "cut in the middle": WAV[: len(WAV) // 2],
    "a chunk before": WAV[:12] + b"JUNK\x1c\0\0\0" + bytes(28) + WAV[12:],
    "a chunk of odd size before": WAV[:12] + b"bext\x03\0\0\0abc\0" + WAV[12:],
    "a chunk behind": WAV + b"LIST\x04\0\0\0INFO",
    "zeros behind": WAV + bytes(5_000),
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_odd_files_are_read_alike(name: str) -> None:
    check_equal(ODD_FILES[name])


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_compressed_samples_are_left_to_libav(subtype: str) -> None:
    upload = wav(subtype)
    with open_wave(upload, LIMITS) as source:
        assert source is None
    assert probe(upload, LIMITS).duration_s > 2


@pytest.mark.parametrize("riff_size", [0, len(WAV) - 8])
def test_a_header_without_a_length_is_left_to_libav(riff_size: int) -> None:
    upload = claiming(riff_size, 0)
    with open_wave(upload, LIMITS) as source:
        assert source is None
    assert probe(upload, LIMITS) == probe(WAV, LIMITS)


@pytest.mark.parametrize(
    "upload", [b"", b"RIFF", WAV + WAV, WAV[:HEADER], b"RIFX" + WAV[4:], b"fLaC" + WAV[4:], WAV[1:]]
)
def test_what_is_no_wav_is_left_to_libav(upload: bytes) -> None:
    with open_wave(upload, LIMITS) as source:
        assert source is None


def test_the_limits_hold() -> None:
    with pytest.raises(UndecodableAudio, match="2 channels"), open_wave(wav("PCM_16", 2), DecodeLimits(max_channels=1)):
        pass
    limits = DecodeLimits(max_sample_rate_hz=8_000)
    with pytest.raises(UndecodableAudio, match="16000 Hz"), open_wave(WAV, limits):
        pass


@pytest.mark.parametrize("num_channels", [1, 7, 64])
def test_pieces_are_bounded(num_channels: int) -> None:
    with open_wave(wav("PCM_16", num_channels), LIMITS) as source:
        assert source is not None
        shapes = [piece.samples.shape for piece in source.pieces()]
    assert len(shapes) > 1
    assert max(length for length, _ in shapes) <= 16_000
    assert max(length * channels for length, channels in shapes) <= MAX_PIECE_VALUES


def outcome(read: Callable[[], float]) -> float:
    try:
        return read()
    except InvalidRequest:
        return 0.0


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "ULAW"])
def test_damaged_headers_give_what_was_probed_or_a_refusal(subtype: str) -> None:
    generator = np.random.default_rng(0)
    whole = wav(subtype)
    lengths = []
    for _ in range(100):
        damaged = bytearray(whole)
        for position in generator.integers(4, HEADER + 20, generator.integers(1, 6)):
            damaged[position] = generator.choice([0, 127, 128, 255])
        upload = bytes(damaged)
        probed_s = outcome(lambda upload=upload: probe(upload, LIMITS).duration_s)
        if probed_s:
            assert sum(len(block) for block in decode(upload, LIMITS)) / 16_000 == pytest.approx(probed_s, abs=0.01)
        lengths.append(probed_s)
    assert any(lengths)
