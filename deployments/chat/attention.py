"""Attention of rows that are read side by side in one sequence, each in a slot of its own.

Models see one row of tokens, in which those of many conversations follow one another ("packed", without padding); every
layer but attention looks at single tokens. transformers lets attention be replaced by name, and hands over the new
tokens' queries, keys and values. The mixture of answers in progress and pieces of prompts in one step is that of
A. Agrawal et al., "SARATHI: Efficient LLM Inference by Piggybacking Decodes with Chunked Prefills", 2023.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from deployments.chat.slots import POSITIONS_AT_ONCE, Layer, Slots
from deployments.decoding.devices import put
from pipelines.errors import ConfigurationError

NAME = "auricle_slots"

QUERIES_AT_ONCE = 1024
"""On a GPU, where many small products take longer than a large one; fewer where the scores would be more than …"""

MAX_SCORES = 1 << 25
"""… which take a third of a GB while they are weighed: even of a small share of a GPU not all that is kept free."""

MAX_HIDDEN = 1 << 26
"""Bytes of what a step keeps for its other layers of what tokens do not look at: of a long prompt that is read whole it
would be gigabytes."""

NOT_DONE = ("position_bias", "indices", "block_indices", "sinks")
"""What attention functions of some models are given."""


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens `first` to `last` of the row in a slot; the slot holds those before."""

    slot: int
    first: int
    last: int

    @property
    def num_tokens(self) -> int:
        return self.last - self.first


@dataclass(frozen=True, slots=True)
class Kind:
    """What is peculiar to a layer's attention.

    window: how many tokens back it looks; None for all.
    softcap: scores are kept within this by a hyperbolic tangent (Gemma 2).
    sinks: (heads,), what weights share beside the tokens (G. Xiao et al. 2023; GPT-OSS).
    """

    scaling: float
    window: int | None
    softcap: float | None
    sinks: Tensor | None


