import io
import struct
import subprocess
import sys
import tracemalloc
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from scipy.signal import fftconvolve, resample_poly

from deployments.audio.decode import BLOCK_S, LONG_S, decode, kept_bytes, probe, read
from pipelines.audio_types import SAMPLE_RATE_HZ, DecodeLimits, Samples
from pipelines.errors import AudioTooLong, AudioTooShort, InvalidRequest, UndecodableAudio

ROOT = Path(__file__).parent.parent.parent.parent
DATA = ROOT / "tests" / "data"
LIMITS = DecodeLimits()

FFMPEG_WORDS = ("ffmpeg", "libav", "avcodec", "errno", "averror", "invalid data found", "[", "0x", "traceback")


def speech() -> Samples:
    samples, rate_hz = soundfile.read(DATA / "en-00.flac", dtype="float32")
    assert rate_hz == SAMPLE_RATE_HZ
    mono: Samples = samples / np.abs(samples).max() * 0.7
    return mono


SPEECH = speech()
DURATION_S = len(SPEECH) / SAMPLE_RATE_HZ


def at_rate(samples: Samples, rate_hz: int) -> Samples:
    ratio = Fraction(rate_hz, SAMPLE_RATE_HZ)
    resampled: Samples = resample_poly(samples, ratio.numerator, ratio.denominator).astype(np.float32)
    return resampled


BIT_RATES = {"wmav1": 128_000, "wmav2": 128_000, "libopencore_amrnb": 12_200}
"""Encoders without a usable default."""


def encode(
    container_format: str,
    codec: str,
    rate_hz: int = 48_000,
    layout: str = "mono",
    samples: Samples = SPEECH,
    with_video: bool = False,
    **options: str,
) -> bytes:
    """A file made by PyAV; every channel holds the same."""
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        video = _add_video(container) if with_video else None
        stream = container.add_stream(codec, rate=rate_hz, options=options)
        assert isinstance(stream, AudioStream)
        stream.layout = layout
        context = stream.codec_context
        if codec in BIT_RATES:
            context.bit_rate = BIT_RATES[codec]
        context.open()
        resampler = AudioResampler(context.format, layout, rate_hz, frame_size=context.frame_size)
        interleaved = np.repeat(at_rate(samples, rate_hz), stream.layout.nb_channels)[None]
        frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
        frame.rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        if video is not None:
            _write_video(container, video)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return file.getvalue()


def _add_video(container: Any) -> VideoStream:
    video = container.add_stream("mpeg4", rate=10)
    assert isinstance(video, VideoStream)
    video.width = video.height = 64
    video.pix_fmt = "yuv420p"
    return video


def _write_video(container: Any, video: VideoStream) -> None:
    for number in range(round(DURATION_S * 10)):
        image = np.full((64, 64, 3), number * 8 % 255, np.uint8)
        container.mux(video.encode(av.VideoFrame.from_ndarray(image)))
    container.mux(video.encode(None))


def wav(samples: Samples = SPEECH, rate_hz: int = SAMPLE_RATE_HZ, container: str = "WAV", subtype: str = "") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=container, subtype=subtype or None)
    return file.getvalue()


def decoded(upload: bytes, limits: DecodeLimits = LIMITS) -> Samples:
    return np.concatenate([np.zeros(0, np.float32), *decode(upload, limits)])


def likeness(samples: Samples, original: Samples = SPEECH) -> float:
    """Normalised correlation at the best lag: codecs delay."""
    correlation = fftconvolve(samples, original[::-1])
    return float(correlation.max() / (np.linalg.norm(samples) * np.linalg.norm(original)))


def check_speech(upload: bytes, at_least: float) -> None:
    info = probe(upload, LIMITS)
    samples = decoded(upload)
    assert info.duration_s == pytest.approx(DURATION_S, abs=0.1)
    assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(info.duration_s, abs=0.001)
    assert samples.dtype == np.float32
    assert np.abs(samples).max() <= 1.0
    assert likeness(samples) > at_least


@cache
def speech_as(container_format: str, codec: str, rate_hz: int = 48_000) -> bytes:
    return encode(container_format, codec, rate_hz)


