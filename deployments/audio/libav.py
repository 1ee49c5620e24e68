"""Any container and codec by PyAV (FFmpeg's libraries).

Only plain audio and video containers may be opened, and no demuxer may open another file or address.
"""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import chain, groupby
from typing import Any

import av
import av.error
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from deployments.audio.memory_file import MemoryFile, UploadBytes
from deployments.audio.mp4 import refuse_forged_counts
from deployments.audio.source import Piece, check_format, piece_length
from deployments.audio.tags import refuse_compressed_tags
from deployments.audio.timeline import TimeLine, silence
from deployments.audio.tracks import choose, is_silent
from deployments.compat.av import audio_decoders, unmapped
from pipelines.audio_types import DecodeLimits, Samples
from pipelines.errors import UndecodableAudio

# What the contract names, and what else people record: never playlists, scripts, images or network protocols.
DEMUXERS = "aac,ac3,aiff,amr,amrnb,amrwb,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav"

AUDIO_DECODERS = ",".join(sorted(audio_decoders()))
"""FFmpeg tries those of other tracks and of attached pictures while it opens a file: one of 8 kB takes a gigabyte."""

MAX_DAMAGED_PACKETS = 1_000
MAX_STREAMS = 64

# A frame costs the same whatever it holds: 25 MB of frames of one sample would take a quarter of an hour.
MAX_TINY_FRAMES = 50_000
MIN_FRAME_SAMPLES = 16
MAX_PACKETS_A_FRAME = 10
"""Of many that are damaged, hardly one may be none."""

MAX_FORMATS = 10_000
"""Changes of a stream's format; each takes half a millisecond."""

MATROSKA_HEADER = re.compile(rb"\x1a\x45\xdf\xa3.{1,40}?\x42\x82.(?:webm|matroska)", re.S)
"""An EBML header with its document type."""

MAX_RECORDINGS = 2

QUIET = 0.02

# PyAV raises IndexError for a packet of a track that appears in mid-file.
DAMAGE = (av.error.FFmpegError, ValueError, IndexError, MemoryError)


class LibavSource:
    """An audio track of any file, on the file's own time line; see `Source`."""

    def __init__(self, container: InputContainer, stream: AudioStream, limits: DecodeLimits) -> None:
        self._container = container
        self._stream = stream
        self._limits = limits
        self.container = container.format.name
        self.codec = stream.codec_context.name
        self.claimed_s = (container.duration or 0) / av.time_base

    def lengths_s(self) -> Iterator[float]:
        for gap_s, frame in self._timed():
            for num_samples in silence(gap_s, frame.sample_rate):
                yield num_samples / frame.sample_rate
            yield frame.samples / frame.sample_rate

    def pieces(self) -> Iterator[Piece]:
        """A stream may change its format on the way."""
        number = 0

        def alike(timed: tuple[float, AudioFrame]) -> tuple[int, int, str, str]:
            nonlocal number
            gap_s, frame = timed
            number += gap_s > 0
            return number, frame.sample_rate, frame.format.name, frame.layout.name

        for num_groups, ((num_gaps, *_), group) in enumerate(groupby(self._timed(), key=alike), 1):
            if num_groups - num_gaps > MAX_FORMATS:
                raise UndecodableAudio("The file changes its format too often.")
            yield from _behind_gap(group)

    def is_silent(self) -> bool:
        """At its beginning."""
        return is_silent((len(piece.samples) / piece.sample_rate_hz, piece.samples) for piece in self.pieces())

    def _timed(self) -> Iterator[tuple[float, AudioFrame]]:
        """Frames, and how much silence comes before each."""
        start = self._container.start_time
        line = TimeLine(self.container, None if start is None else start / av.time_base)
        before: AudioFrame | None = None
        frames = self._frames()
        frame = next(frames, None)
        while frame is not None:
            behind = next(frames, None)
            length_s = frame.samples / frame.sample_rate
            next_stamp_s = None if behind is None else behind.time
            yield line.gap_before(frame.time, length_s, next_stamp_s, partial(_is_loud, before)), frame
            before, frame = frame, behind

    def _frames(self) -> Iterator[AudioFrame]:
        """Yield decoded frames, stepping over damaged packets as players do, but not for ever."""
        num_frames = num_samples = num_packets = 0
        for packet in _packets(self._container, self._stream):
            num_packets += 1
            if num_packets > MAX_TINY_FRAMES and num_packets > MAX_PACKETS_A_FRAME * num_frames:
                raise UndecodableAudio("The file is cut into too many packets of no sound.")
            try:
                frames = packet.decode()
            except EOFError:
                return
            except DAMAGE:
                continue
            for frame in frames:
                if isinstance(frame, AudioFrame) and frame.samples and frame.sample_rate:
                    check_format(frame.sample_rate, frame.layout.nb_channels, self._limits)
                    num_frames += 1
                    num_samples += frame.samples
                    if num_frames > MAX_TINY_FRAMES and num_samples < MIN_FRAME_SAMPLES * num_frames:
                        raise UndecodableAudio("The file is cut into too many frames of hardly any sound.")
                    yield frame


