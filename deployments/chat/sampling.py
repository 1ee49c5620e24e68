"""From logits to the next token of every row, each by its own options."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deployments.chat.row import Row
from deployments.chat.vocabulary import Vocabulary
from deployments.decoding.sampling import apply_penalties, choose
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
        chosen = choose(logits, rows)
        return [(token_id, self._scored(token_id, *one)) for token_id, *one in zip(chosen, logits, rows, strict=True)]

    def _scored(self, token_id: int, logits: Tensor, row: Row) -> ScoredToken | None:
        if row.options.top_logprobs is None:
            return None
        logprobs = torch.log_softmax(logits, dim=-1)
        best = logprobs.topk(min(row.options.top_logprobs, self._vocabulary.size))
        alternatives = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return ScoredToken(
            row.token(token_id, float(logprobs[token_id])),
            tuple(row.token(*alternative) for alternative in alternatives),
        )


def _bend(logits: Tensor, row: Row) -> None:
    options = row.options
    read = row.prompt.token_ids[0].tolist() if options.repetition_penalty != 1.0 else ()
    apply_penalties(logits, row.written, options, read)
    for token_id, bias in options.logit_bias.items():
        logits[token_id] += bias
