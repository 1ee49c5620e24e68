"""One request aboard a Whisper engine: the window it decodes now, and what its windows have given so far."""

import random
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deployments.asr.sampling import Choice
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioChunk, Samples, SpeechSegment
from pipelines.transcript_types import DecodingOptions, FinishReason, Segment


@dataclass(slots=True)
class Attempt:
    """One decoding of a window at one temperature."""

    temperature: float
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: FinishReason = "stop"

    @property
    def avg_logprob(self) -> float:
        return sum(self.logprobs) / len(self.logprobs)


@dataclass(slots=True, eq=False)
class Row:
    """`prefix` is what the decoder reads first, known once the language is. `encoded` is (encoder frames, width),
    kept as long as the window is decoded. `skipped` are windows to come."""

    request_id: str
    chunk: AudioChunk
    options: DecodingOptions
    seed: int
    language: str | None
    window: SpeechSegment
    attempt: Attempt
    generator: torch.Generator
    prefix: list[int] = field(default_factory=list)
    encoded: Tensor | None = None
    no_speech_prob: float = 0.0
    failed_attempts: list[Attempt] = field(default_factory=list)
    skipped: list[SpeechSegment] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    num_windows: int = 0
    num_output_tokens: int = 0

    def start(self, temperature: float) -> None:
        """Begin to decode the window anew; a row's random numbers depend on nothing but its own seed and place."""
        self.attempt = Attempt(temperature)
        mixed = random.Random(f"{self.seed}/{self.chunk.index}/{self.num_windows}/{temperature}")
        self.generator.manual_seed(mixed.getrandbits(63))

    @property
    def samples(self) -> Samples:
        first = round((self.window.start_s - self.chunk.offset_s) * SAMPLE_RATE_HZ)
        last = round((self.window.end_s - self.chunk.offset_s) * SAMPLE_RATE_HZ)
        return self.chunk.waveform.samples[max(first, 0) : last]

    @property
    def duration_s(self) -> float:
        return self.window.end_s - self.window.start_s

    @property
    def choice(self) -> Choice:
        return Choice(self.options, self.attempt.temperature, self.generator, self.attempt.tokens)
