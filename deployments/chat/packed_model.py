"""A language model of transformers' that reads pieces of many conversations in one pass."""

import inspect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from deployments.chat.attention import Part, Step, reading
from deployments.chat.batch import Batch, Piece, parted
from deployments.chat.families.table import family_of
from deployments.chat.row import Row
from deployments.compat.transformers import first_inputs, prompt_positions
from deployments.decoding.devices import moved, put


@dataclass(frozen=True, slots=True)
class Ready:
    """Rows that were read to their ends, and float32 (rows, vocabulary): what may come next."""

    rows: list[Row]
    logits: Tensor


class PackedModel:
    def __init__(self, model: PreTrainedModel) -> None:
        """`model` attends by slots (`loading.load_model`)."""
        self.model = model
        self._device = model.device
        before_step = family_of(model.config).before_step
        self._before_step = before_step(model) if before_step else None
        self._can_leave_out = "logits_to_keep" in inspect.signature(model.forward).parameters

    def read(self, batch: Batch, group: Sequence[Piece]) -> Ready:
        """Read pieces of rows in `batch`; those that write come first, and who is heard, alone."""
        parts = [Part(batch.rows.index(piece.row), piece.first, piece.last) for piece in group]
        step = Step(batch.slots, parts, len(parted(group)[0]), self._device)
        inputs = self._heard(group[0].row) if group[0].is_heard else self._packed(group)
        if self._before_step:
            self._before_step([(piece.row, piece.num_tokens) for piece in group])
        ends = itertools.accumulate(piece.num_tokens for piece in group)
        last = [end - 1 for end, piece in zip(ends, group, strict=True) if piece.is_whole]
        with reading(step):
            logits = self._logits(inputs, last)
        rows = [piece.row for piece in group if piece.is_whole]
        for row, its_logits in zip(rows, logits, strict=True):
            if not row.written:
                row.first_logits = its_logits.clone()
        for piece in group:
            piece.row.num_read = piece.last
        return Ready(rows, logits)

    def _logits(self, inputs: dict[str, Any], places: list[int]) -> Tensor:
        """float32 (places, vocabulary)"""
        wanted = put(places or [0], self._device)
        keep = {"logits_to_keep": wanted} if self._can_leave_out else {}
        logits: Tensor = self.model(**inputs, **keep, use_cache=False, return_dict=True).logits[0]
        return (logits if keep else logits[wanted])[: len(places)].float()

    def _packed(self, group: Sequence[Piece]) -> dict[str, Any]:
        for piece in group:
            if not piece.first:
                token_ids = piece.row.prompt.token_ids.to(self._device)
                piece.row.positions = prompt_positions(self.model, token_ids, {}).cpu()
        tokens = [token_id for piece in group for token_id in piece.row.tokens(piece.first, piece.last)]
        positions = [piece.row.positions_of(piece.first, piece.last) for piece in group]
        return {
            "input_ids": put([tokens], self._device),
            "position_ids": moved(torch.cat(positions, dim=-1), self._device),
        }

    def _heard(self, row: Row) -> dict[str, Any]:
        inputs = {
            name: value.to(self._device, self.model.dtype if value.is_floating_point() else None)
            for name, value in row.prompt.inputs.items()
        }
        token_ids = inputs.pop("input_ids")
        positions = prompt_positions(self.model, token_ids, inputs)
        row.positions = positions.cpu()
        ready = first_inputs(self.model, token_ids, positions, {**inputs, "use_cache": False})
        return {name: value for name, value in ready.items() if name != "use_cache"}
