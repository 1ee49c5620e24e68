"""Audio made at test time."""

import io
import struct
from collections.abc import Iterable

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.conftest import Clip

Samples = NDArray[np.float32]

SAMPLE_RATE_HZ = 16_000


def silence(duration_s: float, sample_rate_hz: int = SAMPLE_RATE_HZ) -> Samples:
    return np.zeros(round(duration_s * sample_rate_hz), np.float32)


def white_noise(duration_s: float) -> Samples:
    return np.random.default_rng(0).standard_normal(round(duration_s * SAMPLE_RATE_HZ), np.float32) * np.float32(0.05)


def encode(
    samples: Samples, sample_rate_hz: int = SAMPLE_RATE_HZ, container: str = "WAV", subtype: str | None = None
) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate_hz, format=container, subtype=subtype)
    return buffer.getvalue()


def samples_of(clip: Clip) -> Samples:
    samples, sample_rate_hz = soundfile.read(clip.path, dtype="float32")
    assert sample_rate_hz == SAMPLE_RATE_HZ
    return np.asarray(samples, np.float32)


def duration_s(clip: Clip) -> float:
    return len(samples_of(clip)) / SAMPLE_RATE_HZ


def joined(clips: Iterable[Clip], pause_s: float = 1.0) -> bytes:
    """One FLAC of all sentences, each followed by a pause."""
    pause = silence(pause_s)
    return encode(np.concatenate([part for clip in clips for part in (samples_of(clip), pause)]), container="FLAC")


def mux(samples: Samples, container: str, codec: str, sample_rate_hz: int = 48_000, with_video: bool = False) -> bytes:
    """Encode with ffmpeg what libsndfile cannot write; the video, if any, is grey."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        video = output.add_stream("mpeg4", rate=10) if with_video else None
        audio = output.add_stream(codec, rate=sample_rate_hz, layout="mono")
        assert isinstance(audio, av.AudioStream)
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            for _ in range(10):
                picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
                output.mux(video.encode(picture))
            output.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        resampler = av.AudioResampler(
            format=audio.format, layout="mono", rate=sample_rate_hz, frame_size=audio.frame_size
        )
        for resampled in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(audio.encode(resampled))
        output.mux(audio.encode(None))
    return buffer.getvalue()


def repeated_opus(duration_s: float) -> bytes:
    """One packet of 60 ms of silence again and again: an hour is 0.6 MB, and encoding it takes no time."""
    rate_hz, packet_samples = 48_000, 2_880
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ogg") as output:
        stream = output.add_stream("libopus", rate=rate_hz, layout="mono", options={"frame_duration": "60"})
        frame = av.AudioFrame.from_ndarray(np.zeros((1, packet_samples), np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        first, *_ = [*stream.encode(frame), *stream.encode(None)]
        for number in range(round(duration_s * rate_hz / packet_samples)):
            packet = av.Packet(bytes(first))
            packet.stream, packet.time_base, packet.duration = stream, first.time_base, packet_samples
            packet.pts = packet.dts = number * packet_samples
            output.mux(packet)
    return buffer.getvalue()


def padded_to(wav: bytes, num_bytes: int) -> bytes:
    """Grow a WAV to exactly `num_bytes` by a chunk that players skip."""
    rest = num_bytes - len(wav) - 8
    assert rest >= 0
    return wav + b"junk" + struct.pack("<I", rest) + bytes(rest)
