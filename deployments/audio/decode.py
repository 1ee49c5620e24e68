"""Any container and codec to 16 kHz mono float32, a block at a time, bounded on every side (PyAV).

An upload is hostile until it is decoded: only plain audio and video containers may be opened, no demuxer
may open another file or address, and bytes, seconds, channels and sample rate are limited.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain, groupby
from typing import Any

import av
import av.error
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from deployments.audio.mp4 import refuse_forged_counts
from pipelines.errors import AudioTooLong, AudioTooShort, UndecodableAudio
from pipelines.types import SAMPLE_RATE_HZ, AudioInfo, DecodeLimits, Samples

# What the contract names, and what else people record: never playlists, scripts, images or network protocols.
DEMUXERS = "aac,ac3,aiff,amr,amrnb,amrwb,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav"

BLOCK_S = 10.0
MIN_DURATION_S = 0.1
ROUNDING_S = 1e-4
"""Adding up frames must not refuse a file of exactly a limit's length."""
MIN_SAMPLE_RATE_HZ = 1_000
MAX_DAMAGED_PACKETS = 1_000
MAX_STREAMS = 64

# A frame costs the same whatever it holds: 25 MB of frames of one sample would take a quarter of an hour.
MAX_TINY_FRAMES = 50_000
MIN_FRAME_SAMPLES = 16

# PyAV raises IndexError for a packet of a track that appears in mid-file.
DAMAGE = (av.error.FFmpegError, ValueError, IndexError, MemoryError)


def probe(upload: bytes, limits: DecodeLimits, is_cancelled: Callable[[], bool] = lambda: False) -> AudioInfo:
    """Decode all of the upload, keep nothing, and tell what it is.

    Headers lie, so the only true duration is that of the decoded samples; after this no later surprise can
    break an answer that has begun.

    Raises:
        UndecodableAudio: not audio, no audio track, or damaged beyond use.
        AudioTooShort: under 0.1 s.
        AudioTooLong: over `limits.max_duration_s`; decoding stops there.
    """
    with closing(_open(upload)) as container:
        stream = _audio_stream(container, limits)
        info = AudioInfo(0.0, container.format.name, stream.codec_context.name)
        duration_s = 0.0
        for frame in _frames(container, stream, limits):
            duration_s += frame.samples / frame.sample_rate
            if duration_s > limits.max_duration_s + ROUNDING_S:
                raise AudioTooLong(_too_long(duration_s, container, limits))
            if is_cancelled():
                break
    if duration_s == 0:
        raise UndecodableAudio("The file holds no audio that could be decoded.")
    if duration_s < MIN_DURATION_S - ROUNDING_S:
        raise AudioTooShort(f"The audio is {duration_s:.3f} s long; at least {MIN_DURATION_S} s are needed.")
    return AudioInfo(round(duration_s, 6), info.container, info.codec)


def decode(upload: bytes, limits: DecodeLimits) -> Iterator[Samples]:
    """Yield the upload as blocks of about `BLOCK_S` at 16 kHz mono; the last may be shorter.

    Raises what `probe` raises but for the length: ask `probe` first.
    """
    with closing(_open(upload)) as container:
        stream = _audio_stream(container, limits)
        yield from _blocks(_resampled(_frames(container, stream, limits)))


def _open(upload: bytes) -> InputContainer:
    if not upload:
        raise UndecodableAudio("The file is empty.")
    refuse_forged_counts(upload)
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "", "max_streams": str(MAX_STREAMS)}
    try:
        container = av.open(io.BytesIO(upload), mode="r", options=options, metadata_errors="ignore")
    except (av.error.FFmpegError, ValueError, OSError):
        raise UndecodableAudio("The file could not be read as audio. Its format is unknown or it is damaged.") from None
    assert isinstance(container, InputContainer)
    return container


def _audio_stream(container: InputContainer, limits: DecodeLimits) -> AudioStream:
    if not container.streams.audio:
        raise UndecodableAudio("The file holds no audio track.")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None:
        raise UndecodableAudio("The file's audio codec is not supported.")
    _check_format(context.sample_rate, context.channels, limits)
    context.thread_count = 1
    return stream


