"""Rows of tokens side by side, with the features of their recordings."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from torch import Tensor
from transformers import Qwen2AudioProcessor

from models.training.chat.model import MEL_FRAMES_PER_POSITION
from models.training.chat.rows import IGNORED, NOWHERE, Row
from models.training.chat.tokenizer import END_OF_TEXT
from models.training.features import HOP, emphasise, log_mel


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded on the right to (batch, positions); spans are (batch, positions, 2)."""

    tokens: Tensor
    labels: Tensor
    spans: Tensor
    heard: Tensor
    mel: Tensor | None
    frames: Tensor

    def to(self, device: str) -> "Batch":
        return Batch(
            tokens=self.tokens.to(device),
            labels=self.labels.to(device),
            spans=self.spans.to(device),
            heard=self.heard.to(device),
            mel=None if self.mel is None else self.mel.to(device),
            frames=self.frames.to(device),
        )


def batches(rows: Iterable[Row], random: Random, positions: int, sorted_at_once: int, pad: int) -> Iterator[Batch]:
    """Batches of rows of similar length, with or without audio, of about `positions` tokens."""
    rows = iter(rows)
    while drawn := list(islice(rows, sorted_at_once)):
        grouped = list(_grouped(drawn, positions))
        random.shuffle(grouped)
        for group in grouped:
            yield collate(group, pad, random)


def collate(rows: list[Row], pad: int, random: Random | None = None) -> Batch:
    """One batch; with `random`, its features are changed as `emphasise` does. The audio of all rows, or of none."""
    longest = max(len(row.tokens) for row in rows)

    def padded(values: list[list[int]], value: int) -> Tensor:
        return torch.tensor([row + [value] * (longest - len(row)) for row in values])

    spans = [row.spans + [NOWHERE] * (longest - len(row.spans)) for row in rows]
    return Batch(
        tokens=padded([row.tokens for row in rows], pad),
        labels=padded([row.labels for row in rows], IGNORED),
        spans=torch.tensor(spans),
        heard=padded([row.heard for row in rows], IGNORED),
        mel=_features(rows, random) if rows[0].frames else None,
        frames=torch.tensor([row.frames for row in rows]),
    )


def pad_token(processor: Qwen2AudioProcessor) -> int:
    token: int = processor.tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    return token


def _features(rows: list[Row], random: Random | None) -> Tensor:
    # one more position of silence, as the padding to 30 s would show it to the convolutions
    frames = (max(row.frames for row in rows) // MEL_FRAMES_PER_POSITION + 2) * MEL_FRAMES_PER_POSITION
    samples = torch.zeros(len(rows), frames * HOP)
    for place, row in enumerate(rows):
        if row.samples is not None:
            samples[place, : len(row.samples)] = torch.from_numpy(row.samples)
    mel = log_mel(samples)
    if random is not None:
        emphasise(random, mel)
    return mel


def _grouped(rows: list[Row], positions: int) -> Iterator[list[Row]]:
    """Rows of similar length together, those with audio apart; all groups of a kind have about as many tokens."""
    for kind in ([row for row in rows if not row.frames], [row for row in rows if row.frames]):
        total = sum(len(row.tokens) for row in kind)
        count = -(-total // positions)
        seen = 0
        groups: list[list[Row]] = [[] for _ in range(count)]
        for row in sorted(kind, key=lambda row: len(row.tokens)):
            groups[seen * count // total].append(row)
            seen += len(row.tokens)
        yield from (group for group in groups if group)
