"""The wire of /v1/audio/transcriptions and /v1/audio/translations."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from deployments.ingress.http.fields import Int64, Text
from pipelines.languages import language_of

ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"]


def _known_language(code: str) -> str:
    known = language_of(code)
    if known is None:
        raise ValueError(f"'{code}' is not an ISO 639 code of a language that Whisper knows")
    return known


def _plain_keyword(keyword: str) -> str:
    if any(character in keyword for character in "<>\r\n"):
        raise ValueError("a keyword must not hold '<', '>' or line breaks")
    return keyword


LanguageCode = Annotated[str, AfterValidator(_known_language)]
Keyword = Annotated[Text, AfterValidator(_plain_keyword)]


class ServerVad(BaseModel):
    """Cut at silence found by voice activity detection."""

    type: Literal["server_vad"]
    threshold: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    prefix_padding_ms: int = Field(default=300, ge=0, le=60_000)
    silence_duration_ms: int = Field(default=200, ge=0, le=60_000)


class TranscriptionRequest(BaseModel):
    """Every field but the file. Unknown ones are ignored (GEN-06); which of these a model has, its family tells."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: Text
    language: LanguageCode | None = None
    prompt: str = ""
    response_format: ResponseFormat = "json"
    temperature: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    timestamp_granularities: list[Literal["word", "segment"]] = []
    include: list[Literal["logprobs"]] = []
    stream: bool = False
    chunking_strategy: Annotated[
        Literal["auto"] | ServerVad | None, Field(description="'auto', or an object of type 'server_vad'")
    ] = None
    known_speaker_names: list[str] = []
    known_speaker_references: list[str] = []
    keywords: list[Keyword] = []
    languages: list[LanguageCode] = []

    # extras of vLLM's and speaches' servers
    seed: Int64 | None = None
    top_p: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    top_k: int = Field(default=0, ge=-1, lt=2**31)
    min_p: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    repetition_penalty: float = Field(default=1.0, ge=0.01, le=100, allow_inf_nan=False)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2, allow_inf_nan=False)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2, allow_inf_nan=False)
    max_completion_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    use_beam_search: bool = False
    n: int = Field(default=1, ge=1, le=10)
    length_penalty: float = Field(default=1.0, allow_inf_nan=False)
    stream_include_usage: bool = False
    stream_continuous_usage_stats: bool = False
    stream_include_times: bool = False
    hotwords: str = ""
    to_language: str | None = None
    without_timestamps: bool = False
    vad_filter: bool = False

    # what is heard, and where it comes from
    url: str | None = None
    audio_track: int | None = Field(default=None, ge=0, lt=64)

    # extras of subtitles
    max_segment_s: float = Field(default=7.0, gt=0, le=30, allow_inf_nan=False)
    max_line_width: int = Field(default=42, ge=1, le=1_000)
    max_line_count: int = Field(default=2, ge=1, le=100)


ARRAYS = frozenset(
    name for name, field in TranscriptionRequest.model_fields.items() if str(field.annotation).startswith("list[")
)
OBJECTS = frozenset({"chunking_strategy"})


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DurationUsage(_Answer):
    type: Literal["duration"] = "duration"
    seconds: int


class InputTokenDetails(_Answer):
    text_tokens: int
    audio_tokens: int


class TokenUsage(_Answer):
    type: Literal["tokens"] = "tokens"
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_token_details: InputTokenDetails


class StreamUsage(TokenUsage):
    """OpenAI's names and vLLM's on one object."""

    prompt_tokens: int
    completion_tokens: int


class CompletionUsage(_Answer):
    """vLLM's form."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Logprob(_Answer):
    token: str
    logprob: float
    bytes: list[int]


class DetectedLanguage(_Answer):
    code: str


class Transcription(_Answer):
    text: str
    usage: DurationUsage | TokenUsage
    logprobs: list[Logprob] | None = None
    languages: list[DetectedLanguage] | None = None


class VerboseSegment(_Answer):
    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class VerboseWord(_Answer):
    word: str
    start: float
    end: float


class VerboseTranscription(_Answer):
    task: Literal["transcribe", "translate"]
    language: str
    duration: float
    text: str
    segments: list[VerboseSegment] | None
    words: list[VerboseWord] | None
    usage: DurationUsage


class DiarizedSegment(_Answer):
    type: Literal["transcript.text.segment"] = "transcript.text.segment"
    id: str
    start: float
    end: float
    text: str
    speaker: str


class DiarizedTranscription(_Answer):
    task: Literal["transcribe"] = "transcribe"
    duration: float
    text: str
    segments: list[DiarizedSegment]
    usage: TokenUsage


class Delta(_Answer):
    content: str


class Choice(_Answer):
    index: int = 0
    delta: Delta
    finish_reason: Literal["stop", "length"] | None = None


class StreamEvent(_Answer):
    """What every streamed line has, for OpenAI's readers (`type`) and for vLLM's (`choices`)."""

    id: str
    object: Literal["transcription.chunk", "translation.chunk"]
    created: int
    model: str
    choices: list[Choice]


class TextDeltaEvent(StreamEvent):
    type: Literal["transcript.text.delta"] = "transcript.text.delta"
    delta: str
    text: str
    segment_id: str | None = None
    start: float | None = None
    end: float | None = None
    words: list[VerboseWord] | None = None
    logprobs: list[Logprob] | None = None
    usage: CompletionUsage | None = None


class SegmentEvent(StreamEvent, DiarizedSegment):
    """A speaker's segment; `id` is its own."""


class TextDoneEvent(StreamEvent):
    type: Literal["transcript.text.done"] = "transcript.text.done"
    text: str
    usage: StreamUsage
    logprobs: list[Logprob] | None = None
    languages: list[DetectedLanguage] | None = None


class UsageEvent(StreamEvent):
    usage: CompletionUsage


def as_json(answer: _Answer) -> dict[str, Any]:
    """Keys that do not apply are left out, not null (TRF-10); finish_reason alone may be null."""
    data = answer.model_dump(exclude_none=True)
    for choice in data.get("choices", []):
        choice.setdefault("finish_reason", None)
    return data
