"""From logits to the next token of every row: Whisper's rules, penalties, and the row's own way to choose."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deployments.asr.vocabulary import Vocabulary
from pipelines.types import DecodingOptions

NEVER = -math.inf


@dataclass(slots=True)
class Choice:
    """What choosing needs to know of a row: its options and what it has written so far."""

    options: DecodingOptions
    temperature: float
    generator: torch.Generator
    written: list[int]


class TokenChooser:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def choose(self, logits: Tensor, rows: Sequence[Choice]) -> tuple[list[int], list[float]]:
        """Choose one token per row.

        Args:
            logits: float32 (rows, vocabulary); changed in place.

        Returns:
            token ids, and their log-probabilities under the rules but before temperature.
        """
        logits[:, self._vocabulary.suppressed] = NEVER
        for row, row_logits in zip(rows, logits, strict=True):
            self._apply_penalties(row, row_logits)
            if not row.written:
                row_logits[self._vocabulary.suppressed_at_begin] = NEVER
            if row.options.timestamps:
                self._apply_timestamp_rules(row.written, row_logits)
        self._prefer_timestamps(logits, rows)
        logprobs = torch.log_softmax(logits, dim=-1)
        tokens = logprobs.argmax(dim=-1)
        for position, row in enumerate(rows):
            if row.temperature > 0:
                tokens[position] = _sample(logits[position], row)
        chosen = logprobs.gather(1, tokens[:, None])[:, 0]
        return tokens.tolist(), chosen.tolist()

    def _apply_penalties(self, row: Choice, logits: Tensor) -> None:
        options = row.options
        words = [token for token in row.written if token < self._vocabulary.end_of_text]
        if not words:
            return
        if options.repetition_penalty != 1.0:
            seen = torch.tensor(sorted(set(words)), device=logits.device)
            scores = logits[seen]
            factor = options.repetition_penalty
            logits[seen] = torch.where(scores > 0, scores / factor, scores * factor)
        if options.frequency_penalty or options.presence_penalty:
            for token, count in Counter(words).items():
                logits[token] -= options.frequency_penalty * count + options.presence_penalty

    def _apply_timestamp_rules(self, written: Sequence[int], logits: Tensor) -> None:
        """Timestamps come in pairs and never go back (`ApplyTimestampRules` of Whisper's reference decoder)."""
        begin, end_of_text = self._vocabulary.timestamp_begin, self._vocabulary.end_of_text
        logits[self._vocabulary.no_timestamps] = NEVER
        if not written:
            logits[:begin] = NEVER
            if self._vocabulary.max_initial_timestamp is not None:
                logits[begin + self._vocabulary.max_initial_timestamp + 1 :] = NEVER
            return
        last_is_timestamp = written[-1] >= begin
        is_pair_open = last_is_timestamp and len(written) >= 2 and written[-2] < begin
        if last_is_timestamp:
            if is_pair_open:
                logits[:end_of_text] = NEVER
            else:
                logits[begin:] = NEVER
        latest = max((token for token in written if token >= begin), default=None)
        if latest is not None:
            logits[begin : latest if is_pair_open else latest + 1] = NEVER

    def _prefer_timestamps(self, logits: Tensor, rows: Sequence[Choice]) -> None:
        """Where all timestamps together are more probable than any word, a timestamp it is."""
        begin = self._vocabulary.timestamp_begin
        timed = torch.tensor([row.options.timestamps for row in rows], device=logits.device)
        likely = logits[:, begin:].logsumexp(dim=-1) > logits[:, :begin].amax(dim=-1)
        logits[:, :begin] = logits[:, :begin].masked_fill((timed & likely)[:, None], NEVER)


def _sample(logits: Tensor, row: Choice) -> Tensor:
    """Draw from one row's distribution by its own generator, so that who else is aboard changes nothing."""
    options = row.options
    probabilities = torch.softmax(logits.double() / row.temperature, dim=-1)
    ordered, tokens = probabilities.sort(descending=True, stable=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if options.top_k > 0:
        keep[options.top_k :] = False
    if options.top_p < 1.0:
        keep &= (ordered.cumsum(0) - ordered) < options.top_p
    if options.min_p > 0.0:
        keep &= ordered >= options.min_p * ordered[0]
    ordered = torch.where(keep, ordered, 0.0)
    cumulated = ordered.cumsum(0)
    draw = torch.rand((), generator=row.generator, dtype=torch.float64).item() * cumulated[-1]
    drawn = torch.searchsorted(cumulated, draw, right=True)
    return tokens[drawn.clamp(max=len(tokens) - 1)]
