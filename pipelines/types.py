"""The words every room speaks: frozen values, float seconds from the start of the upload, float32 mono samples."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""float32 mono samples in [-1, 1], shape (num_samples,)."""

PcmSamples = NDArray[np.int16]
"""16-bit mono samples, shape (num_samples,): how long stretches of audio travel between processes."""

Task = Literal["transcribe", "translate"]
FinishReason = Literal["stop", "length"]

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
    """What is known of an upload once all of it was decoded: the first event of every transcription."""

    duration_s: float
    container: str
    codec: str


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
class AudioWindow:
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


@dataclass(frozen=True, slots=True)
class VadOptions:
    """OpenAI's `server_vad` parameters with their documented defaults."""

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 200


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How one chunk is decoded. Travels with every row of a batch, so users never share options."""

    task: Task = "transcribe"

    # what is spoken: None is detected, among `languages` when some are named
    language: str | None = None
    languages: tuple[str, ...] = ()

    # what the decoder reads before it starts
    prompt: str = ""
    keywords: tuple[str, ...] = ()

    # what is asked for beside the text
    timestamps: bool = True
    word_timestamps: bool = False

    # how tokens are chosen; temperature 0 climbs the fallback ladder when decoding fails
    temperature: float = 0.0
    seed: int | None = None
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """`data` are the bytes of this token alone: part of a UTF-8 character may be all it holds."""

    id: int
    text: str
    logprob: float
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Segment:
    """One timed stretch of text, as Whisper's timestamp tokens cut it. `seek_s` is where its window began."""

    start_s: float
    end_s: float
    text: str
    tokens: tuple[Token, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    seek_s: float = 0.0
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """What one call of a model cost: seconds in the queue, seconds aboard, how many were aboard with it on average."""

    queue_s: float
    model_s: float
    mean_batch_size: float


@dataclass(frozen=True, slots=True)
class ChunkTranscript:
    """One chunk's answer; times on the upload's clock."""

    index: int
    language: str
    segments: tuple[Segment, ...] = ()
    finish_reason: FinishReason = "stop"
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class SpeakerSegment:
    """What one speaker said in one go. `speaker` is a known name, or else a letter."""

    id: str
    start_s: float
    end_s: float
    text: str
    speaker: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """The whole answer; `speaker_segments` only when somebody asked who said what."""

    info: AudioInfo
    language: str
    segments: tuple[Segment, ...] = ()
    finish_reason: FinishReason = "stop"
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    speaker_segments: tuple[SpeakerSegment, ...] = ()

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments).strip()

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def tokens(self) -> tuple[Token, ...]:
        return tuple(token for segment in self.segments for token in segment.tokens)


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text, in order; joined deltas are exactly `Transcript.text`.

    words: at least one for each segment in `text`, with its times.
    segment_id: of the speaker's segment that this text belongs to, when speakers are told apart.
    """

    text: str
    tokens: tuple[Token, ...] = ()
    words: tuple[Word, ...] = ()
    segment_id: str | None = None


@dataclass(frozen=True, slots=True)
class SegmentFinished:
    """No more deltas of this segment will come."""

    segment: SpeakerSegment


@dataclass(frozen=True, slots=True)
class TranscriptFinished:
    transcript: Transcript


TranscriptionEvent = AudioInfo | TextDelta | SegmentFinished | TranscriptFinished


@dataclass(frozen=True, slots=True)
class RecognizerInfo:
    """What a served speech recogniser can do."""

    languages: frozenset[str]
    tasks: frozenset[Task] = field(default_factory=lambda: frozenset({"transcribe"}))
