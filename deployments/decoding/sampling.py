"""How the rows of a batch choose their next tokens, all of them at once."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from deployments.decoding.devices import moved, put
from pipelines.sampling import Sampling

GOLDEN_GAMMA, MIX_1, MIX_2 = 0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
"""SplitMix64's constants (G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", 2014), as the
signed numbers that torch has."""


NUM_BEST = 1024


class Drawing(Protocol):
    """What choosing needs to know of a row; its temperature may be above that of its options.

    written: token ids that the row has chosen. read: those of its prompt; only the repetition penalty looks at them.
    """

    @property
    def options(self) -> Sampling: ...

    @property
    def temperature(self) -> float: ...

    @property
    def seed(self) -> int: ...

    @property
    def written(self) -> Sequence[int]: ...

    @property
    def read(self) -> Sequence[int]: ...


class Sampler:
    """The options and the past of a batch's rows as tensors, made anew when somebody joins or leaves.

    Args:
        num_countable: tokens from this id on are no words, and nothing makes them less likely.
    """

    def __init__(
        self, rows: Sequence[Drawing], num_tokens: int, num_countable: int, device: torch.device | None = None
    ) -> None:
        def column(values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
            return put(values, device, dtype)[:, None]

        options = [row.options for row in rows]
        self._num_countable = num_countable
        self._repetition = column([one.repetition_penalty for one in options], torch.float32)
        self._frequency = column([one.frequency_penalty for one in options], torch.float32)
        self._presence = column([one.presence_penalty for one in options], torch.float32)
        self._counts: Tensor | None = None
        self._seen: Tensor | None = None
        if any(one.frequency_penalty or one.presence_penalty for one in options):
            self._counts = _counted([row.written for row in rows], num_tokens, num_countable, device)
        if any(one.repetition_penalty != 1.0 for one in options):
            history = [[*row.written, *row.read] for row in rows]
            self._seen = _counted(history, num_tokens, num_countable, device) > 0
        nucleus = [place for place, row in enumerate(rows) if row.temperature > 0 and _is_cut(row.options)]
        plain = [place for place, row in enumerate(rows) if row.temperature > 0 and not _is_cut(row.options)]
        self._temperature = column([row.temperature or 1.0 for row in rows])
        self._min_p = column([one.min_p for one in options])
        self._top_p = column([one.top_p for one in options])
        top_ks = [min(one.top_k, num_tokens) if one.top_k > 0 else num_tokens for one in options]
        self._top_k = column(top_ks, torch.int64)
        self._max_top_k = max((top_ks[place] for place in nucleus), default=0)
        self._nucleus = put(nucleus, device, torch.int64)
        self._plain = put(plain, device, torch.int64)
        seeds = [row.seed % 2**64 for row in rows]
        signed = [seed - 2**64 if seed >= 2**63 else seed for seed in seeds]
        self._seeds = put(signed, device, torch.int64)
        self._num_written = put([len(row.written) for row in rows], device)

    def penalise(self, logits: Tensor) -> None:
        """Make what a row has said already less likely, in place.

        Args:
            logits: float32 (rows, vocabulary).

        `repetition_penalty` is CTRL's (Keskar et al. 2019), the other two are OpenAI's.
        """
        if self._seen is not None:
            lower = torch.where(logits > 0, logits / self._repetition, logits * self._repetition)
            logits.copy_(torch.where(self._seen, lower, logits))
        if self._counts is not None:
            logits -= self._frequency * self._counts + self._presence * (self._counts > 0)

    def choose(self, logits: Tensor) -> Tensor:
        """One token for each row, (rows,): the most probable one, or at a temperature above 0 one that is drawn.

        A row's number hangs on its seed and on how much it has written, so that who else is aboard changes nothing.

        Args:
            logits: (rows, vocabulary).
        """
        tokens = logits.argmax(dim=-1)
        if len(self._plain) or len(self._nucleus):
            numbers = uniform(self._seeds, self._num_written)
        if len(self._plain):
            tokens[self._plain] = self._draw(logits, numbers, self._plain)
        if len(self._nucleus):
            tokens[self._nucleus] = self._draw_cut(logits, numbers, self._nucleus)
        return tokens

    def note(self, tokens: Tensor) -> None:
        """The rows have written these."""
        self._num_written += 1
        words = (tokens < self._num_countable)[:, None]
        if self._counts is not None:
            self._counts.scatter_add_(1, tokens[:, None], words.float())
        if self._seen is not None:
            said = torch.zeros_like(self._seen).scatter_(1, tokens[:, None], words)
            self._seen |= said

    def _draw(self, logits: Tensor, numbers: Tensor, rows: Tensor) -> Tensor:
        probabilities = self._probabilities(logits, rows)
        largest = probabilities.amax(dim=-1, keepdim=True)
        return _place(probabilities.where(probabilities >= self._min_p[rows] * largest, 0.0), numbers[rows])

    def _draw_cut(self, logits: Tensor, numbers: Tensor, rows: Tensor) -> Tensor:
        """Among the most probable only."""
        ordered, tokens = self._ordered(self._probabilities(logits, rows), rows)
        places = torch.arange(ordered.shape[-1], device=ordered.device)
        keep = (places < self._top_k[rows]) & ((ordered.cumsum(dim=-1) - ordered) < self._top_p[rows])
        keep &= ordered >= self._min_p[rows] * ordered[:, :1]
        return tokens.gather(1, _place(ordered.where(keep, 0.0), numbers[rows])[:, None])[:, 0]

    def _ordered(self, probabilities: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The most probable and what they are, as many as anybody chooses among; equals by what they are.

        On a CPU to sort a vocabulary takes longer than to read a small model, and few tokens are nearly always enough.
        """
        if not probabilities.is_cuda:
            num_best = min(self._max_top_k, NUM_BEST, probabilities.shape[-1])
            tokens = probabilities.topk(num_best, sorted=False).indices.sort(dim=-1).values
            best, order = probabilities.gather(1, tokens).sort(dim=-1, descending=True, stable=True)
            is_enough = (self._top_k[rows] <= num_best) | (best.sum(dim=-1, keepdim=True) >= self._top_p[rows])
            if bool(is_enough.all()):
                return best, tokens.gather(1, order)
        ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        return ordered[:, : self._max_top_k], tokens[:, : self._max_top_k]

    def _probabilities(self, logits: Tensor, rows: Tensor) -> Tensor:
        chosen = logits[rows].double()
        # softmax does not change when all are lowered, and what is 0 or less cannot overflow at a tiny temperature
        lowered = chosen - chosen.amax(dim=-1, keepdim=True)
        return torch.softmax(lowered / self._temperature[rows], dim=-1)


