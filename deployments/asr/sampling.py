"""From logits to the next token of every row: Whisper's rules, penalties, and the row's own way to choose."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deployments.asr.vocabulary import Vocabulary
from deployments.decoding.sampling import apply_penalties, choose
from pipelines.transcript_types import DecodingOptions

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
        tokens = choose(logits, rows)
        chosen = logprobs[range(len(rows)), tokens]
        return tokens, chosen.tolist()

    def _apply_penalties(self, row: Choice, logits: Tensor) -> None:
        words = [token for token in row.written if token < self._vocabulary.end_of_text]
        apply_penalties(logits, words, row.options)

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