def _check_format(sample_rate_hz: int, num_channels: int, limits: DecodeLimits) -> None:
    # Some codecs tell neither before the first frame: 0 means not known yet.
    if sample_rate_hz and not MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= limits.max_sample_rate_hz:
        raise UndecodableAudio(
            f"The sample rate of {sample_rate_hz} Hz is not supported: it must lie between "
            f"{MIN_SAMPLE_RATE_HZ} and {limits.max_sample_rate_hz} Hz."
        )
    if num_channels > limits.max_channels:
        raise UndecodableAudio(f"{num_channels} channels are not supported: at most {limits.max_channels} are.")


def _frames(container: InputContainer, stream: AudioStream, limits: DecodeLimits) -> Iterator[AudioFrame]:
    """Yield decoded frames, stepping over damaged packets as players do, but not for ever."""
    num_frames = num_samples = 0
    for packet in _packets(container, stream):
        try:
            frames = packet.decode()
        except EOFError:
            return
        except DAMAGE:
            continue
        for frame in frames:
            if isinstance(frame, AudioFrame) and frame.samples and frame.sample_rate:
                _check_format(frame.sample_rate, frame.layout.nb_channels, limits)
                num_frames += 1
                num_samples += frame.samples
                if num_frames > MAX_TINY_FRAMES and num_samples < MIN_FRAME_SAMPLES * num_frames:
                    raise UndecodableAudio("The file is cut into too many frames of hardly any sound.")
                yield frame


def _packets(container: InputContainer, stream: AudioStream) -> Iterator["Packet[Any]"]:
    for _ in range(MAX_DAMAGED_PACKETS):
        try:
            yield from container.demux(stream)
        except EOFError:
            return
        except DAMAGE:
            continue  # the demuxer's generator has ended with its error; the next one reads on behind it
        else:
            return


def _resampled(frames: Iterator[AudioFrame]) -> Iterator[Samples]:
    """Down-mix by the mean of all channels and resample; a stream may change its format on the way."""
    for _, alike in groupby(frames, key=lambda frame: (frame.sample_rate, frame.format.name, frame.layout.name)):
        first = next(alike)
        # Interleaved: PyAV's planar frames have room for 7 planes, and end the process at the eighth.
        to_float = AudioResampler(format="flt", layout=first.layout, rate=first.sample_rate)
        resampler = soxr.ResampleStream(first.sample_rate, SAMPLE_RATE_HZ, 1, dtype="float32")
        for frame in chain([first], alike):
            frame.pts = None  # gaps in time stamps are not silence to be filled in
            for converted in to_float.resample(frame):
                samples = converted.to_ndarray().reshape(-1, converted.layout.nb_channels)
                samples = np.clip(np.nan_to_num(samples), -1.0, 1.0)
                yield _in_range(resampler.resample_chunk(samples.mean(axis=1, dtype=np.float32)))
        yield _in_range(resampler.resample_chunk(np.zeros(0, np.float32), last=True))


def _in_range(samples: Samples) -> Samples:
    """Sharp edges, as in clipped recordings, ring beyond 1 when they are resampled."""
    return np.clip(samples, -1.0, 1.0)


def _blocks(pieces: Iterator[Samples]) -> Iterator[Samples]:
    size = int(BLOCK_S * SAMPLE_RATE_HZ)
    waiting: list[Samples] = []
    num_waiting = 0
    for piece in pieces:
        waiting.append(piece)
        num_waiting += len(piece)
        if num_waiting >= size:
            yield np.concatenate(waiting)
            waiting, num_waiting = [], 0
    if num_waiting:
        yield np.concatenate(waiting)


def _too_long(decoded_s: float, container: InputContainer, limits: DecodeLimits) -> str:
    claimed_s = (container.duration or 0) / av.time_base
    length = f"{claimed_s:.0f} s" if claimed_s > decoded_s else f"more than {decoded_s:.0f} s"
    return f"The audio is {length} long; this server accepts at most {limits.max_duration_s:.0f} s."
