"""Families of transcription models: which parameters each one has (api contract, TRP table)."""

from dataclasses import dataclass

from deployments.ingress.transcription.schema import ResponseFormat, TranscriptionRequest
from deployments.model_configs import Family
from pipelines.errors import InvalidRequest
from pipelines.languages import language_of


@dataclass(frozen=True, slots=True)
class FamilyRules:
    response_formats: frozenset[ResponseFormat]
    parameters: frozenset[str]
    """The optional parameters that only some families have."""


RULES: dict[Family, FamilyRules] = {
    "whisper": FamilyRules(
        frozenset({"json", "text", "srt", "verbose_json", "vtt"}), frozenset({"timestamp_granularities"})
    ),
    "4o": FamilyRules(frozenset({"json", "text"}), frozenset({"include"})),
    "gpt": FamilyRules(frozenset({"json", "text"}), frozenset({"keywords", "languages"})),
    "diarize": FamilyRules(
        frozenset({"json", "text", "diarized_json"}), frozenset({"known_speaker_names", "known_speaker_references"})
    ),
}

STREAMED_FORMATS: frozenset[ResponseFormat] = frozenset({"json", "text", "diarized_json"})

MAX_UNCHUNKED_S = 30.0
"""Longer audio needs a chunking_strategy where speakers are told apart, as at OpenAI."""


def check_transcription(request: TranscriptionRequest, family: Family) -> None:
    """Refuse what the family does not have and what does not go together (TRP-04 to TRP-12).

    Raises:
        InvalidRequest: naming the parameter.
    """
    rules = RULES[family]
    _check_response_format(request, rules.response_formats)
    if request.prompt and family == "diarize":
        raise _unsupported("prompt", request.model)
    for name in ("include", "keywords", "languages", "known_speaker_names", "known_speaker_references"):
        if getattr(request, name) and name not in rules.parameters:
            raise _unsupported(name, request.model)
    if "word" in request.timestamp_granularities:
        if "timestamp_granularities" not in rules.parameters:
            raise _unsupported("timestamp_granularities", request.model)
        if request.response_format != "verbose_json":
            raise InvalidRequest(
                "timestamp_granularities with 'word' needs response_format 'verbose_json'.", "timestamp_granularities"
            )
    if request.include and request.response_format != "json":
        raise InvalidRequest("include=['logprobs'] needs response_format 'json'.", "include")
    if request.language and request.languages:
        raise InvalidRequest("Give either language or languages, not both.", "languages")
    _check_stream(request)
    _check_beam_search(request)


def check_duration(request: TranscriptionRequest, family: Family, duration_s: float) -> None:
    """DIA-02.

    Raises:
        InvalidRequest
    """
    is_chunked = request.chunking_strategy is not None or request.vad_filter
    if family == "diarize" and duration_s > MAX_UNCHUNKED_S and not is_chunked:
        raise InvalidRequest(
            f"chunking_strategy is required for audio longer than {MAX_UNCHUNKED_S:.0f} seconds with model "
            f"'{request.model}': use 'auto'. The audio is {duration_s:.1f} s long.",
            "chunking_strategy",
        )


def check_translation(request: TranscriptionRequest, family: Family) -> None:
    """TRL-01 to TRL-04: only Whisper translates, and only to English."""
    if family != "whisper":
        raise InvalidRequest(f"The model '{request.model}' does not translate. Use a Whisper model.", "model")
    if request.to_language is not None and language_of(request.to_language) != "en":
        raise InvalidRequest("Only translation to English ('en') is supported.", "to_language")
    check_transcription(request, family)


def _check_response_format(request: TranscriptionRequest, supported: frozenset[ResponseFormat]) -> None:
    if request.response_format not in supported:
        raise InvalidRequest(
            f"response_format '{request.response_format}' is not compatible with model '{request.model}'. "
            f"Use one of: {', '.join(sorted(supported))}.",
            "response_format",
            "unsupported_value",
        )


def _check_stream(request: TranscriptionRequest) -> None:
    if request.stream and request.response_format not in STREAMED_FORMATS:
        raise InvalidRequest(f"response_format '{request.response_format}' cannot be streamed.", "stream")
    for name in ("stream_include_usage", "stream_continuous_usage_stats", "stream_include_times"):
        if getattr(request, name) and not request.stream:
            raise InvalidRequest(f"{name} needs stream=true.", name)
    if request.stream_continuous_usage_stats and not request.stream_include_usage:
        raise InvalidRequest(
            "stream_continuous_usage_stats needs stream_include_usage=true.", "stream_continuous_usage_stats"
        )
    if request.stream_include_times and request.response_format == "diarized_json":
        raise InvalidRequest("Segments of 'diarized_json' tell their times themselves.", "stream_include_times")


def _check_beam_search(request: TranscriptionRequest) -> None:
    if request.use_beam_search:
        raise InvalidRequest("Beam search is not supported.", "use_beam_search", "unsupported_parameter")
    if request.n != 1:
        raise InvalidRequest("n other than 1 needs beam search, which is not supported.", "n", "unsupported_parameter")
    if request.length_penalty != 1.0:
        raise InvalidRequest(
            "length_penalty needs beam search, which is not supported.", "length_penalty", "unsupported_parameter"
        )


def _unsupported(name: str, model: str) -> InvalidRequest:
    return InvalidRequest(f"{name} is not supported by the model '{model}'.", name, "unsupported_parameter")
