"""From logits to the next token of every row, each by its own options."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deployments.chat.row import Row
from deployments.chat.vocabulary import Vocabulary
from deployments.decoding.sampling import apply_penalties, draw
from pipelines.chat_types import ScoredToken


class TokenChooser:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def choose(self, logits: Tensor, rows: Sequence[Row]) -> list[tuple[int, ScoredToken | None]]:
        """Choose one token per row, and tell how probable it was where that is asked for.

        Args:
            logits: float32 (rows, vocabulary); changed in place.

        Returns:
            token ids; log-probabilities are those under bias and penalties, but before temperature.
        """
        logits[:, self._vocabulary.size :] = -torch.inf  # many models' output layers are padded
        for row, row_logits in zip(rows, logits, strict=True):
            _bend(row_logits, row)
        greedy: list[int] = logits.argmax(dim=-1).tolist()
        return [self._choose_one(*one) for one in zip(logits, rows, greedy, strict=True)]

    def _choose_one(self, logits: Tensor, row: Row, most_probable: int) -> tuple[int, ScoredToken | None]:
        options = row.options
        token_id = most_probable
        if options.temperature > 0:
            token_id = int(draw(logits, options.temperature, options, row.generator))
        if options.top_logprobs is None:
            return token_id, None
        logprobs = torch.log_softmax(logits, dim=-1)
        best = logprobs.topk(min(options.top_logprobs, self._vocabulary.size))
        alternatives = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        scored = ScoredToken(
            row.token(token_id, float(logprobs[token_id])),
            tuple(row.token(*alternative) for alternative in alternatives),
        )
        return token_id, scored


def _bend(logits: Tensor, row: Row) -> None:
    options = row.options
    read = row.prompt.token_ids[0].tolist() if options.repetition_penalty != 1.0 else ()
    apply_penalties(logits, row.written, options, read)
    for token_id, bias in options.logit_bias.items():
        logits[token_id] += bias
