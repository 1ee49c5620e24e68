"""Attention caches of rows that join and leave a running batch."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache


class BatchCache:
    """Keys and values of every row aboard, padded on the left so that all rows end at the same position.

    Wraps transformers' `DynamicCache`: (rows, heads, length, dim) per layer.
    """

    def __init__(self) -> None:
        self.layers = DynamicCache()
        self.num_tokens: list[int] = []
        """Tokens of each row that are in the cache, padding not counted."""

    @property
    def length(self) -> int:
        return self.layers.get_seq_length()

    def attention_mask(self, num_new: int, device: torch.device) -> Tensor:
        """(rows, length + num_new), 1 where there is a token."""
        positions = torch.arange(self.length + num_new, device=device)
        first = torch.tensor([self.length - n for n in self.num_tokens], device=device)
        return (positions[None, :] >= first[:, None]).long()

    def join(self, other: "BatchCache") -> None:
        """Append the rows of `other`."""
        if not self.num_tokens:
            self.layers, self.num_tokens = other.layers, list(other.num_tokens)
            return
        length = max(self.length, other.length)
        for mine, theirs in zip(self.layers.layers, other.layers.layers, strict=True):
            mine.keys = torch.cat([_pad_left(mine.keys, length), _pad_left(theirs.keys, length)])
            mine.values = torch.cat([_pad_left(mine.values, length), _pad_left(theirs.values, length)])
        self.num_tokens += other.num_tokens

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row that is not named (some must be), and padding that nobody needs any more."""
        self.num_tokens = [self.num_tokens[row] for row in rows]
        longest = max(self.num_tokens)
        for layer in self.layers.layers:
            index = torch.tensor(rows, device=layer.keys.device)
            layer.keys = layer.keys[index, :, -longest:]
            layer.values = layer.values[index, :, -longest:]


def _pad_left(states: Tensor, length: int) -> Tensor:
    return pad(states, (0, 0, length - states.shape[-2], 0))
