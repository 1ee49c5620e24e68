"""From logits to the next token of every row: Whisper's rules, penalties, and each row's own way to choose."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deployments.asr.vocabulary import Vocabulary
from deployments.decoding.devices import put
from deployments.decoding.sampling import Sampler
from pipelines.transcript_types import DecodingOptions

NEVER = -math.inf


@dataclass(slots=True)
class Choice:
    """What choosing needs to know of a row.

    is_timed: it writes timestamp tokens. must_reach: the timestamp, counted from 0, before which it may not end.
    """

    options: DecodingOptions
    temperature: float = 0.0
    seed: int = 0
    written: Sequence[int] = ()
    is_timed: bool = False
    must_reach: int = 0
    read: Sequence[int] = field(default=(), init=False)


class TokenChooser:
    """For a batch whose rows stay the same; their past is kept as tensors, and no step looks back at it."""

    def __init__(
        self, vocabulary: Vocabulary, rows: Sequence[Choice], num_tokens: int, device: torch.device | None = None
    ) -> None:
        self._vocabulary = vocabulary
        self._sampler = Sampler(rows, num_tokens, vocabulary.end_of_text, device)
        self._suppressed = put(vocabulary.suppressed, device, torch.int64)
        self._suppressed_at_begin = put(vocabulary.suppressed_at_begin, device, torch.int64)
        begins = [place for place, row in enumerate(rows) if not row.written]
        self._begins = put(begins, device, torch.int64)
        is_timed = any(row.is_timed for row in rows)
        self._timestamps = TimestampRules(vocabulary, rows, num_tokens, device) if is_timed else None

    def choose(self, logits: Tensor) -> tuple[list[int], list[float]]:
        """Choose one token per row, and remember it.

        Args:
            logits: float32 (rows, vocabulary); changed in place.

        Returns:
            token ids, and their log-probabilities under the rules but before temperature.
        """
        logits[:, self._suppressed] = NEVER
        self._sampler.penalise(logits)
        if len(self._begins):
            logits[self._begins[:, None], self._suppressed_at_begin] = NEVER
            self._begins = self._begins[:0]
        if self._timestamps:
            self._timestamps.apply(logits)
        tokens = self._sampler.choose(logits)
        logprobs = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)
        self._sampler.note(tokens)
        if self._timestamps:
            self._timestamps.note(tokens)
        ids, values = torch.stack([tokens.double(), logprobs.double()]).tolist()  # the step's only wait for a GPU
        return [int(token) for token in ids], values


class TimestampRules:
    """Timestamps come in pairs and never go back (`ApplyTimestampRules` of Whisper's reference decoder).

    And text does not end long before the speech does: left alone, the decoder closes a full window before its last
    sentence, which would be decoded in another window then, or lost.
    """

    def __init__(
        self, vocabulary: Vocabulary, rows: Sequence[Choice], num_tokens: int, device: torch.device | None
    ) -> None:
        self._vocabulary = vocabulary
        begin = vocabulary.timestamp_begin
        places = torch.arange(num_tokens, device=device)
        self._places, self._is_time, self._is_text = places, places >= begin, places < vocabulary.end_of_text
        latest = [max((token for token in row.written if token >= begin), default=begin - 1) for row in rows]

        def column(values: Sequence[bool | int]) -> Tensor:
            return put(values, device)[:, None]

        self._is_timed = column([row.is_timed for row in rows])
        self._is_first = column([not row.written for row in rows])
        self._last_is_time = column([bool(row.written) and row.written[-1] >= begin for row in rows])
        self._before_is_text = column([len(row.written) > 1 and row.written[-2] < begin for row in rows])
        self._latest = column(latest)
        self._has_text = column([any(token < begin for token in row.written) for row in rows])
        self._must_reach = column([begin + row.must_reach for row in rows])

    def apply(self, logits: Tensor) -> None:
        begin = self._vocabulary.timestamp_begin
        closes = self._last_is_time & self._before_is_text
        forbidden = self._places == self._vocabulary.no_timestamps
        forbidden = forbidden | (self._last_is_time & torch.where(closes, self._is_text, self._is_time))
        # what has just closed a segment may open the next
        earliest = torch.where(closes, self._latest, self._latest + 1)
        forbidden = forbidden | (self._is_time & (self._places < earliest))
        ends_early = self._has_text & self._last_is_time & (self._latest < self._must_reach)
        forbidden = forbidden | (ends_early & (self._places == self._vocabulary.end_of_text))
        first = ~self._is_time
        if self._vocabulary.max_initial_timestamp is not None:
            first = first | (self._places > begin + self._vocabulary.max_initial_timestamp)
        forbidden = torch.where(self._is_first, first | (self._places == self._vocabulary.no_timestamps), forbidden)
        logits.masked_fill_(self._is_timed & forbidden, NEVER)
        # Where all timestamps together are more probable than any word, a timestamp it is.
        likely = logits[:, begin:].logsumexp(dim=-1) > logits[:, :begin].amax(dim=-1)
        logits.masked_fill_(self._is_timed & likely[:, None] & ~self._is_time, NEVER)

    def note(self, tokens: Tensor) -> None:
        is_time = (tokens >= self._vocabulary.timestamp_begin)[:, None]
        self._before_is_text = ~self._is_first & ~self._last_is_time
        self._last_is_time = is_time
        self._latest = torch.where(is_time, torch.maximum(self._latest, tokens[:, None]), self._latest)
        self._has_text = self._has_text | ~is_time
        self._is_first = torch.zeros_like(self._is_first)
