"""WAV files by soundfile (libsndfile), which reads them in large blocks where PyAV makes a frame of every 4 kB.

Only plain samples in RIFF and RF64. Other containers that libsndfile knows stay with PyAV: libsndfile leaves out
what follows the first of concatenated Ogg, FLAC or MP3 streams, and ends FLAC at its first damage.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from struct import unpack_from

import numpy as np
import soundfile

from deployments.audio.memory_file import MemoryFile, UploadBytes
from deployments.audio.source import Piece, check_format, piece_length
from pipelines.audio_types import DecodeLimits

MAGICS = (b"RIFF", b"RF64")

CODECS = {
    "PCM_U8": "pcm_u8",
    "PCM_16": "pcm_s16le",
    "PCM_24": "pcm_s24le",
    "PCM_32": "pcm_s32le",
    "FLOAT": "pcm_f32le",
    "DOUBLE": "pcm_f64le",
    "ALAW": "pcm_alaw",
    "ULAW": "pcm_mulaw",
}
"""libsndfile's names to FFmpeg's: one codec is called the same whoever reads it."""


EXTENSIBLE = b"\xfe\xff"
MASKED = ("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR")
"""FFmpeg's names of the mask's bits, the lowest first."""

MAX_HEADER_BYTES = 4_096


class WaveSource:
    """A WAV file of plain samples; see `Source`."""

    container = "wav"

    def __init__(self, file: soundfile.SoundFile, channels: tuple[str, ...]) -> None:
        self.codec = CODECS[file.subtype]
        self.claimed_s = file.frames / file.samplerate
        self._file = file
        self._channels = channels

    def lengths_s(self) -> Iterator[float]:
        for piece in self.pieces():
            yield len(piece.samples) / piece.sample_rate_hz

    def pieces(self) -> Iterator[Piece]:
        length = piece_length(self._file.samplerate, self._file.channels)
        while len(samples := self._file.read(length, dtype="float32", always_2d=True)):
            yield Piece(self._file.samplerate, np.asarray(samples, np.float32), self._channels)


@contextmanager
def open_wave(upload: UploadBytes, limits: DecodeLimits) -> Iterator[WaveSource | None]:
    """None for what is no WAV file of plain samples, or one that libsndfile does not open.

    Raises:
        UndecodableAudio: too many channels, or a sample rate outside the limits.
    """
    file = _opened(upload)
    if file is None:
        yield None
        return
    with file:
        check_format(file.samplerate, file.channels, limits)
        yield WaveSource(file, _channels(upload, file.channels))


def _channels(upload: UploadBytes, num_channels: int) -> tuple[str, ...]:
    """Which they are, if the header tells by a mask (WAVE_FORMAT_EXTENSIBLE)."""
    headers = bytes(upload[:MAX_HEADER_BYTES])
    start = headers.find(b"fmt ", 12) + 8
    header = headers[start : start + 24]
    if start < 20 or len(header) < 24 or header[:2] != EXTENSIBLE:
        return ()
    (mask,) = unpack_from("<I", header, 20)
    names = tuple(name for bit, name in enumerate(MASKED) if mask >> bit & 1)
    return names if len(names) == num_channels else ()


def _opened(upload: UploadBytes) -> soundfile.SoundFile | None:
    if upload[:4] not in MAGICS or upload[8:12] != b"WAVE":
        return None
    try:
        file = soundfile.SoundFile(MemoryFile(upload))
    except soundfile.SoundFileError:
        return None
    # A header that tells no length, as a recorder leaves it, is read on by PyAV.
    if file.subtype in CODECS and file.samplerate and file.frames:
        return file
    file.close()
    return None