# container, codec, rate, and how like the original it must be
ENCODINGS = [
    ("flac", "flac", 16_000, 0.99),
    ("flac", "flac", 44_100, 0.99),
    ("ogg", "flac", 48_000, 0.99),
    ("oga", "flac", 48_000, 0.99),
    ("mp3", "libmp3lame", 44_100, 0.97),
    ("mp3", "libmp3lame", 16_000, 0.97),
    ("mp2", "mp2", 44_100, 0.97),
    ("mpeg", "mp2", 48_000, 0.97),
    ("mpeg", "libmp3lame", 48_000, 0.97),
    ("mpegts", "aac", 48_000, 0.97),
    ("mp4", "aac", 44_100, 0.97),
    ("ipod", "aac", 48_000, 0.97),
    ("ipod", "alac", 44_100, 0.99),
    ("mov", "pcm_s16le", 44_100, 0.99),
    ("3gp", "aac", 16_000, 0.97),
    ("adts", "aac", 44_100, 0.97),
    ("ogg", "libopus", 48_000, 0.95),
    ("opus", "libopus", 48_000, 0.95),
    ("oga", "libopus", 48_000, 0.95),
    ("webm", "libopus", 48_000, 0.95),
    ("matroska", "flac", 48_000, 0.99),
    ("amr", "libopencore_amrnb", 8_000, 0.8),
    ("asf", "wmav2", 44_100, 0.95),
    ("asf", "wmav1", 44_100, 0.95),
    ("caf", "pcm_s16be", 44_100, 0.99),
    ("caf", "alac", 44_100, 0.99),
    ("aiff", "pcm_s16be", 44_100, 0.99),
    ("au", "pcm_s16be", 44_100, 0.99),
    ("w64", "pcm_s16le", 44_100, 0.99),
    ("wav", "pcm_u8", 44_100, 0.98),
    ("wav", "pcm_s16le", 44_100, 0.99),
    ("wav", "pcm_s24le", 44_100, 0.99),
    ("wav", "pcm_s32le", 44_100, 0.99),
    ("wav", "pcm_f32le", 44_100, 0.99),
    ("wav", "pcm_f64le", 44_100, 0.99),
    ("wav", "pcm_alaw", 8_000, 0.95),
    ("wav", "pcm_mulaw", 8_000, 0.95),
    ("wav", "adpcm_ms", 16_000, 0.95),
    ("wav", "adpcm_ima_wav", 16_000, 0.95),
    ("flv", "libmp3lame", 44_100, 0.97),
    ("avi", "libmp3lame", 44_100, 0.97),
    ("ac3", "ac3", 48_000, 0.95),
    ("eac3", "eac3", 48_000, 0.95),
]


@pytest.mark.parametrize(("container", "codec", "rate_hz", "at_least"), ENCODINGS)
def test_every_container_and_codec(container: str, codec: str, rate_hz: int, at_least: float) -> None:
    check_speech(speech_as(container, codec, rate_hz), at_least)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("WAV", "PCM_24"),
        ("WAVEX", "PCM_24"),
        ("RF64", "PCM_16"),
        ("CAF", "PCM_24"),
        ("CAF", "ALAC_16"),
        ("AIFF", "FLOAT"),
    ],
)
def test_what_other_writers_make(container: str, subtype: str) -> None:
    check_speech(wav(container=container, subtype=subtype), 0.95)


def test_amr_wide_band() -> None:
    """Frames of 6.6 kbit/s written by hand: what they sound like nobody knows, but how long they are."""
    upload = b"#!AMR-WB\n" + (b"\x04" + bytes(17)) * 150
    assert probe(upload, LIMITS).duration_s == pytest.approx(3.0)
    assert len(decoded(upload)) == 3 * SAMPLE_RATE_HZ


@pytest.mark.skipif(
    "libvo_amrwbenc" not in av.codec.codecs_available, reason="PyAV's wheels decode AMR-WB but cannot make it"
)
def test_amr_wide_band_speech() -> None:
    check_speech(encode("amr", "libvo_amrwbenc", 16_000), 0.8)


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("matroska", "libopus"), ("mov", "aac"), ("avi", "mp2"), ("mpegts", "mp2")]
)
def test_the_sound_of_a_video(container: str, codec: str) -> None:
    check_speech(encode(container, codec, 48_000, with_video=True), 0.95)


