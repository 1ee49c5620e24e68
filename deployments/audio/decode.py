"""An upload to 16 kHz mono float32, a block at a time, bounded on every side.

An upload is hostile until it is decoded: bytes, seconds, channels and sample rate are limited. WAV files are
read by soundfile, all else by PyAV.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby

import numpy as np
import soxr

from deployments.audio.libav import open_libav
from deployments.audio.memory_file import UploadBytes
from deployments.audio.mixing import levels_of, mono
from deployments.audio.source import Piece, Source
from deployments.audio.wave import open_wave
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioInfo, DecodeLimits, Samples
from pipelines.errors import AudioTooLong, AudioTooShort, UndecodableAudio

BLOCK_S = 10.0
MIN_DURATION_S = 0.1
LONG_S, MEASURED_S = 300.0, 60.0
"""A file that says to be longer than the first is believed once the second of it was decoded: decoding hours takes half
a minute, which nobody shall wait for before the first word. A file that is no longer is decoded only once: 19 MB of
samples are kept until they are read."""

ROUNDING_S = 1e-4
"""Adding up frames must not refuse a file of exactly a limit's length."""

RESAMPLING_S = 0.01
"""The same of resampled ones."""


def probe(
    upload: UploadBytes,
    limits: DecodeLimits,
    is_cancelled: Callable[[], bool] = lambda: False,
    audio_track: int | None = None,
    kept: deque[Samples] | None = None,
) -> AudioInfo:
    """Decode the upload and tell what it is.

    Headers lie, so the only true duration is that of the decoded samples. Of a long file no more than the beginning is
    decoded, if the header says that the rest is as long as is allowed; `decode` sees then how much it is.

    Args:
        audio_track: the one to be heard, counted from 0; by default as `tracks.choose` has it.
        kept: filled with the samples, piece by piece, if they are no longer than `LONG_S`; else left empty.

    Raises:
        InvalidRequest: there is no such track.
        UndecodableAudio: not audio, no audio track, or damaged beyond use.
        AudioTooShort: under 0.1 s.
        AudioTooLong: over `limits.max_duration_s`; decoding stops there.
    """
    with _open(upload, limits, audio_track) as source:
        duration_s = 0.0
        is_short = source.claimed_s <= LONG_S  # or says so
        for length_s in source.lengths_s() if kept is None or not is_short else _keeping(source.pieces(), kept):
            duration_s += length_s
            if duration_s > limits.max_duration_s + ROUNDING_S:
                raise AudioTooLong(_too_long(duration_s, source.claimed_s, limits))
            is_long = LONG_S < source.claimed_s <= limits.max_duration_s
            if is_long and MEASURED_S < duration_s < source.claimed_s:
                return AudioInfo(round(source.claimed_s, 6), source.container, source.codec, is_measured=False)
            if is_cancelled():
                break
    if duration_s == 0:
        raise UndecodableAudio("The file holds no audio that could be decoded.")
    if duration_s < MIN_DURATION_S - ROUNDING_S:
        raise AudioTooShort(f"The audio is {duration_s:.3f} s long; at least {MIN_DURATION_S} s are needed.")
    return AudioInfo(round(duration_s, 6), source.container, source.codec)


def read(
    upload: UploadBytes,
    limits: DecodeLimits,
    is_cancelled: Callable[[], bool] = lambda: False,
    audio_track: int | None = None,
) -> tuple[AudioInfo, Iterator[Samples]]:
    """What `probe` and `decode` give; a short upload is decoded once for both."""
    kept: deque[Samples] = deque()
    info = probe(upload, limits, is_cancelled, audio_track, kept)
    return info, _blocks(_drained(kept)) if kept else decode(upload, limits, audio_track)


def kept_bytes(info: AudioInfo) -> int:
    """What `read` keeps at most of an upload."""
    return round(info.duration_s * SAMPLE_RATE_HZ) * 4 if info.duration_s <= LONG_S else 0


def decode(upload: UploadBytes, limits: DecodeLimits, audio_track: int | None = None) -> Iterator[Samples]:
    """Yield the upload as blocks of about `BLOCK_S` at 16 kHz mono; the last may be shorter.

    Raises what `probe` raises but for an audio that is too short: ask `probe` first.
    """
    num_samples = 0
    with _open(upload, limits, audio_track) as source:
        for block in _blocks(resampled(source.pieces())):
            num_samples += len(block)
            if num_samples / SAMPLE_RATE_HZ > limits.max_duration_s + RESAMPLING_S:
                raise AudioTooLong(_too_long(num_samples / SAMPLE_RATE_HZ, source.claimed_s, limits))
            yield block


@contextmanager
def _open(upload: UploadBytes, limits: DecodeLimits, audio_track: int | None) -> Iterator[Source]:
    if not upload:
        raise UndecodableAudio("The file is empty.")
    with open_wave(upload, limits) as wave:
        if wave is not None and not audio_track:
            yield wave
            return
    with open_libav(upload, limits, audio_track) as source:
        yield source


def resampled(pieces: Iterator[Piece]) -> Iterator[Samples]:
    """Pieces to 16 kHz mono within [-1, 1]; a stream may change its sample rate on the way."""
    for rate_hz, alike in groupby(pieces, key=lambda piece: piece.sample_rate_hz):
        resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
        for piece in alike:
            yield _in_range(resampler.resample_chunk(mono(piece.samples, levels_of(piece.channels))))
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


def _keeping(pieces: Iterator[Piece], kept: deque[Samples]) -> Iterator[float]:
    """What `Source.lengths_s` gives; meanwhile the samples are kept, until they are too many."""
    num_s = told_s = 0.0

    def short() -> Iterator[Piece]:
        nonlocal num_s
        for piece in pieces:
            num_s += len(piece.samples) / piece.sample_rate_hz
            if num_s > LONG_S:
                return
            yield piece

    for samples in resampled(short()):
        kept.append(samples)
        yield num_s - told_s
        told_s = num_s
    if num_s > LONG_S:
        kept.clear()
        yield num_s - told_s
        for piece in pieces:
            yield len(piece.samples) / piece.sample_rate_hz


def _drained(kept: deque[Samples]) -> Iterator[Samples]:
    while kept:
        yield kept.popleft()


def _too_long(decoded_s: float, claimed_s: float, limits: DecodeLimits) -> str:
    length = f"{claimed_s:.0f} s" if claimed_s > decoded_s else f"more than {decoded_s:.0f} s"
    return f"The audio is {length} long; this server accepts at most {limits.max_duration_s:.0f} s."
