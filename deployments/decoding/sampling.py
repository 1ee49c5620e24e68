"""How one row of a batch chooses its next token: penalties, and a draw by the row's own generator."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pipelines.sampling import Sampling


class Drawing(Protocol):
    """What choosing needs to know of a row; its temperature may be above that of its options."""

    @property
    def options(self) -> Sampling: ...

    @property
    def temperature(self) -> float: ...

    @property
    def generator(self) -> torch.Generator: ...


def choose(logits: Tensor, rows: Sequence[Drawing]) -> list[int]:
    """One token for each row: the most probable one, or at a temperature above 0 one that is drawn.

    Args:
        logits: (rows, vocabulary).
    """
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    for position, row in enumerate(rows):
        if row.temperature > 0:
            tokens[position] = int(draw(logits[position], row.temperature, row.options, row.generator))
    return tokens


def apply_penalties(logits: Tensor, written: Sequence[int], penalties: Sampling, read: Sequence[int] = ()) -> None:
    """Make what a row has said already less likely, in place.

    Args:
        logits: float32 (vocabulary,).
        written: token ids that the row has chosen.
        read: token ids of its prompt; only the repetition penalty looks at them.

    `repetition_penalty` is CTRL's (Keskar et al. 2019), the other two are OpenAI's.
    """
    if penalties.repetition_penalty != 1.0 and (seen_ids := {*written, *read}):
        seen = torch.tensor(sorted(seen_ids), device=logits.device)
        scores, factor = logits[seen], penalties.repetition_penalty
        logits[seen] = torch.where(scores > 0, scores / factor, scores * factor)
    if written and (penalties.frequency_penalty or penalties.presence_penalty):
        counts = Counter(written)
        tokens = torch.tensor(list(counts), device=logits.device)
        times = torch.tensor(list(counts.values()), device=logits.device, dtype=logits.dtype)
        logits[tokens] -= penalties.frequency_penalty * times + penalties.presence_penalty


def draw(logits: Tensor, temperature: float, nucleus: Sampling, generator: torch.Generator) -> Tensor:
    """Draw from one row's distribution by its own generator, so that who else is aboard changes nothing.

    Args:
        logits: (vocabulary,).
        temperature: above 0.

    Returns:
        the token's id, shape ().
    """
    logits = logits.double()
    # softmax does not change when all are lowered, and what is 0 or less cannot overflow at a tiny temperature
    probabilities = torch.softmax((logits - logits.max()) / temperature, dim=-1)
    ordered, tokens = probabilities.sort(descending=True, stable=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if nucleus.top_k > 0:
        keep[nucleus.top_k :] = False
    if nucleus.top_p < 1.0:
        keep &= (ordered.cumsum(0) - ordered) < nucleus.top_p
    if nucleus.min_p > 0.0:
        keep &= ordered >= nucleus.min_p * ordered[0]
    ordered = torch.where(keep, ordered, 0.0)
    cumulated = ordered.cumsum(0)
    drawn = torch.rand((), generator=generator, dtype=torch.float64).item() * cumulated[-1]
    place = torch.searchsorted(cumulated, drawn, right=True)
    return tokens[place.clamp(max=len(tokens) - 1)]