def test_a_video_without_sound() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        _write_video(container, _add_video(container))
    with pytest.raises(UndecodableAudio, match="no audio track"):
        probe(file.getvalue(), LIMITS)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 48_000, 88_200, 96_000, 192_000])
def test_every_sample_rate(rate_hz: int) -> None:
    check_speech(wav(at_rate(SPEECH, rate_hz), rate_hz), 0.98)


@pytest.mark.parametrize("num_channels", range(1, 8))
@pytest.mark.parametrize("container", ["WAV", "FLAC", "AIFF"])
def test_every_number_of_channels(num_channels: int, container: str) -> None:
    upload = wav(np.tile(SPEECH[:, None], (1, num_channels)), container=container)
    check_speech(upload, 0.98)
    if container != "FLAC" or num_channels < 3:  # in FLAC they have places, and levels
        assert np.abs(decoded(upload)).max() == pytest.approx(np.abs(SPEECH).max(), rel=0.02)


DECODE = """
import sys
import numpy as np
from deployments.audio.decode import decode
from pipelines.audio_types import DecodeLimits
blocks = list(decode(open(sys.argv[1], "rb").read(), DecodeLimits()))
np.save(sys.argv[2], np.concatenate(blocks))
"""


def decoded_elsewhere(upload: bytes, directory: Path) -> Samples:
    """In a process of its own: PyAV has read beyond its memory with 8 planes and more."""
    source, target = directory / "upload", directory / "samples.npy"
    source.write_bytes(upload)
    done = subprocess.run([sys.executable, "-c", DECODE, str(source), str(target)], cwd=ROOT, check=False)
    assert done.returncode == 0, f"the decoder's process died: {done.returncode}"
    samples: Samples = np.load(target)
    return samples


@pytest.mark.parametrize(
    ("container", "num_channels"), [("WAV", 8), ("FLAC", 8), ("AIFF", 8), ("WAV", 9), ("WAV", 16), ("WAV", 64)]
)
def test_many_channels(container: str, num_channels: int, tmp_path: Path) -> None:
    scales = np.linspace(0, 1, num_channels, dtype=np.float32)
    samples = decoded_elsewhere(wav(SPEECH[:, None] * scales, container=container), tmp_path)
    if container == "FLAC":
        assert likeness(samples) > 0.99
    else:
        assert samples == pytest.approx(SPEECH / 2, abs=1e-3)


@pytest.mark.parametrize("layout", ["stereo", "5.1", "7.1"])
def test_every_layout(layout: str, tmp_path: Path) -> None:
    samples = decoded_elsewhere(encode("mp4", "aac", 48_000, layout), tmp_path)
    assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(DURATION_S, abs=0.1)
    assert likeness(samples) > 0.95


def test_channels_are_mixed_by_their_mean() -> None:
    silent = np.zeros_like(SPEECH)
    samples = decoded(wav(np.stack([SPEECH, silent, silent, silent], axis=1), subtype="FLOAT"))
    assert samples == pytest.approx(SPEECH / 4, abs=1e-4)


def test_trp_01_channels_that_cancel_are_heard() -> None:
    """As on a call recorder one of whose sides is inverted, but only in the second half of the call; a constant and a
    hum that both sides have hide nothing."""
    both = np.tile(SPEECH, 2)
    sign = np.where(np.arange(len(both)) < len(SPEECH), 1, -1)
    hum = 0.1 + 0.1 * np.sin(2 * np.pi * 50 * np.arange(len(both)) / SAMPLE_RATE_HZ)
    upload = wav(np.stack([0.7 * both + hum, 0.7 * both * sign + hum], axis=1).astype(np.float32))
    samples = decoded(upload) - hum
    assert likeness(samples[: len(SPEECH)]) > 0.95
    assert likeness(samples[len(SPEECH) + SAMPLE_RATE_HZ :], SPEECH[SAMPLE_RATE_HZ:]) > 0.9


