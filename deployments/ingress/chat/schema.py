"""The wire of /v1/chat/completions."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from deployments.ingress.http.fields import Int64, Text

AudioFormat = Literal["wav", "mp3", "flac", "mp4", "mpeg", "mpga", "m4a", "aac", "ogg", "oga", "opus", "webm"]
"""Only a hint: the content is sniffed."""

OWN_DEFAULT = "Default: what the model's generation_config.json says, else OpenAI's"

UNION_TAGS = frozenset({"string", "parts", "text", "input_audio", "audio_url"})
"""Steps of pydantic's paths that are no keys of the request."""


MAX_STOP_CHARACTERS = 1_000
"""Of each; every token is compared with all beginnings of them."""

MAX_MESSAGES, MAX_PARTS = 16_384, 1_024
"""Of a request, and of a message: to look at more takes longer than others should wait."""

MAX_BIASES = 1_024


class _Request(BaseModel):
    """Unknown fields are ignored (GEN-06), and null is not given (CHT-20). Lists fail fast: pydantic keeps a record of
    every mistake, and there may be millions in one body."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class TextContent(_Request):
    type: Literal["text"]
    text: str


class InputAudio(_Request):
    """data: base64."""

    data: str
    format: AudioFormat = "wav"


class InputAudioContent(_Request):
    type: Literal["input_audio"]
    input_audio: InputAudio


class AudioUrl(_Request):
    """url: http, https, or `data:…;base64,…`."""

    url: str


class AudioUrlContent(_Request):
    type: Literal["audio_url"]
    audio_url: AudioUrl


Content = Annotated[TextContent | InputAudioContent | AudioUrlContent, Field(discriminator="type")]


def _kind_of_content(content: Any) -> str:
    return "parts" if isinstance(content, list) else "string"


class ChatMessage(_Request):
    """Audio is heard in users' messages only. An assistant's message may have no content."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("string")]
        | Annotated[list[Content], Field(max_length=MAX_PARTS, fail_fast=True), Tag("parts")],
        Discriminator(_kind_of_content),
    ]

    @model_validator(mode="before")
    @classmethod
    def _assistant_without_content(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("role") == "assistant" and data.get("content") is None:
            return {**data, "content": ""}
        return data


class StreamOptions(_Request):
    include_usage: bool = False


class ChatRequest(_Request):
    model: Text
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    max_completion_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False, description=OWN_DEFAULT)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False, description=OWN_DEFAULT)
    n: int = Field(default=1, ge=1, le=8)
    stop: list[Annotated[Text, Field(max_length=MAX_STOP_CHARACTERS)]] = Field(
        default=[], max_length=4, description="A string, or up to four"
    )
    seed: Int64 | None = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2, allow_inf_nan=False)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2, allow_inf_nan=False)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]] = Field(
        default={}, max_length=MAX_BIASES, description="Token id to bias"
    )
    stream: bool = False
    stream_options: StreamOptions | None = None

    # extras of vLLM's server
    top_k: int | None = Field(default=None, ge=-1, lt=2**31, description=OWN_DEFAULT)
    min_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False, description=OWN_DEFAULT)
    repetition_penalty: float | None = Field(
        default=None, ge=0.01, le=100, allow_inf_nan=False, description=OWN_DEFAULT
    )

    # known, and refused where they ask for what is not served
    response_format: dict[str, Any] | None = None
    modalities: list[str] = Field(default=[], fail_fast=True)
    tools: list[Any] = []
    functions: list[Any] = []
    tool_choice: Any = None
    function_call: Any = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, stop: Any) -> Any:
        if stop == "":
            raise ValueError("must not be empty")
        return [stop] if isinstance(stop, str) else stop

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _few_biases(cls, biases: Any) -> Any:
        """At once: of a dictionary pydantic looks at all entries, and keeps a record of every mistake."""
        if isinstance(biases, dict) and len(biases) > MAX_BIASES:
            raise ValueError(f"must have at most {MAX_BIASES} tokens")
        return biases


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AlternativeToken(_Answer):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(AlternativeToken):
    top_logprobs: list[AlternativeToken]


class ChoiceLogprobs(_Answer):
    content: list[TokenLogprob]
    refusal: None = None


FinishReason = Literal["stop", "length"]


class AssistantMessage(_Answer):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(_Answer):
    index: int
    message: AssistantMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason


class PromptTokensDetails(_Answer):
    audio_tokens: int
    cached_tokens: int = 0


class ChatUsageAnswer(_Answer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ChatCompletion(_Answer):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: ChatUsageAnswer


class ChunkDelta(_Answer):
    """What is not given is left out."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(_Answer):
    index: int
    delta: ChunkDelta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(_Answer):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsageAnswer | None = None
