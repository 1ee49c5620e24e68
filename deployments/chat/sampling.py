"""From logits to the next token of every row, each by its own options."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deployments.chat.row import Row
from deployments.chat.vocabulary import Vocabulary
from deployments.decoding.devices import put
from deployments.decoding.sampling import Sampler
from pipelines.chat_types import ScoredToken


class TokenChooser:
    """For a batch whose rows stay the same.

    Args:
        num_tokens: the width of logits; many models' output layers are padded beyond their vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary, rows: Sequence[Row], num_tokens: int, device: torch.device) -> None:
        self.rows = rows
        self._vocabulary = vocabulary
        self._sampler = Sampler(rows, num_tokens, num_tokens, device)
        biases = [
            (place, token, bias) for place, row in enumerate(rows) for token, bias in row.options.logit_bias.items()
        ]
        places, tokens, values = zip(*biases, strict=True) if biases else ((), (), ())
        self._biased = put(places, device, torch.int64), put(tokens, device, torch.int64)
        self._bias = put(values, device, torch.float32)
        self._num_best = max(
            (row.options.top_logprobs for row in rows if row.options.top_logprobs is not None), default=None
        )

    def choose(self, logits: Tensor) -> list[tuple[int, ScoredToken | None]]:
        """Choose one token per row and remember it, and tell how probable it was where that is asked for.

        Args:
            logits: float32 (rows, vocabulary); changed in place.

        Returns:
            token ids; log-probabilities are those under bias and penalties, but before temperature.
        """
        logits[:, self._vocabulary.size :] = -torch.inf
        self._sampler.penalise(logits)
        if len(self._bias):
            logits.index_put_(self._biased, self._bias, accumulate=True)
        tokens = self._sampler.choose(logits)
        self._sampler.note(tokens)
        if self._num_best is None:
            return [(token, None) for token in tokens.tolist()]
        return self._with_scores(logits, tokens, self._num_best)

    def _with_scores(self, logits: Tensor, tokens: Tensor, num_best: int) -> list[tuple[int, ScoredToken | None]]:
        logprobs = torch.log_softmax(logits, dim=-1)
        best = logprobs.topk(min(num_best, self._vocabulary.size))
        chosen = logprobs.gather(1, tokens[:, None])[:, 0]
        columns = [tokens[:, None].double(), chosen[:, None].double(), best.indices.double(), best.values.double()]
        found = zip(torch.cat(columns, dim=1).tolist(), self.rows, strict=True)  # a GPU is waited for once
        return [(int(token), _scored(int(token), logprob, others, row)) for (token, logprob, *others), row in found]


def _scored(token: int, logprob: float, others: list[float], row: Row) -> ScoredToken | None:
    """others: the most probable tokens, and behind them their log-probabilities."""
    wanted = row.options.top_logprobs
    if wanted is None:
        return None
    num_best = len(others) // 2
    alternatives = list(zip(others[:num_best], others[num_best:], strict=True))[:wanted]
    return ScoredToken(row.token(token, logprob), tuple(row.token(int(best), value) for best, value in alternatives))
