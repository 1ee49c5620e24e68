"""The corpora that the recipes share."""

from dataclasses import dataclass
from pathlib import Path

from models.training.corpus.synthesis import build
from models.training.corpus.utterances import Corpus


@dataclass(frozen=True, slots=True)
class Amount:
    """How many utterances are synthesised to learn from, and how many of the held-out ones to measure progress by."""

    utterances: int = 50_000
    held_out: int = 1_200
    seed: int = 1


def open_corpora(work: Path, amount: Amount, processes: int = 1) -> tuple[Corpus, Corpus]:
    """(to learn from, held out); synthesised the first time that this amount is asked for."""
    folder = work / "speech" / f"{amount.utterances}-{amount.held_out}-{amount.seed}"
    return (
        build(folder / "training", amount.utterances, amount.seed, processes=processes),
        build(folder / "held-out", amount.held_out, amount.seed + 1, held_out=True, processes=processes),
    )
