"""The memory of a language model: for each row aboard, the keys and values of what it has read."""

from dataclasses import dataclass

from torch import Tensor

POSITIONS_AT_ONCE = 64
"""Memory is read and written in blocks of this many tokens. What lies behind a row's own counts nothing and is added up
in whole blocks: its sums stay the same to the last bit, however long the others are and wherever its prompt was cut."""


@dataclass(slots=True)
class Layer:
    """(slots, heads, positions, width) each."""

    keys: Tensor
    values: Tensor

    def grow(self, num_slots: int, num_positions: int) -> None:
        """All or nothing: when memory runs out, what there was is still there."""
        grown = _grown(self.keys, num_slots, num_positions), _grown(self.values, num_slots, num_positions)
        self.keys, self.values = grown


class Slots:
    """Each layer grows by doubling when it is written to; when nobody is aboard it takes nothing."""

    def __init__(self, max_positions: int | None = None, max_tokens: int | None = None) -> None:
        """
        Args:
            max_positions: no row will have more.
            max_tokens: for which there is memory, of all slots together.
        """
        self.reserved = (0, 0)
        """How many slots will be needed, and of what length, by those aboard."""
        self._max_positions = max_positions
        self._max_tokens = max_tokens
        self._layers: dict[int, Layer] = {}

    @property
    def num_bytes(self) -> int:
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self._layers.values())

    @property
    def num_layers(self) -> int:
        """That were read."""
        return len(self._layers)

    def layer(self, number: int, keys: Tensor, values: Tensor, num_slots: int, num_positions: int) -> Layer:
        """With that much room at least; `keys` and `values`, (1, heads, tokens, width), show what goes in."""
        if number not in self._layers:
            self._layers[number] = Layer(*(one.new_zeros(0, one.shape[1], 0, one.shape[3]) for one in (keys, values)))
        self._make_room(self._layers[number], num_slots, num_positions)
        return self._layers[number]

    def has_room(self, num_slots: int, num_positions: int) -> bool:
        """Whether there is memory for so many slots of such a length."""
        return self._max_tokens is None or num_slots * num_positions <= self._max_tokens

    def _make_room(self, layer: Layer, num_slots: int, num_positions: int) -> None:
        """What a layer has beyond what is reserved, it gives back where there is no memory for both."""
        has_slots, _, has_positions, _ = layer.keys.shape
        if has_slots >= num_slots and has_positions >= num_positions:
            return
        num_slots, longest = max(num_slots, self.reserved[0]), max(num_positions, self.reserved[1])
        roomy = max(has_slots, _doubled(num_slots)), max(has_positions, self._positions(num_positions))
        if not self.has_room(*roomy):
            roomy = roomy[0], min(roomy[1], longest)
        layer.grow(roomy[0] if self.has_room(roomy[0], longest) else num_slots, roomy[1])

    def _positions(self, number: int) -> int:
        doubled = _doubled(number)
        return doubled if self._max_positions is None else max(min(doubled, self._max_positions), number)

    def copy(self, source: int, target: int, num_positions: int) -> None:
        """What one slot holds of its first tokens into another; behind them come zeros."""
        if not num_positions:  # it may not even be there
            self.clean(target)
            return
        for layer in self._layers.values():
            self._make_room(layer, target + 1, num_positions)
            for cache in (layer.keys, layer.values):
                cache[target, :, :num_positions] = cache[source, :, :num_positions]
                cache[target, :, num_positions:] = 0

    def clean(self, slot: int) -> None:
        """What nobody has written yet is read, and must be numbers: whoever had the slot may have left none."""
        for layer in self._layers.values():
            layer.keys[slot : slot + 1].zero_()
            layer.values[slot : slot + 1].zero_()

    def clear(self) -> None:
        """A long conversation's memory is not kept for ever."""
        self._layers = {}


def _grown(cache: Tensor, num_slots: int, num_positions: int) -> Tensor:
    _, num_heads, _, width = cache.shape
    grown = cache.new_zeros(num_slots, num_heads, num_positions, width)
    kept = cache[:num_slots, :, :num_positions]
    grown[: len(kept), :, : kept.shape[2]] = kept
    return grown


def _doubled(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()