class Step:
    """One pass of the model.

    Args:
        parts: in the order of the packed tokens. First the rows that write, one token each, in the slots from 0 on;
            then pieces of prompts.
    """

    def __init__(self, slots: Slots, parts: Sequence[Part], num_writing: int, device: torch.device) -> None:
        self._slots, self._device = slots, device
        self._num_writing = num_writing
        self._pieces = parts[num_writing:]
        self._room = max(part.slot for part in parts) + 1, _blocks(max(part.last for part in parts))
        if num_writing:
            self._rows = torch.arange(num_writing, device=device)
            self._places = put([part.first for part in parts[:num_writing]], device)
            self._num_read = _blocks(max(part.last for part in parts[:num_writing]))
        self._hidden: dict[Any, Tensor] = {}
        self._num_hidden = 0

    def attend(self, number: int, query: Tensor, key: Tensor, value: Tensor, kind: Kind) -> Tensor:
        """
        Args:
            query, key, value: (1, heads, tokens, width); there may be fewer heads of keys and values.

        Returns:
            (1, tokens, heads, width).
        """
        layer = self._slots.layer(number, key, value, *self._room)
        num_groups = query.shape[1] // key.shape[1]
        # (tokens, heads of keys, heads that share one, width)
        queries = query[0].transpose(0, 1).reshape(-1, key.shape[1], num_groups, query.shape[-1])
        keys, values = key[0].transpose(0, 1), value[0].transpose(0, 1)
        found = queries.new_empty(*queries.shape[:-1], value.shape[-1])
        end = self._num_writing
        if end:
            found[:end] = self._go_on(layer, queries[:end], keys[:end], values[:end], kind)
        for piece in self._pieces:
            start, end = end, end + piece.num_tokens
            layer.keys[piece.slot, :, piece.first : piece.last] = keys[start:end].transpose(0, 1)
            layer.values[piece.slot, :, piece.first : piece.last] = values[start:end].transpose(0, 1)
            self._read(layer, piece, queries[start:end], kind, found[start:end])
        return found.flatten(1, 2)[None]

    def _go_on(self, layer: Layer, queries: Tensor, keys: Tensor, values: Tensor, kind: Kind) -> Tensor:
        """One token of each row that writes."""
        layer.keys[self._rows, :, self._places] = keys
        layer.values[self._rows, :, self._places] = values
        read = slice(self._num_read)
        known = layer.keys[: len(queries), :, read], layer.values[: len(queries), :, read]
        return _weigh(queries[..., None, :], *known, self._hidden_from_writers(kind), kind)[..., 0, :]

    def _read(self, layer: Layer, piece: Part, queries: Tensor, kind: Kind, found: Tensor) -> None:
        """A piece of a prompt, in blocks that begin at the same tokens however it was cut."""
        size = POSITIONS_AT_ONCE
        if queries.is_cuda:
            fitting = MAX_SCORES // (queries[0, ..., 0].numel() * _blocks(piece.last))
            size = max(min(fitting // size * size, QUERIES_AT_ONCE), size)
        first = piece.first
        while first < piece.last:
            last = min((first // size + 1) * size, piece.last)
            some = slice(first - piece.first, last - piece.first)
            read = slice(_blocks(last))
            known = layer.keys[piece.slot, :, read][None], layer.values[piece.slot, :, read][None]
            block = queries[some].permute(1, 2, 0, 3)[None]
            found[some] = _weigh(block, *known, self._hidden_from(first, last, kind), kind)[0].permute(2, 0, 1, 3)
            first = last

    def _hidden_from_writers(self, kind: Kind) -> Tensor:
        """(rows, 1, 1, 1, num_read)"""
        if kind.window not in self._hidden:
            self._hidden[kind.window] = self._out_of_sight(self._places[:, None], self._num_read, kind)
        return self._hidden[kind.window][:, None, None]

    def _hidden_from(self, first: int, last: int, kind: Kind) -> Tensor:
        """(queries, num_read)"""
        name = (first, last, kind.window)
        if name in self._hidden:
            return self._hidden[name]
        hidden = self._out_of_sight(torch.arange(first, last, device=self._device), _blocks(last), kind)
        self._num_hidden += hidden.numel()
        if self._num_hidden <= MAX_HIDDEN:
            self._hidden[name] = hidden
        return hidden

    def _out_of_sight(self, places: Tensor, num_read: int, kind: Kind) -> Tensor:
        """What nobody at those places looks at: what comes later, and what is out of the window."""
        others = torch.arange(num_read, device=self._device)
        hidden = others > places[..., None]
        if kind.window is not None:
            hidden |= others <= places[..., None] - kind.window
        return hidden


def _weigh(query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor, kind: Kind) -> Tensor:
    """
    Args:
        query: (rows, heads of keys, heads that share one, tokens, width).
        keys, values: (rows, heads of keys, read, width).
        hidden: what is not looked at, to be spread over (rows, heads of keys, heads that share one, tokens, read).

    Returns:
        as `query`.
    """
    shape = query.shape[:4]
    scores = ((query * kind.scaling).flatten(2, 3) @ keys.mT).view(*shape, -1).float()
    if kind.softcap is not None:
        scores = torch.tanh(scores / kind.softcap) * kind.softcap
    scores = scores.masked_fill(hidden, -torch.inf)
    if kind.sinks is not None:
        sinks = kind.sinks.float().view(1, *query.shape[1:3], 1, 1).expand(*scores.shape[:-1], 1)
        weights = torch.softmax(torch.cat([scores, sinks], dim=-1), dim=-1)[..., :-1]
    else:
        weights = torch.softmax(scores, dim=-1)
    return (weights.to(values.dtype).flatten(2, 3) @ values).view(*shape, -1)


def _blocks(length: int) -> int:
    return ceil(length / POSITIONS_AT_ONCE) * POSITIONS_AT_ONCE


_step: ContextVar[Step] = ContextVar("step")


@contextmanager
def reading(step: Step) -> Iterator[None]:
    """Whatever model is called meanwhile reads by `step`, where its attention is that of this module."""
    token = _step.set(step)
    try:
        yield
    finally:
        _step.reset(token)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it.

    Raises:
        ConfigurationError: a model wants something that is not done here, and would be read wrongly.
    """
    given = {"attention_mask": attention_mask, **{name: others.get(name) for name in NOT_DONE}}
    if wanted := [name for name, value in given.items() if value is not None]:
        raise ConfigurationError(f"This model's attention has {wanted[0]}, which cannot be batched here.")
    kind = Kind(query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window, softcap, s_aux)
    return _step.get().attend(int(module.layer_idx), query, key, value, kind), None  # type: ignore[arg-type]


AttentionInterface.register(NAME, attend)
