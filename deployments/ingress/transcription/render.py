"""Domain events to the wire: whole answers and streamed ones are rendered from the same events."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil
from typing import Any
from uuid import uuid4

from fastapi.responses import JSONResponse, PlainTextResponse, Response

from deployments.ingress.catalogue import ServedModel
from deployments.ingress.http.sse import to_line
from deployments.ingress.transcription.schema import (
    Choice,
    CompletionUsage,
    Delta,
    DetectedLanguage,
    DiarizedSegment,
    DiarizedTranscription,
    DurationUsage,
    InputTokenDetails,
    Logprob,
    SegmentEvent,
    StreamEvent,
    StreamUsage,
    TextDeltaEvent,
    TextDoneEvent,
    TokenUsage,
    Transcription,
    TranscriptionRequest,
    UsageEvent,
    VerboseSegment,
    VerboseTranscription,
    VerboseWord,
    as_json,
)
from pipelines.languages import language_name
from pipelines.subtitles import to_srt, to_vtt
from pipelines.transcript_types import Segment, SpeakerSegment, Task, Token, Transcript, Word
from pipelines.transcription_events import TextDelta

AUDIO_TOKENS_PER_S = 50
"""Whisper's encoder makes one position of every 20 ms."""

MAX_LINE_BYTES = 60_000
"""aiohttp's `readline` gives up at 128 KiB (TRS-09). The last event has the whole text all the same."""


def render_transcript(
    transcript: Transcript, request: TranscriptionRequest, model: ServedModel, task: Task
) -> Response:
    match request.response_format:
        case "text":
            return PlainTextResponse(transcript.text + "\n")
        case "srt":
            return PlainTextResponse(to_srt(transcript.segments, request.max_line_width))
        case "vtt":
            return PlainTextResponse(to_vtt(transcript.segments, request.max_line_width))
        case "verbose_json":
            return JSONResponse(as_json(_verbose(transcript, request, task)))
        case "diarized_json":
            return JSONResponse(as_json(_diarized(transcript)))
        case _:
            return JSONResponse(as_json(_plain(transcript, request, model)))


def _plain(transcript: Transcript, request: TranscriptionRequest, model: ServedModel) -> Transcription:
    is_whisper = model.family == "whisper"
    return Transcription(
        text=transcript.text,
        usage=duration_usage(transcript) if is_whisper else token_usage(transcript),
        logprobs=logprobs_of(transcript.tokens) if request.include else None,
        languages=languages_of(transcript, model),
    )


def _verbose(transcript: Transcript, request: TranscriptionRequest, task: Task) -> VerboseTranscription:
    granularities = request.timestamp_granularities or ["segment"]
    language = "en" if task == "translate" else transcript.language
    return VerboseTranscription(
        task=task,
        language=language_name(language),
        duration=transcript.info.duration_s,
        text=transcript.text,
        segments=_segments(transcript.segments) if "segment" in granularities else None,
        words=_words(transcript.words) if "word" in granularities else None,
        usage=duration_usage(transcript),
    )


def _diarized(transcript: Transcript) -> DiarizedTranscription:
    return DiarizedTranscription(
        duration=transcript.info.duration_s,
        text=transcript.text,
        segments=[DiarizedSegment(**_speaker_segment(segment)) for segment in transcript.speaker_segments],
        usage=token_usage(transcript),
    )


def _speaker_segment(segment: SpeakerSegment) -> dict[str, Any]:
    return {
        "id": segment.id,
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text,
        "speaker": segment.speaker,
    }


def _segments(segments: Iterable[Segment]) -> list[VerboseSegment]:
    return [
        VerboseSegment(
            id=number,
            seek=round(segment.seek_s * 100),
            start=round(segment.start_s, 3),
            end=round(segment.end_s, 3),
            text=segment.text,
            tokens=[token.id for token in segment.tokens],
            temperature=segment.temperature,
            avg_logprob=segment.avg_logprob,
            compression_ratio=segment.compression_ratio,
            no_speech_prob=segment.no_speech_prob,
        )
        for number, segment in enumerate(segments)
    ]


