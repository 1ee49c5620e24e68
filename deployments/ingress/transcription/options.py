"""What a request asks for, in the pipelines' words."""

from collections.abc import Iterable

from deployments.ingress.http.fields import sampled
from deployments.ingress.transcription.schema import ServerVad, TranscriptionRequest
from pipelines.audio_types import VadOptions
from pipelines.transcript_types import CueOptions, DecodingOptions, Task
from pipelines.whisper import MAX_PROMPT_CHARACTERS

TIMED_FORMATS = frozenset({"verbose_json", "srt", "vtt"})
"""Those that tell when something was said; of speakers the pipeline asks by itself."""


def to_options(request: TranscriptionRequest, task: Task) -> DecodingOptions:
    hotwords = (request.hotwords,) if request.hotwords else ()
    has_times = request.response_format in TIMED_FORMATS or request.stream_include_times
    return DecodingOptions(
        task=task,
        language=request.language,
        languages=tuple(request.languages),
        prompt=request.prompt.strip()[-MAX_PROMPT_CHARACTERS:],
        keywords=_read_keywords((*request.keywords, *hotwords)),
        timestamps=has_times and not request.without_timestamps,
        word_timestamps="word" in request.timestamp_granularities or request.stream_include_times,
        cues=CueOptions(request.max_segment_s, request.max_line_width, request.max_line_count),
        timestamp_tokens=not request.without_timestamps,
        temperature=sampled(request.temperature),
        seed=request.seed,
        top_p=request.top_p,
        top_k=max(request.top_k, 0),
        min_p=request.min_p,
        repetition_penalty=request.repetition_penalty,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        max_tokens=request.max_completion_tokens,
    )


def _read_keywords(keywords: Iterable[str]) -> tuple[str, ...]:
    """Those that are looked at: what is beyond would travel with every chunk for nothing."""
    kept: list[str] = []
    room = MAX_PROMPT_CHARACTERS
    for keyword in keywords:
        if room <= 0:
            break
        kept.append(keyword[:room])
        room -= len(keyword)
    return tuple(kept)


def to_vad_options(request: TranscriptionRequest) -> VadOptions:
    strategy = request.chunking_strategy
    if not isinstance(strategy, ServerVad):
        return VadOptions()
    return VadOptions(strategy.threshold, strategy.prefix_padding_ms, strategy.silence_duration_ms)
