"""Batches that are heard once and learned from several times."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

import torch

from models.training.precision import reduced_precision
from models.training.whisper.batches import Batch, Batches
from models.training.whisper.model import Learner

WAITING = 120
"""Batches that are shuffled; each with what was heard of it, about 2 MB."""


@dataclass(frozen=True, slots=True)
class Echoes:
    """Makes batches without end: those of `batches`, each `times` times, with others in between.

    For a stage that leaves the encoder alone, which is two thirds of a window's work (data echoing: Choi et al. 2019,
    https://arxiv.org/abs/1907.05550).
    """

    batches: Batches
    learner: Learner
    times: int
    device: str

    def __call__(self, seed: int) -> Iterator[Batch]:
        return shuffled(Random(seed), self.batches(seed), self._heard, self.times)

    @torch.no_grad()
    def _heard(self, batch: Batch) -> Batch:
        batch = batch.to(self.device)
        with reduced_precision(self.device):
            return replace(batch, encoded=self.learner.encode(batch.mel, batch.offsets))


def shuffled(
    random: Random, batches: Iterator[Batch], hear: Callable[[Batch], Batch], times: int, waiting: int = WAITING
) -> Iterator[Batch]:
    """Each batch `times` times; which of those that wait comes next is drawn."""
    ready: list[Batch] = []
    for batch in batches:
        ready += [hear(batch)] * times
        while len(ready) > waiting:
            yield ready.pop(random.randrange(len(ready)))