def _is_loud(frame: AudioFrame | None) -> bool:
    """Louder than the noise that telephones make up for pauses."""
    if frame is None:
        return True
    return any(float(np.ptp(samples)) > QUIET for samples in map(_interleaved, _to_float(frame).resample(frame)))


def _to_float(frame: AudioFrame) -> AudioResampler:
    """Interleaved: PyAV's planar frames have room for 7 planes, and end the process at the eighth. So no frame is
    looked into as it was decoded."""
    return AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)


def _interleaved(frame: AudioFrame) -> Samples:
    """What `_to_float` made, (samples, channels)."""
    num_channels = frame.layout.nb_channels
    plane: Any = frame.planes[0]  # `to_ndarray` would copy it
    return np.frombuffer(plane, np.float32, frame.samples * num_channels).reshape(-1, num_channels)


@contextmanager
def open_libav(upload: UploadBytes, limits: DecodeLimits, audio_track: int | None = None) -> Iterator[LibavSource]:
    """
    Raises:
        InvalidRequest: there is no such track.
        UndecodableAudio: not audio, no audio track, or a format outside the limits.
    """
    refuse_forged_counts(upload)
    refuse_compressed_tags(upload)

    def is_silent(stream: AudioStream) -> bool:
        with _opened(upload) as container, suppress(UndecodableAudio):
            return LibavSource(container, _ready(container.streams[stream.index], limits), limits).is_silent()
        return True

    with _opened(upload) as container:
        if "matroska" in container.format.name:
            _refuse_many_recordings(upload)
        stream = choose(container.streams.audio, audio_track, is_silent)
        yield LibavSource(container, _ready(stream, limits), limits)


@contextmanager
def _opened(upload: UploadBytes) -> Iterator[InputContainer]:
    options = {
        "format_whitelist": DEMUXERS,
        "codec_whitelist": AUDIO_DECODERS,
        "protocol_whitelist": "",
        "max_streams": str(MAX_STREAMS),
    }
    try:
        container = av.open(MemoryFile(upload), mode="r", options=options, metadata_errors="ignore")
    except (av.error.FFmpegError, ValueError, OSError):
        raise UndecodableAudio("The file could not be read as audio. Its format is unknown or it is damaged.") from None
    assert isinstance(container, InputContainer)
    with closing(container):
        yield container


def _refuse_many_recordings(upload: UploadBytes) -> None:
    """FFmpeg reads two that follow one another, as recorders of web pages leave them, and passes over the others.

    Raises:
        UndecodableAudio
    """
    num_recordings = len(MATROSKA_HEADER.findall(upload))
    if num_recordings > MAX_RECORDINGS:
        raise UndecodableAudio(
            f"The file holds {num_recordings} recordings one behind the other, of which only {MAX_RECORDINGS} could be "
            "read: send them one by one, or join them into one."
        )


def _ready(stream: Any, limits: DecodeLimits) -> AudioStream:
    assert isinstance(stream, AudioStream)
    context = stream.codec_context
    if context is None:
        raise UndecodableAudio("The file's audio codec is not supported.")
    check_format(context.sample_rate, unmapped(context), limits)
    context.thread_count = 1
    return stream


def _packets(container: InputContainer, stream: AudioStream) -> Iterator["Packet[Any]"]:
    for _ in range(MAX_DAMAGED_PACKETS):
        try:
            yield from container.demux(stream)
        except EOFError:
            return
        except av.error.PatchWelcomeError as error:
            if container.format.name != "ogg":
                continue
            # a stream that follows another one and has other channels; its text would be missing without a word
            raise UndecodableAudio(f"The file cannot be read to its end: {error.strerror}.") from None
        except DAMAGE:
            continue  # the demuxer's generator has ended with its error; the next one reads on behind it
        else:
            return


def _behind_gap(timed: Iterator[tuple[float, AudioFrame]]) -> Iterator[Piece]:
    """Frames of one format; only before the first there may be silence."""
    gap_s, first = next(timed)
    for num_samples in silence(gap_s, first.sample_rate):
        yield Piece(first.sample_rate, np.zeros((num_samples, 1), np.float32))
    yield from _gathered(chain([first], (frame for _, frame in timed)))


def _gathered(frames: Iterator[AudioFrame]) -> Iterator[Piece]:
    """Frames of one format to pieces: what is done in Python for one of 20 ms costs more than decoding it."""
    fifo = AudioFifo()
    to_float: AudioResampler | None = None
    length = 0
    for frame in frames:
        if to_float is None:
            length = piece_length(frame.sample_rate, frame.layout.nb_channels)
            to_float = _to_float(frame)
        frame.pts = None  # gaps are filled in already
        fifo.write(frame)
        while fifo.samples >= length:  # one packet may hold hours
            yield from _converted(fifo.read(length), to_float)
    if to_float is not None:
        yield from _converted(fifo.read(), to_float)


def _converted(frame: AudioFrame | None, to_float: AudioResampler) -> Iterator[Piece]:
    for converted in to_float.resample(frame) if frame is not None else ():
        names = tuple(channel.name for channel in converted.layout.channels)
        yield Piece(converted.sample_rate, _interleaved(converted), names)
