"""What is asked of a speech recogniser, and what it answers: frozen values, as in `pipelines.audio_types`."""

from dataclasses import dataclass, field
from typing import Literal

from pipelines.audio_types import AudioInfo
from pipelines.sampling import Sampling

Task = Literal["transcribe", "translate"]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class CueOptions:
    """What a segment may be, so that it can be shown as a subtitle."""

    max_segment_s: float = 7.0
    max_line_width: int = 42
    max_line_count: int = 2


@dataclass(frozen=True, slots=True)
class Token:
    """`data` are the bytes of this token alone: part of a UTF-8 character may be all it holds."""

    id: int
    text: str
    logprob: float
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingOptions(Sampling):
    """How one chunk is decoded. At temperature 0 it is tried hotter where decoding fails (Whisper's fallback).

    written: what the answer begins with, known from an earlier decoding of the same chunk when it was shorter.
    is_draft: the chunk will grow and be decoded again, so it is tried only once, and not to the last digit.
    padding_s: of silence that is heard behind the chunk, by models that need less than they were trained with; None is
        theirs to decide.
    head_start_s: it goes before what has waited longer by no more than this.
    """

    task: Task = "transcribe"

    # what is spoken: None is detected, among `languages` when some are named; who is unsure takes the neighbour's
    language: str | None = None
    languages: tuple[str, ...] = ()
    neighbour: str | None = None
    may_change: bool = True

    # what the decoder reads before it starts
    prompt: str = ""
    keywords: tuple[str, ...] = ()

    # what is asked for beside the text
    timestamps: bool = False
    word_timestamps: bool = False
    cues: CueOptions = CueOptions()

    # whether a model that is served with timestamp tokens writes them
    timestamp_tokens: bool = True

    # of speech that is heard as it is spoken
    written: tuple[Token, ...] = ()
    is_draft: bool = False
    padding_s: float | None = None
    head_start_s: float = 0.0

    @property
    def has_times(self) -> bool:
        return self.timestamps or self.word_timestamps


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Segment:
    """One timed stretch of text. `seek_s` is where its window began."""

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
class Lookup:
    """Whether a cache knew what it was asked for."""

    cache: Literal["text", "encoder"]
    is_hit: bool


@dataclass(frozen=True, slots=True)
class Work:
    """What one call of a model cost: seconds in the queue, seconds aboard, how many were aboard with it on average,
    how many may be; what was looked up in caches; and whether it went before others. Nobody was aboard for what is
    known already."""

    queue_s: float
    model_s: float
    mean_batch_size: float
    num_places: int = 1
    lookups: tuple[Lookup, ...] = ()
    is_urgent: bool = False


@dataclass(frozen=True, slots=True)
class HeardLanguage:
    """is_sure: so much of it was heard, and so plainly, that its neighbours may go by it."""

    language: str
    probability: float = 1.0
    is_sure: bool = True


@dataclass(frozen=True, slots=True)
class LanguageChange:
    """Somebody seems to go on in another language, at this time on the upload's clock."""

    at_s: float
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ChunkTranscript:
    """One chunk's answer; times on the upload's clock.

    change: the chunk was not transcribed, for it seems to be in two languages; its parts are to be heard one by one.
    """

    index: int
    language: str
    segments: tuple[Segment, ...] = ()
    finish_reason: FinishReason = "stop"
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    is_language_sure: bool = True
    change: LanguageChange | None = None


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
    """The whole answer; `speaker_segments` only when somebody asked who said what. `languages`: what was spoken, the
    most of it first."""

    info: AudioInfo
    languages: tuple[str, ...]
    segments: tuple[Segment, ...] = ()
    finish_reason: FinishReason = "stop"
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    speaker_segments: tuple[SpeakerSegment, ...] = ()

    @property
    def language(self) -> str:
        return self.languages[0]

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
class RecognizerInfo:
    """What a served speech recogniser can do."""

    languages: frozenset[str]
    tasks: frozenset[Task] = field(default_factory=lambda: frozenset({"transcribe"}))