def _words(words: Iterable[Word]) -> list[VerboseWord]:
    return [VerboseWord(word=word.text, start=round(word.start_s, 3), end=round(word.end_s, 3)) for word in words]


def _times(delta: TextDelta) -> dict[str, Any]:
    return {"start": round(delta.start_s, 3), "end": round(delta.end_s, 3), "words": _words(delta.words)}


def duration_usage(transcript: Transcript) -> DurationUsage:
    return DurationUsage(seconds=max(ceil(transcript.info.duration_s), 1))


def token_usage(transcript: Transcript) -> TokenUsage:
    audio = max(ceil(transcript.info.duration_s * AUDIO_TOKENS_PER_S), 1)
    read = transcript.num_prompt_tokens + audio
    return TokenUsage(
        input_tokens=read,
        output_tokens=transcript.num_output_tokens,
        total_tokens=read + transcript.num_output_tokens,
        input_token_details=InputTokenDetails(text_tokens=transcript.num_prompt_tokens, audio_tokens=audio),
    )


def logprobs_of(tokens: Iterable[Token]) -> list[Logprob]:
    return [Logprob(token=token.text, logprob=token.logprob, bytes=list(token.data)) for token in tokens]


def languages_of(transcript: Transcript, model: ServedModel) -> list[DetectedLanguage] | None:
    return [DetectedLanguage(code=code) for code in transcript.languages] if model.family == "gpt" else None


@dataclass(slots=True)
class StreamRenderer:
    """One stream's events: OpenAI's own, each of them also a chunk in the form that vLLM's clients read."""

    request: TranscriptionRequest
    model: ServedModel
    task: Task
    id: str = field(default_factory=lambda: f"trsc-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    num_deltas_tokens: int = 0

    def delta(self, delta: TextDelta) -> StreamEvent:
        self.num_deltas_tokens += len(delta.tokens)
        with_usage = self.request.stream_continuous_usage_stats
        return TextDeltaEvent(
            **self._common(),
            choices=[Choice(delta=Delta(content=delta.text))],
            delta=delta.text,
            text=delta.text,
            segment_id=delta.segment_id,
            **(_times(delta) if self.request.stream_include_times else {}),
            logprobs=logprobs_of(delta.tokens) if self.request.include else None,
            usage=self._completion_usage(0, self.num_deltas_tokens) if with_usage else None,
        )

    def segment(self, segment: SpeakerSegment) -> StreamEvent:
        common = {**self._common(), **_speaker_segment(segment)}
        return SegmentEvent(**common, choices=[Choice(delta=Delta(content=""))])

    def done(self, transcript: Transcript) -> list[StreamEvent]:
        """The done event, and the usage chunk when it was asked for."""
        tokens = token_usage(transcript)
        usage = StreamUsage(
            **tokens.model_dump(), prompt_tokens=tokens.input_tokens, completion_tokens=tokens.output_tokens
        )
        done = TextDoneEvent(
            **self._common(),
            choices=[Choice(delta=Delta(content=""), finish_reason=transcript.finish_reason)],
            text=transcript.text,
            usage=usage,
            logprobs=logprobs_of(transcript.tokens) if self.request.include else None,
            languages=languages_of(transcript, self.model),
        )
        if len(to_line(as_json(done))) > MAX_LINE_BYTES:
            done = done.model_copy(update={"logprobs": None})
        events: list[StreamEvent] = [done]
        if self.request.stream_include_usage:
            total = self._completion_usage(usage.prompt_tokens, usage.completion_tokens)
            events.append(UsageEvent(**self._common(), choices=[], usage=total))
        return events

    def _common(self) -> dict[str, Any]:
        kind = "transcription.chunk" if self.task == "transcribe" else "translation.chunk"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model.id}

    @staticmethod
    def _completion_usage(num_read: int, num_written: int) -> CompletionUsage:
        return CompletionUsage(
            prompt_tokens=num_read, completion_tokens=num_written, total_tokens=num_read + num_written
        )
