"""One request aboard a Whisper engine: a chunk, which is one window of Whisper's, and the attempts to decode it."""

import random
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from deployments.asr.sampling import Choice
from pipelines.audio_types import AudioChunk, SpeechSegment
from pipelines.transcript_types import DecodingOptions, FinishReason, HeardLanguage, LanguageChange, Lookup, Segment
from pipelines.whisper import TIMESTAMP_STEP_S

MAX_LEFT_OUT_S = 1.0
"""More speech than this at the end of a window is no breath."""


@dataclass(slots=True)
class Attempt:
    """One decoding of a window at one temperature. is_loop: it repeated itself without end, and was cut off where that
    began."""

    temperature: float
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    is_loop: bool = False

    def cut(self, length: int) -> None:
        """Forget what was written behind it."""
        del self.tokens[length:]
        del self.logprobs[length:]

    @property
    def avg_logprob(self) -> float:
        return sum(self.logprobs) / len(self.logprobs)


@dataclass(slots=True, eq=False)
class Row:
    """One chunk on its way.

    heard: its language, once it is known; of a chunk in two of them `change` says where, and nothing is decoded.
    prefix: what the decoder reads first.
    is_timed: it writes timestamp tokens.
    segments: none where nobody speaks; they may still be written when the row has left its slot.
    lookups: of what the encoder made of it.
    """

    request_id: str
    chunk: AudioChunk
    options: DecodingOptions
    seed: int
    is_timed: bool
    heard: HeardLanguage | None
    attempt: Attempt
    attempt_seed: int = 0
    added_at_s: float = field(default_factory=time.monotonic)
    prefix: list[int] = field(default_factory=list)
    no_speech_prob: float = 0.0
    failed_attempts: list[Attempt] = field(default_factory=list)
    change: LanguageChange | None = None
    segments: "Future[list[Segment]] | None" = None
    lookups: tuple[Lookup, ...] = ()

    def start(self, temperature: float) -> None:
        """Begin to decode the window anew; a row's random numbers depend on nothing but its own seed and place."""
        written = self.options.written
        self.attempt = Attempt(temperature, [token.id for token in written], [token.logprob for token in written])
        mixed = random.Random(f"{self.seed}/{self.chunk.index}/{temperature}")
        self.attempt_seed = mixed.getrandbits(63)

    @property
    def speech(self) -> tuple[SpeechSegment, ...]:
        """Where somebody speaks; where the chunk does not say, everywhere."""
        return self.chunk.speech or (SpeechSegment(self.chunk.offset_s, self.chunk.end_s),)

    @property
    def choice(self) -> Choice:
        return Choice(
            self.options,
            self.attempt.temperature,
            self.attempt_seed,
            self.attempt.tokens,
            self.is_timed,
            self._must_reach,
        )

    @property
    def _must_reach(self) -> int:
        speech_s = self.speech[-1].end_s - self.chunk.offset_s
        return int((speech_s - MAX_LEFT_OUT_S) / TIMESTAMP_STEP_S)