@pytest.mark.parametrize("container", ["WAVEX", "FLAC"])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_trp_01_a_listener_s_levels_in_5_1(container: str, place: int) -> None:
    """Who speaks from the centre is as loud as on a television in stereo, and the rumble of explosions is left out."""
    channels = np.zeros((len(SPEECH), 6), np.float32)
    channels[:, place] = SPEECH
    channels[:, 3] = 0.9 * np.sin(np.arange(len(SPEECH)) / 50)
    upload = wav(channels, container=container)
    if container == "WAVEX":  # soundfile leaves the mask empty
        at = upload.index(b"fmt ") + 28
        upload = upload[:at] + (0x3F).to_bytes(4, "little") + upload[at + 4 :]
    level = {0: 0.5, 2: 0.5**0.5, 4: 0.125**0.5}[place]
    assert decoded(upload) == pytest.approx(SPEECH * level, abs=1e-3)


def test_sixteen_bits_at_the_own_rate_come_through_unchanged() -> None:
    samples = decoded(wav())
    assert np.abs(samples - np.round(SPEECH * 32_768) / 32_768).max() < 1e-4


def test_samples_out_of_range_are_clipped_and_those_that_are_no_numbers_are_silence() -> None:
    loud = np.full(SAMPLE_RATE_HZ, 7.0, np.float32)
    loud[4_000:8_000], loud[8_000:12_000], loud[12_000:] = np.nan, np.inf, -np.inf
    samples = decoded(wav(loud, subtype="FLOAT"))
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1.2  # the resampler may ring a little


def test_the_name_of_container_and_codec() -> None:
    info = probe(speech_as("webm", "libopus"), LIMITS)
    assert ("webm" in info.container, info.codec) == (True, "opus")


def test_the_container_is_recognised_by_its_bytes_alone() -> None:
    assert probe(wav(container="FLAC"), LIMITS).codec == "flac"


def test_two_chained_ogg_streams_are_one_after_the_other() -> None:
    upload = wav(container="OGG", subtype="VORBIS") * 2
    assert probe(upload, LIMITS).duration_s == pytest.approx(2 * DURATION_S, abs=0.2)
    assert likeness(decoded(upload)[: len(SPEECH)]) > 0.9


# Hostile


def refused(upload: bytes, limits: DecodeLimits = LIMITS) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        probe(upload, limits)
    error = caught.value
    with pytest.raises(type(error)) as caught_by_read:
        read(upload, limits)
    assert caught_by_read.value.message == error.message
    assert error.param == "file"
    assert error.message.endswith(".")
    assert not any(word in error.message.lower() for word in FFMPEG_WORDS), error.message
    return error


HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n%s\n#EXT-X-ENDLIST\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
SDP = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
NOT_AUDIO = {
    "one byte": b"\0",
    "zeros": bytes(100_000),
    "text": b"We meet at ten o'clock in Madrid. " * 1_000,
    "json": b'{"audio": "no"}',
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "an HLS playlist of a file": HLS % b"file:///etc/passwd",
    "an HLS playlist of an address": HLS % b"http://127.0.0.1:9/a.ts",
    "an HLS playlist of data": HLS % b"data:audio/mpeg;base64,AAAA",
    "an ffconcat script": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "a DASH manifest": b'<?xml version="1.0"?><MPD><Period><BaseURL>http://127.0.0.1:9/</BaseURL></Period></MPD>',
    "an SDP description": SDP,
    "an M3U list": b"#EXTM3U\n/etc/passwd\n",
    "subtitles": b"1\n00:00:00,000 --> 00:00:01,000\nHello\n\n" * 50,
    "SVG": SVG,
    "PNG": PNG,
    "a ZIP archive": b"PK\x03\x04" + bytes(200),
    "PDF": b"%PDF-1.7\n" + bytes(200),
}


def test_an_empty_file() -> None:
    error = refused(b"")
    assert isinstance(error, UndecodableAudio)
    assert error.message == "The file is empty."


@pytest.mark.parametrize("name", NOT_AUDIO)
def test_what_is_not_audio(name: str) -> None:
    refused(NOT_AUDIO[name])


def survive(upload: bytes) -> float:
    """Decoded seconds, 0.0 when refused; anything but a refusal fails the test."""
    try:
        info, blocks = read(upload, LIMITS)
    except InvalidRequest:
        refused(upload)
        return 0.0
    samples = np.concatenate([np.zeros(0, np.float32), *blocks])
    assert info.duration_s == pytest.approx(probe(upload, LIMITS).duration_s, abs=2e-6)  # added up in another order
    assert np.array_equal(samples, decoded(upload))
    assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(info.duration_s, abs=0.01)
    assert np.isfinite(samples).all()
    return info.duration_s


