"""From nothing, or from a checkpoint, to a Whisper directory."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import torch
from torch import nn
from transformers import WhisperForConditionalGeneration, WhisperTokenizer

from models.training.corpus.shared import open_corpora
from models.training.loop import Run
from models.training.whisper.batches import Batch, Batches
from models.training.whisper.echoes import Echoes
from models.training.whisper.export import export, generation_config
from models.training.whisper.labels import Labels, phone_set
from models.training.whisper.model import Learner, build_whisper
from models.training.whisper.objectives import Objectives
from models.training.whisper.position_head import copy_positions
from models.training.whisper.settings import Stage, WhisperSettings
from models.training.whisper.tokenizer import Vocabulary, build_tokenizer
from models.training.whisper.validation import Validation
from models.training.whisper.windows import WindowMaker

FIT_BATCHES = 20
"""What the position-copying head is fitted to: about 20 minutes of audio."""


def train(
    out: Path,
    work: Path,
    settings: WhisperSettings,
    device: str = "cpu",
    processes: int = 1,
    minutes: float | None = None,
    start: Path | None = None,
    stage: str | None = None,
    seed: int | None = None,
    keep: float = 0.0,
) -> None:
    """Train and write a Whisper directory to `out`.

    Args:
        work: for the corpora and each stage's run. Called again with the same one, training goes on where it was.
        processes: to synthesise the corpora with.
        minutes: of training, shared by the stages; without them each stage takes its schedule's steps.
        start: a Whisper directory to go on from. Its tokenizer and sizes are kept.
        stage: the first one that is run; without it all of them are, or the last one where there is a `start`.
        seed: instead of the settings' own, of the corpus and of all that is drawn.
        keep: the share of the `start` in the weights that are written: their mean with it is often better than either
            (Wortsman et al. 2022, https://arxiv.org/abs/2109.01903).

    Raises:
        ValueError: there is no such stage, or nothing to keep.
    """
    if keep and start is None:
        raise ValueError("without a start there is nothing to keep")
    if seed is not None:
        settings = replace(settings, seed=seed, speech=replace(settings.speech, seed=seed))
    torch.manual_seed(settings.seed)
    settings = replace(settings, stages=_stages(settings, stage, start))
    if minutes is not None:
        settings = settings.with_minutes(minutes)
    trainer = Trainer(work, settings, device, start, processes)
    for part in settings.stages:
        trainer.run(part)
    if keep and start is not None:
        _, before = _load(start)
        blend(trainer.learner.whisper, before, keep)
    export(out, trainer.learner.whisper, trainer.tokenizer)


class Trainer:
    """What all stages share: corpora, tokenizer and the model, which each leaves to the next."""

    def __init__(self, work: Path, settings: WhisperSettings, device: str, start: Path | None, processes: int) -> None:
        self._work, self._settings, self._device = work / "whisper", settings, device
        corpus, held_out = open_corpora(work, settings.speech, processes)
        self.tokenizer, whisper = _start(settings) if start is None else _load(start)
        self._vocabulary = Vocabulary.of(self.tokenizer)
        phones = phone_set(corpus, settings.rare_phone)
        self._maker = WindowMaker(corpus, Labels(self.tokenizer, phones), self._vocabulary)
        self.learner = Learner(whisper, len(phones)).to(device)
        whisper.generation_config = generation_config(whisper, self._vocabulary)
        self._validate = Validation(held_out, whisper, self.tokenizer, settings.validate)

    def run(self, stage: Stage) -> None:
        """Train one stage, or take what it was finished with."""
        folder = self._work / stage.name
        if stage.copy_positions and not (folder / "state.pt").exists():
            batches = self._batches(stage, lambda: 0.0)
            copy_positions(self.learner, self._vocabulary, batches(self._settings.seed), FIT_BATCHES)
        run = Run(folder, self.learner, stage.schedule, self._device)
        objectives = Objectives(self.learner, self._vocabulary, stage, self._device)
        run.train(self._batches(stage, lambda: run.fraction), objectives, self._validate)

    def _batches(self, stage: Stage, fraction: Callable[[], float]) -> Callable[[int], Iterator[Batch]]:
        batches = Batches(self._maker, self._vocabulary, stage, self._settings.batch_s, fraction)
        return batches if stage.encoder_learns else Echoes(batches, self.learner, stage.echoes, self._device)


@torch.no_grad()
def blend(model: nn.Module, other: nn.Module, share: float) -> None:
    """Moves the weights of `model` towards those of `other`, by `share` of the way."""
    for weights, towards in zip(model.parameters(), other.parameters(), strict=True):
        weights.lerp_(towards.to(weights.device), share)


def _stages(settings: WhisperSettings, first: str | None, start: Path | None) -> tuple[Stage, ...]:
    names = [stage.name for stage in settings.stages]
    if first is None:
        return settings.stages if start is None else settings.stages[-1:]
    if first not in names:
        raise ValueError(f"the recipe has no stage {first!r}, only {', '.join(names)}")
    return settings.stages[names.index(first) :]


def _start(settings: WhisperSettings) -> tuple[WhisperTokenizer, WhisperForConditionalGeneration]:
    tokenizer = build_tokenizer(Random(settings.seed), settings.text_tokens, settings.tokenizer_texts)
    return tokenizer, build_whisper(settings.size, Vocabulary.of(tokenizer))


def _load(start: Path) -> tuple[WhisperTokenizer, WhisperForConditionalGeneration]:
    # trained in float32 whatever it was stored in
    whisper = WhisperForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    return WhisperTokenizer.from_pretrained(start), whisper
