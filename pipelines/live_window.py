"""What of somebody's speech is decoded together, and what is known of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from pipelines.agreement import text_of
from pipelines.languages import WRITTEN_WITHOUT_SPACES
from pipelines.transcript_types import ChunkTranscript, Segment, Token
from pipelines.whisper import compression_ratio, needs_fallback, repetition

MUST_CUT_AFTER_S = 26.0
"""A window is cut wherever a segment ends, agreed or not, before it has no room in Whisper's receptive field."""


@dataclass(slots=True)
class Window:
    """What is decoded together.

    told: text of it that was told. agreed: its tokens.
    answer: of the last decoding, which has heard what is before `heard_until_s`; `is_draft`: in a hurry.
    tried_until_s: what is before was decoded, or somebody tried.
    """

    start_s: float
    tried_until_s: float
    agreed: tuple[Token, ...] = ()
    told: str = ""
    answer: ChunkTranscript | None = None
    heard_until_s: float = 0.0
    is_draft: bool = True

    @property
    def tokens(self) -> tuple[Token, ...]:
        """All that the last decoding has written. It begins with what is agreed, or counts for nothing."""
        return self._written if self._goes_on else self.agreed

    @property
    def language(self) -> str | None:
        return self.answer.language if self.answer else None

    @property
    def is_full(self) -> bool:
        """It must be cut."""
        return self.heard_until_s - self.start_s >= MUST_CUT_AFTER_S

    @property
    def is_doubtful(self) -> bool:
        """The last decoding has given nothing new, or nothing good."""
        return self.tokens == self.agreed or is_poor(self.answer)

    def is_clean_cut(self, length: int) -> bool:
        """Whether two texts that are cut behind so many tokens join to what they were."""
        before, after = text_of(self.tokens[:length]), text_of(self.tokens[length : length + 1])
        is_spaced = self.language not in WRITTEN_WITHOUT_SPACES
        return before == before.rstrip() and (not after or not is_spaced or after[0].isspace())

    def boundaries(self) -> list[tuple[int, float]]:
        """Ends of segments: how many tokens are before, and when."""
        if self.answer is None or not self.answer.segments or not self._goes_on:
            return [(len(self.agreed), self.heard_until_s)]
        ends = accumulate(len(segment.tokens) for segment in self.answer.segments)
        pauses_s = [(one.end_s + following.start_s) / 2 for one, following in pairwise(self.answer.segments)]
        return list(zip(ends, [*pauses_s, self.heard_until_s], strict=True))

    @property
    def _written(self) -> tuple[Token, ...]:
        return tuple(token for segment in self.answer.segments for token in segment.tokens) if self.answer else ()

    @property
    def _goes_on(self) -> bool:
        return [token.id for token in self._written[: len(self.agreed)]] == [token.id for token in self.agreed]


def chunk_of(answer: ChunkTranscript, tokens: Sequence[Token], start_s: float, end_s: float) -> ChunkTranscript:
    """The answer with these tokens as its only segment."""
    if not tokens:
        return replace(answer, segments=())
    text = text_of(tokens)
    segment = Segment(
        start_s=start_s,
        end_s=end_s,
        text=text,
        tokens=tuple(tokens),
        temperature=max((segment.temperature for segment in answer.segments), default=0.0),
        avg_logprob=sum(token.logprob for token in tokens) / len(tokens),
        compression_ratio=compression_ratio(text),
        no_speech_prob=max((segment.no_speech_prob for segment in answer.segments), default=0.0),
    )
    return replace(answer, segments=(segment,))


def is_poor(answer: ChunkTranscript | None) -> bool:
    return answer is None or any(
        needs_fallback(segment.avg_logprob, repetition(segment.text), segment.no_speech_prob)
        for segment in answer.segments
    )
