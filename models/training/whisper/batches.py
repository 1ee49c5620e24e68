"""Batches of windows of about the same length."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.training.features import emphasise, log_mel
from models.training.whisper.labels import FRAMES_PER_S, SILENCE
from models.training.whisper.settings import Stage
from models.training.whisper.tokenizer import Vocabulary
from models.training.whisper.windows import FULL_FRAMES, IGNORED, Kind, Window, WindowMaker

KINDS: tuple[Kind, ...] = ("short", "medium", "full")


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows side by side, B of them, F frames long and with L tokens.

    Attributes:
        mel: log-mel, shape (B, 80, 2 F).
        offsets: the encoder position of each window's first frame, shape (B,).
        tokens, labels: shape (B, L).
        spans: where each label is spoken, in the window's frames, shape (B, L, 2); -1 where it is not known.
        phones: of each frame, shape (B, F).
        encoded: what a frozen encoder hears, shape (B, F, width); None where it still has to be heard.
    """

    mel: Tensor
    offsets: Tensor
    tokens: Tensor
    labels: Tensor
    spans: Tensor
    phones: Tensor
    encoded: Tensor | None = None

    def to(self, device: str) -> "Batch":
        there: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: value.to(device) for name, value in there.items() if value is not None}
        return Batch(**moved)


class Batches:
    """Makes the batches of one stage without end.

    fraction: tells how far the stage is, 0 to 1: its mix of windows moves with it.
    """

    def __init__(
        self, maker: WindowMaker, vocabulary: Vocabulary, stage: Stage, batch_s: float, fraction: Callable[[], float]
    ) -> None:
        self._maker, self._vocabulary, self._stage, self._fraction = maker, vocabulary, stage, fraction
        self._max_frames = int(batch_s * FRAMES_PER_S)

    def __call__(self, seed: int) -> Iterator[Batch]:
        random = Random(seed)
        ready: dict[Kind, list[list[Window]]] = defaultdict(list)
        while True:
            shares = self._stage.start.towards(self._stage.end, self._fraction())
            kind = random.choices(KINDS, shares)[0]
            if not ready[kind]:
                ready[kind] = self._groups(random, kind)
            yield self._collate(random, ready[kind].pop())

    def _groups(self, random: Random, kind: Kind) -> list[list[Window]]:
        """A few batches' worth of windows, sorted by length so that little of a batch is padding."""
        num_batches = 1 if kind == "full" else 4
        windows: list[Window] = []
        while sum(window.num_frames for window in windows) < self._max_frames * num_batches:
            windows.append(self._maker.draw(random, kind, self._stage.content))
        groups = _pack(sorted(windows, key=lambda window: window.num_frames), self._max_frames)
        random.shuffle(groups)
        return groups

    def _collate(self, random: Random, windows: list[Window]) -> Batch:
        num_frames = max(window.num_frames for window in windows)
        offsets = [self._offset(random, num_frames) for _ in windows]
        samples = torch.from_numpy(_stack([window.samples for window in windows], 0.0))
        mel = log_mel(samples)
        if random.random() < self._stage.content.p_disturb:
            emphasise(random, mel)
        return Batch(
            mel=mel,
            offsets=torch.tensor(offsets),
            tokens=self._timed([window.tokens for window in windows], self._vocabulary.end, offsets),
            labels=self._timed([window.labels for window in windows], IGNORED, offsets),
            spans=torch.from_numpy(_stack([window.spans for window in windows], -1.0)),
            phones=torch.from_numpy(_stack([window.phones for window in windows], SILENCE)),
        )

    def _offset(self, random: Random, num_frames: int) -> int:
        return random.randint(0, FULL_FRAMES - num_frames) if random.random() < self._stage.content.p_offset else 0

    def _timed(self, rows: list[list[int]], fill: int, offsets: list[int]) -> Tensor:
        """The rows side by side; timestamps count from the encoder's first position, not from the window's."""
        stacked = torch.from_numpy(_stack([np.array(row) for row in rows], fill))
        is_timestamp = stacked >= self._vocabulary.timestamps
        return stacked + is_timestamp * torch.tensor(offsets)[:, None]


def _pack(windows: list[Window], max_frames: int) -> list[list[Window]]:
    """Neighbours together, as many as fit when all are as long as the longest."""
    groups: list[list[Window]] = [[]]
    for window in windows:
        if groups[-1] and window.num_frames * (len(groups[-1]) + 1) > max_frames:
            groups.append([])
        groups[-1].append(window)
    return groups


def _stack(rows: list[np.ndarray], fill: float) -> np.ndarray:  # type: ignore[type-arg]
    """Rows of different lengths as one array, shorter ones filled up, shape (rows, longest, ...)."""
    longest = max(len(row) for row in rows)
    stacked = np.full((len(rows), longest, *rows[0].shape[1:]), fill, rows[0].dtype)
    for index, row in enumerate(rows):
        stacked[index, : len(row)] = row
    return stacked