@pytest.mark.parametrize("share", [0.01, 0.5, 0.98])
@pytest.mark.parametrize(("container", "codec", "rate_hz", "_"), ENCODINGS)
def test_truncated_files_give_a_part_or_a_refusal(
    container: str, codec: str, rate_hz: int, _: float, share: float
) -> None:
    whole = speech_as(container, codec, rate_hz)
    assert survive(whole[: int(len(whole) * share)]) <= DURATION_S + 0.1


@pytest.mark.parametrize("container", ["wav", "flac", "mp3", "adts", "ogg", "webm"])
def test_streamable_containers_give_what_there_is(container: str) -> None:
    codec = {"wav": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame", "adts": "aac"}.get(container, "libopus")
    whole = speech_as(container, codec)
    assert survive(whole[: len(whole) // 2]) > DURATION_S / 4


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz", "_"),
    [row for row in ENCODINGS if row[0] in {"flac", "mp3", "mp4", "ogg", "webm"}],
)
def test_flipped_bytes_in_the_middle_are_survived(container: str, codec: str, rate_hz: int, _: float) -> None:
    whole = bytearray(speech_as(container, codec, rate_hz))
    generator = np.random.default_rng(0)
    for position in generator.integers(len(whole) // 4, len(whole), 50):
        whole[position] = generator.integers(256)
    survive(bytes(whole))


@pytest.mark.parametrize(("container", "codec", "rate_hz", "_"), ENCODINGS)
def test_damaged_headers_are_survived(container: str, codec: str, rate_hz: int, _: float) -> None:
    whole = speech_as(container, codec, rate_hz)
    generator = np.random.default_rng(0)
    for _attempt in range(25):
        damaged = bytearray(whole)
        for position in generator.integers(0, min(len(whole), 400), generator.integers(1, 30)):
            damaged[position] = generator.integers(256)
        with suppress(InvalidRequest):
            probe(bytes(damaged), LIMITS)


def test_a_packet_of_a_track_that_no_table_declares() -> None:
    whole = speech_as("mpegts", "aac")
    first_of_a_frame = [at for at in range(0, len(whole), 188) if whole[at + 1 : at + 3] == b"\x41\x00"]
    assert len(first_of_a_frame) > 10
    for at in first_of_a_frame[1:]:
        assert survive(whole[: at + 2] + b"\xe7" + whole[at + 3 :]) > DURATION_S / 2


MAGICS = {
    "wav": b"RIFF\xff\xff\xff\xffWAVEfmt ",
    "wav data": b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data"
    + b"\xff" * 4,
    "flac": b"fLaC\0\0\0\x22",
    "ogg": b"OggS\0\x02",
    "opus": b"OggS\0\x02" + bytes(8) + b"\x01\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead",
    "mp3": b"ID3\x04\0\0\0\0\0\0\xff\xfb\x90\x64",
    "aac": b"\xff\xf1\x50\x80\x02\x1f\xfc",
    "mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2mp41\0\0\0\x08free",
    "moov": b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42\x7f\xff\xff\xffmoov",
    "webm": b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm",
    "asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "amr": b"#!AMR\n",
    "amr-wb": b"#!AMR-WB\n",
    "aiff": b"FORM\xff\xff\xff\xffAIFFCOMM",
    "caf": b"caff\0\1\0\0desc",
    "au": b".snd\0\0\0\x18\xff\xff\xff\xff\0\0\0\x03",
    "mpegts": b"G@\x11\x10" + bytes(184),
    "mpeg": b"\0\0\x01\xba",
    "flv": b"FLV\x01\x05\0\0\0\x09",
    "ac3": b"\x0bw",
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MAGICS)
def test_noise_after_valid_magic(name: str, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, 60_000, np.uint8).tobytes()
    survive(MAGICS[name] + noise)


def forged(rate_hz: int = SAMPLE_RATE_HZ, num_channels: int = 1, num_bits: int = 16, num_bytes: int = 64_000) -> bytes:
    """A WAV file whose header may say anything."""
    align = num_channels * num_bits // 8 & 0xFFFF
    header = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", 36 + num_bytes, b"WAVE", b"fmt ", 16, 1, num_channels, rate_hz,
        rate_hz * align & 0xFFFFFFFF, align, num_bits,
    )  # fmt: skip
    return header + struct.pack("<4sI", b"data", num_bytes) + bytes(num_bytes)


def test_an_honest_header_is_believed() -> None:
    assert probe(forged(), LIMITS).duration_s == pytest.approx(2.0)


@pytest.mark.parametrize("rate_hz", [1, 999, 768_001, 2**31 - 1])
def test_forged_sample_rates(rate_hz: int) -> None:
    assert f"{rate_hz} Hz" in refused(forged(rate_hz)).message


@pytest.mark.parametrize("rate_hz", [0, 2**31, 2**32 - 1])
def test_sample_rates_that_no_int_holds(rate_hz: int) -> None:
    refused(forged(rate_hz))


def test_the_limits_of_rate_and_channels_are_the_server_s() -> None:
    limits = DecodeLimits(max_channels=2, max_sample_rate_hz=48_000)
    assert probe(forged(48_000, 2), limits).duration_s > 0
    assert "96000 Hz" in refused(forged(96_000), limits).message
    assert "3 channels" in refused(forged(num_channels=3), limits).message


@pytest.mark.parametrize("num_channels", [65, 1_000, 65_535])
def test_forged_channel_counts(num_channels: int) -> None:
    refused(forged(num_channels=num_channels))


def test_as_many_channels_as_the_limit() -> None:
    assert probe(forged(num_channels=64, num_bytes=128 * SAMPLE_RATE_HZ), LIMITS).duration_s == pytest.approx(1.0)


@pytest.mark.parametrize(("num_channels", "num_bits"), [(0, 16), (1, 0), (1, 7), (1, 65_535)])
def test_forged_sample_sizes(num_channels: int, num_bits: int) -> None:
    survive(forged(num_channels=num_channels, num_bits=num_bits))


def test_a_size_larger_than_the_file() -> None:
    assert survive(forged(num_bytes=64_000)[:20_000]) == pytest.approx(0.62, abs=0.02)


def test_no_samples() -> None:
    refused(forged(num_bytes=0))
    refused(wav(np.zeros(0, np.float32)))
    refused(wav(np.zeros(0, np.float32), container="FLAC"))


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_exactly_a_tenth_of_a_second_is_enough_and_less_is_not(rate_hz: int) -> None:
    num_samples = rate_hz // 10
    for container in ("WAV", "FLAC"):
        assert probe(wav(np.zeros(num_samples, np.float32), rate_hz, container), LIMITS).duration_s == pytest.approx(
            0.1
        )
        error = refused(wav(np.zeros(num_samples - rate_hz // 500, np.float32), rate_hz, container))
        assert isinstance(error, AudioTooShort)
        assert "0.098 s" in error.message
        assert "0.1 s" in error.message


def test_one_sample_is_too_short() -> None:
    assert isinstance(refused(wav(np.zeros(1, np.float32))), AudioTooShort)


def test_longer_than_the_limit_names_both_durations() -> None:
    error = refused(forged(num_bytes=2 * SAMPLE_RATE_HZ * 95), DecodeLimits(max_duration_s=60))
    assert isinstance(error, AudioTooLong)
    assert "95 s" in error.message
    assert "60 s" in error.message


def test_exactly_the_limit_is_accepted() -> None:
    assert probe(forged(num_bytes=2 * SAMPLE_RATE_HZ * 60), DecodeLimits(max_duration_s=60)).duration_s == 60


def opus_bomb(duration_s: int) -> bytes:
    """Silence at 3 bytes for each 120 ms."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        options = {"frame_duration": "120", "application": "lowdelay", "b": "500", "vbr": "on"}
        stream = container.add_stream("libopus", rate=48_000, options=options)
        assert isinstance(stream, AudioStream)
        stream.layout = "mono"
        stream.codec_context.open()
        silence = np.zeros((1, 5_760), np.int16)
        for number in range(duration_s * 1_000 // 120):
            frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
            frame.rate, frame.pts, frame.time_base = 48_000, number * 5_760, Fraction(1, 48_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def test_a_small_file_that_holds_much_more_than_the_limit_is_stopped_there() -> None:
    upload = opus_bomb(1_200)
    assert len(upload) < 200_000
    error = refused(upload, DecodeLimits(max_duration_s=600))
    assert isinstance(error, AudioTooLong)
    assert "600 s" in error.message


@pytest.fixture(scope="module")
def hour() -> bytes:
    """An hour of silence, all frames in one small file."""
    upload = wav(np.zeros(3_600 * 8_000, np.float32), 8_000, container="FLAC")
    assert len(upload) < 500_000
    return upload


def test_an_hour_is_decoded_in_small_blocks_and_little_memory(hour: bytes) -> None:
    tracemalloc.start()
    total = 0
    try:
        for block in decode(hour, LIMITS):
            assert len(block) <= (BLOCK_S + 1) * SAMPLE_RATE_HZ
            total += len(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total / SAMPLE_RATE_HZ == pytest.approx(3_600, abs=1)
    assert peak < 20_000_000


def test_probing_an_hour_keeps_nothing(hour: bytes) -> None:
    tracemalloc.start()
    try:
        assert probe(hour, LIMITS).duration_s == pytest.approx(3_600, abs=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("samples", [SPEECH, np.tile(SPEECH, 10)], ids=["seconds", "minutes"])
def test_what_is_kept_is_what_would_be_decoded(samples: Samples) -> None:
    upload = encode("webm", "libopus", samples=samples)
    kept: deque[Samples] = deque()
    info = probe(upload, LIMITS, kept=kept)
    assert info == probe(upload, LIMITS)
    assert sum(map(len, kept)) * 4 == pytest.approx(kept_bytes(info), rel=1e-3)
    blocks = list(read(upload, LIMITS)[1])
    assert [len(block) for block in blocks] == [len(block) for block in decode(upload, LIMITS)]
    assert np.array_equal(np.concatenate(blocks), decoded(upload))


def test_of_a_long_upload_nothing_is_kept_whatever_its_header_says(hour: bytes) -> None:
    untold = hour[:21] + bytes([hour[21] & 0xF0, 0, 0, 0, 0]) + hour[26:]  # STREAMINFO's number of samples
    for upload in (hour, untold):
        kept: deque[Samples] = deque()
        tracemalloc.start()
        try:
            info = probe(upload, LIMITS, kept=kept)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert info.duration_s == pytest.approx(3_600, abs=1)
        assert not kept
        assert kept_bytes(info) == 0
        assert peak < LONG_S * SAMPLE_RATE_HZ * 4 + 10_000_000
    assert sum(map(len, read(untold, LIMITS)[1])) / SAMPLE_RATE_HZ == pytest.approx(3_600, abs=1)


def test_uncompressed_audio_comes_in_small_blocks_too() -> None:
    sizes = [len(block) for block in decode(forged(num_bytes=2 * SAMPLE_RATE_HZ * 95), LIMITS)]
    assert sum(sizes) == 95 * SAMPLE_RATE_HZ
    assert max(sizes) <= (BLOCK_S + 1) * SAMPLE_RATE_HZ


def test_a_flac_frame_of_extreme_length_is_still_a_small_block() -> None:
    upload = encode("flac", "flac", 1_000, samples=np.zeros(600 * SAMPLE_RATE_HZ, np.float32), frame_size="65535")
    assert max(len(block) for block in decode(upload, LIMITS)) <= 80 * SAMPLE_RATE_HZ


def test_probing_stops_when_nobody_waits_any_more(hour: bytes) -> None:
    answers: Iterator[bool] = iter([False] * 10)
    assert probe(hour, LIMITS, lambda: next(answers, True)).duration_s < 60


def test_closing_a_decoder_half_way_is_fine(hour: bytes) -> None:
    blocks = decode(hour, LIMITS)
    assert len(next(blocks)) > 0
    blocks.close()  # type: ignore[attr-defined]
    assert list(blocks) == []


def test_decoding_twice_gives_the_same_samples() -> None:
    upload = encode("mp3", "libmp3lame", 44_100)
    assert np.array_equal(decoded(upload), decoded(upload))


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("matroska", "aac")])
def test_recordings_behind_one_another_are_all_heard_or_none(container: str, codec: str) -> None:
    """FFmpeg passes over the third."""
    one = encode(container, codec)
    assert len(decoded(2 * one)) == pytest.approx(2 * len(decoded(one)), rel=0.02)
    assert isinstance(refused(3 * one), UndecodableAudio)
