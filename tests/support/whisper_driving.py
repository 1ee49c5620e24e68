"""How tests drive a Whisper engine, and what must be equal in its answers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from deployments.asr.whisper import WhisperEngine
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioChunk, Samples, SpeechSegment, Waveform
from pipelines.transcript_types import ChunkTranscript, DecodingOptions

Request = tuple[AudioChunk, DecodingOptions]
Speech = dict[str, Samples]

PAUSE = np.zeros(SAMPLE_RATE_HZ // 2, np.float32)


def chunk_of(samples: Samples, index: int = 0, offset_s: float = 0.0) -> AudioChunk:
    waveform = Waveform(samples)
    return AudioChunk(index, offset_s, waveform, (SpeechSegment(offset_s, offset_s + waveform.duration_s),))


def joined(speech: Speech, *names: str) -> Samples:
    return np.concatenate([piece for name in names for piece in (speech[name], PAUSE)])


def finish(engine: WhisperEngine, answers: dict[str, ChunkTranscript], num_wanted: int) -> None:
    for _ in range(5_000):
        if len(answers) == num_wanted:
            return
        answers.update((output.request_id, output.result) for output in engine.step())
    raise AssertionError("somebody never finishes")


def together(engine: WhisperEngine, requests: Sequence[Request]) -> list[ChunkTranscript]:
    for number, (chunk, options) in enumerate(requests):
        engine.add(str(number), chunk, options)
    answers: dict[str, ChunkTranscript] = {}
    finish(engine, answers, len(requests))
    assert engine.step() == []
    return [answers[str(number)] for number in range(len(requests))]


def alone(engine: WhisperEngine, request: Request) -> ChunkTranscript:
    return together(engine, [request])[0]


def text_of(transcript: ChunkTranscript) -> str:
    return "".join(segment.text for segment in transcript.segments).strip()


def token_ids(transcript: ChunkTranscript) -> list[int]:
    return [token.id for segment in transcript.segments for token in segment.tokens]


def logprobs(transcript: ChunkTranscript) -> list[float]:
    return [token.logprob for segment in transcript.segments for token in segment.tokens]


def without_numbers(transcript: ChunkTranscript) -> ChunkTranscript:
    """All that must be exactly equal."""
    segments = tuple(
        replace(segment, start_s=0.0, end_s=0.0, avg_logprob=0.0, no_speech_prob=0.0, tokens=(), words=())
        for segment in transcript.segments
    )
    return replace(transcript, segments=segments)


def check_equal(found: Sequence[ChunkTranscript], expected: Sequence[ChunkTranscript]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert without_numbers(one) == without_numbers(other)
        assert token_ids(one) == token_ids(other)
        assert logprobs(one) == pytest.approx(logprobs(other), abs=1e-3)
        for segment, same in zip(one.segments, other.segments, strict=True):
            assert (segment.start_s, segment.end_s) == pytest.approx((same.start_s, same.end_s), abs=0.021)
            assert segment.no_speech_prob == pytest.approx(same.no_speech_prob, abs=1e-3)
            assert [word.text for word in segment.words] == [word.text for word in same.words]
            assert [word.start_s for word in segment.words] == pytest.approx(
                [word.start_s for word in same.words], abs=0.021
            )
