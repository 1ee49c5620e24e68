"""Audio on its way through the rooms: frozen values, float seconds from the start of the upload, mono samples."""

from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""float32 mono samples in [-1, 1], shape (num_samples,)."""

PcmSamples = NDArray[np.int16]
"""16-bit mono samples, shape (num_samples,): how long stretches of audio travel between processes."""

SAMPLE_RATE_HZ = 16_000
"""The one rate inside the server: what Whisper and Silero VAD were trained on."""

MAX_CHUNK_S = 30.0
"""Whisper's receptive field: a longer chunk would be cut off by the feature extractor."""


@dataclass(frozen=True, slots=True)
class Waveform:
    samples: Samples
    sample_rate_hz: int = SAMPLE_RATE_HZ

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate_hz


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What is known of an upload: the first event of every transcription.

    duration_s: of its decoded samples. Of a long upload that was not read to its end yet (not `is_measured`) it is what
        the file says of itself.
    """

    duration_s: float
    container: str
    codec: str
    is_measured: bool = True

    @property
    def bound_s(self) -> float:
        """No time of the audio is behind it."""
        return self.duration_s if self.is_measured else inf


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """max_duration_s: decoded seconds. max_channels, max_sample_rate_hz: what a file may claim."""

    max_duration_s: float = 14_400.0
    max_channels: int = 64
    max_sample_rate_hz: int = 768_000


@dataclass(frozen=True, slots=True)
class SpeechSegment:
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """At most `MAX_CHUNK_S` of audio; `speech` lies inside it, on the upload's clock."""

    index: int
    offset_s: float
    waveform: Waveform
    speech: tuple[SpeechSegment, ...] = ()

    @property
    def end_s(self) -> float:
        return self.offset_s + self.waveform.duration_s


@dataclass(frozen=True, slots=True)
class AudioPage:
    """Some chunks of an upload in order; `is_last` tells that no more follow."""

    info: AudioInfo
    chunks: tuple[AudioChunk, ...]
    is_last: bool


@dataclass(frozen=True, slots=True)
class AudioStretch:
    """A long stretch of an upload with its silences, for diarization: `pcm` at `SAMPLE_RATE_HZ`."""

    index: int
    offset_s: float
    pcm: PcmSamples

    @property
    def end_s(self) -> float:
        return self.offset_s + len(self.pcm) / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class AudioClip:
    """A short upload as a whole: `speech` holds only the stretches where somebody speaks, one after the other."""

    info: AudioInfo
    speech: Waveform


@dataclass(frozen=True, slots=True)
class AudioRecording:
    """An upload as a whole: `pcm` at `SAMPLE_RATE_HZ`."""

    info: AudioInfo
    pcm: PcmSamples


LiveFormat = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
"""Bytes of a realtime session: 16-bit little-endian samples, or one of G.711's."""

LIVE_RATES_HZ: dict[LiveFormat, int] = {"audio/pcm": 24_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}


@dataclass(frozen=True, slots=True)
class VadOptions:
    """OpenAI's `server_vad` parameters with their documented defaults."""

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 200
