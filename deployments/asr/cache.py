"""The attention caches of a Whisper decoder: what it wrote, and what the encoder gave it to look at."""

from collections.abc import Sequence

import torch
from transformers import DynamicCache, EncoderDecoderCache

from deployments.decoding.cache import BatchCache


class WhisperCache(BatchCache):
    """Adds cross-attention, (rows, heads, encoder frames, dim) per layer."""

    def __init__(self) -> None:
        super().__init__()
        self.both = EncoderDecoderCache(self.layers, DynamicCache())
        """As the decoder takes it."""

    def join(self, other: BatchCache) -> None:
        assert isinstance(other, WhisperCache)
        if not self.num_tokens:
            self.both = other.both
        else:
            for mine, theirs in zip(self._cross_layers, other._cross_layers, strict=True):
                mine.keys = torch.cat([mine.keys, theirs.keys])
                mine.values = torch.cat([mine.values, theirs.values])
        super().join(other)

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        for layer in self._cross_layers:
            index = torch.tensor(rows, device=layer.keys.device)
            layer.keys, layer.values = layer.keys[index], layer.values[index]

    @property
    def _cross_layers(self):  # type: ignore[no-untyped-def]
        return self.both.cross_attention_cache.layers