def uniform(seeds: Tensor, counters: Tensor) -> Tensor:
    """The number that SplitMix64 gives each seed at a counter: float64 from 0 to below 1, the same on every device.

    Args:
        seeds, counters: int64, of equal shape.
    """
    mixed = seeds + (counters + 1) * GOLDEN_GAMMA
    mixed = (mixed ^ _shifted(mixed, 30)) * MIX_1
    mixed = (mixed ^ _shifted(mixed, 27)) * MIX_2
    mixed = mixed ^ _shifted(mixed, 31)
    return _shifted(mixed, 11).double() * 2.0**-53


def _shifted(numbers: Tensor, places: int) -> Tensor:
    """To the right, zeros coming in; torch repeats the sign."""
    return (numbers >> places) & ((1 << (64 - places)) - 1)


def _place(weights: Tensor, numbers: Tensor) -> Tensor:
    """Where in (rows, n) each row's number falls."""
    cumulated = weights.cumsum(dim=-1)
    drawn = numbers[:, None] * cumulated[:, -1:]
    return torch.searchsorted(cumulated, drawn, right=True)[:, 0].clamp_(max=weights.shape[-1] - 1)


def _is_cut(options: Sampling) -> bool:
    return options.top_k > 0 or options.top_p < 1.0


def _counted(histories: Sequence[Sequence[int]], num_tokens: int, limit: int, device: torch.device | None) -> Tensor:
    """How often each row has each token below `limit`, float32 (rows, num_tokens)."""
    counts = torch.zeros(len(histories), num_tokens)
    for row_counts, history in zip(counts, histories, strict=True):
        words = torch.tensor([token for token in history if token < limit], dtype=torch.int64)
        row_counts.scatter_add_(0, words, torch.ones_like(words, dtype=torch.float32))
    return moved(counts, device)
