"""Attention caches of rows that join and leave a running batch."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, EncoderDecoderCache


class BatchCache:
    """Keys and values of every row aboard, padded on the left so that all rows end at the same position.

    Wraps transformers' `EncoderDecoderCache`; per layer, self-attention is (rows, heads, length, dim) and
    cross-attention (rows, heads, encoder frames, dim).
    """

    def __init__(self) -> None:
        self.layers = EncoderDecoderCache(DynamicCache(), DynamicCache())
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
        for mine, theirs in zip(self._self_layers, other._self_layers, strict=True):
            mine.keys = torch.cat([_pad_left(mine.keys, length), _pad_left(theirs.keys, length)])
            mine.values = torch.cat([_pad_left(mine.values, length), _pad_left(theirs.values, length)])
        for mine, theirs in zip(self._cross_layers, other._cross_layers, strict=True):
            mine.keys = torch.cat([mine.keys, theirs.keys])
            mine.values = torch.cat([mine.values, theirs.values])
        self.num_tokens += other.num_tokens

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row that is not named (some must be), and padding that nobody needs any more."""
        self.num_tokens = [self.num_tokens[row] for row in rows]
        longest = max(self.num_tokens)
        for layer in self._self_layers:
            index = torch.tensor(rows, device=layer.keys.device)
            layer.keys = layer.keys[index, :, -longest:]
            layer.values = layer.values[index, :, -longest:]
        for layer in self._cross_layers:
            index = torch.tensor(rows, device=layer.keys.device)
            layer.keys, layer.values = layer.keys[index], layer.values[index]

    @property
    def _self_layers(self):  # type: ignore[no-untyped-def]
        return self.layers.self_attention_cache.layers

    @property
    def _cross_layers(self):  # type: ignore[no-untyped-def]
        return self.layers.cross_attention_cache.layers


def _pad_left(states: Tensor, length: int) -> Tensor:
    return pad(states, (0, 0, length - states.shape[-2], 0))
