"""The memory of a Whisper decoder: for each row aboard what it has written, and what it looks at."""

from dataclasses import dataclass, fields
from itertools import groupby

import torch
from torch import Tensor

from deployments.decoding.devices import put

Head = tuple[int, int]
"""A decoder's layer, and a head of its cross-attention."""


@dataclass(frozen=True, slots=True)
class SlotShape:
    """Of the decoder: `num_positions` are tokens at most, `num_frames` what the encoder gives for a window.

    audio_dtype: of what is looked at, which is by far the most. What was written is kept in `dtype`: it is of another
        length in every batch, and in few digits a row's answer would hang on that.
    alignment_heads: those whose queries are kept.
    """

    num_layers: int
    num_heads: int
    head_width: int
    num_positions: int
    num_frames: int
    dtype: torch.dtype
    audio_dtype: torch.dtype
    device: torch.device
    alignment_heads: tuple[Head, ...]

    @property
    def num_bytes(self) -> int:
        """Of one slot."""
        heads = 2 * self.num_layers * self.num_heads
        written = (heads + len(self.alignment_heads)) * self.num_positions * self.dtype.itemsize
        return self.head_width * (written + heads * self.num_frames * self.audio_dtype.itemsize)

    @property
    def heads_of(self) -> dict[int, Tensor]:
        """Alignment heads by layer."""
        by_layer = groupby(sorted(self.alignment_heads), key=lambda head: head[0])
        return {layer: put([head for _, head in heads], self.device) for layer, heads in by_layer}


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer keeps: (slots, heads, positions, width), of audio (slots, heads, frames, width).

    queries: of alignment heads only, what each token looked for in the audio.
    """

    keys: Tensor
    values: Tensor
    queries: Tensor
    audio_keys: Tensor
    audio_values: Tensor

    def tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]


class Slots:
    """Allocated once. The rows aboard have slots 0, 1, 2 …, without a hole, so that a step reads a view: nothing is
    gathered. `lengths` says how many tokens each of them has read, `num_frames` how much audio it has to look at."""

    def __init__(self, shape: SlotShape, num_slots: int, max_slots: int | None = None) -> None:
        """
        Args:
            max_slots: there will never be more; nobody takes more.
        """
        self.shape = shape
        self._max_slots = max_slots
        self.heads_of = shape.heads_of
        self.lengths: list[int] = []
        self.num_frames: list[int] = []
        self.layers = self._allocated(num_slots)
        self.num_growths = 0

    def _allocated(self, num_slots: int) -> list[Layer]:
        shape = self.shape

        def new(num_heads: int, length: int, dtype: torch.dtype = shape.dtype) -> Tensor:
            return torch.zeros(num_slots, num_heads, length, shape.head_width, dtype=dtype, device=shape.device)

        return [
            Layer(
                keys=new(shape.num_heads, shape.num_positions),
                values=new(shape.num_heads, shape.num_positions),
                queries=new(len(self.heads_of.get(number, ())), shape.num_positions),
                audio_keys=new(shape.num_heads, shape.num_frames, shape.audio_dtype),
                audio_values=new(shape.num_heads, shape.num_frames, shape.audio_dtype),
            )
            for number in range(shape.num_layers)
        ]

    @property
    def num_slots(self) -> int:
        return len(self.layers[0].keys)

    def take(self, num_rows: int) -> slice:
        """Slots for rows that come aboard; there are more of them if need be."""
        first = len(self.lengths)
        if first + num_rows > self.num_slots:
            self._grow(max(first + num_rows, min(2 * self.num_slots, self._max_slots or 2 * self.num_slots)))
        self.lengths += [0] * num_rows
        self.num_frames += [self.shape.num_frames] * num_rows
        rows = slice(first, first + num_rows)
        for layer in self.layers:
            # what nobody has written yet is read, and must be numbers: whoever had the slot may have left none
            layer.keys[rows].zero_()
            layer.values[rows].zero_()
        return rows

    def advance(self, rows: slice, num_tokens: int) -> None:
        """They have read so many more."""
        self.lengths[rows] = [length + num_tokens for length in self.lengths[rows]]

    def rewind(self, rows: slice) -> None:
        """They begin to read anew; what they look at stays."""
        self.lengths[rows] = [0] * (rows.stop - rows.start)

    def give_back(self, slot: int) -> int:
        """The last row moves into the slot that is left; returns which one it had."""
        left = self.lengths[slot]
        length, num_frames, last = self.lengths.pop(), self.num_frames.pop(), len(self.lengths)
        if slot != last:
            for layer in self.layers:
                for cache in (layer.keys, layer.values, layer.queries):
                    cache[slot, :, :length] = cache[last, :, :length]
                    cache[slot, :, length:left] = 0  # it is read beside longer rows, and may be no numbers
                for audio in (layer.audio_keys, layer.audio_values):
                    audio[slot] = audio[last]
            self.lengths[slot], self.num_frames[slot] = length, num_frames
        return last

    def scores(self, slot: int, first: int, last: int) -> Tensor:
        """How well each frame fits what the tokens at [first, last) looked for: float32 (alignment heads, tokens,
        frames), before softmax."""
        parts = []
        for number, heads in self.heads_of.items():
            layer = self.layers[number]
            queries = layer.queries[slot, :, first:last].float()
            parts.append(queries @ layer.audio_keys[slot, :, : self.num_frames[slot]].index_select(0, heads).float().mT)
        return torch.cat(parts)

    def _grow(self, num_slots: int) -> None:
        larger = self._allocated(num_slots)
        for mine, theirs in zip(larger, self.layers, strict=True):
            for wide, narrow in zip(mine.tensors(), theirs.tensors(), strict=True):
                wide[: len(narrow)] = narrow
        self.layers = larger
        self.num_growths += 1
