"""chat-embedded from nothing but a Whisper's encoder: corpus, vocabulary, training, export."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import torch
from transformers import AutoConfig, Qwen2AudioProcessor

from models.training.chat.batches import Batch, batches, pad_token
from models.training.chat.curriculum import training_dialogues
from models.training.chat.evaluation import measure
from models.training.chat.export import export
from models.training.chat.losses import ChatLoss
from models.training.chat.model import build_model, load_model
from models.training.chat.rows import DialogueEncoder
from models.training.chat.scenes import Studio
from models.training.chat.settings import FULL, ChatSettings
from models.training.chat.tokenizer import build_processor, processor
from models.training.corpus.shared import open_corpora
from models.training.corpus.utterances import Corpus
from models.training.loop import Measures, Run

AGAIN = 0.25
"""Of the learning rate, where a model is taught further: the whole of it would shake what it knows; 0.6 of it did."""


def train(
    out: Path,
    work: Path,
    settings: ChatSettings = FULL,
    device: str = "cpu",
    processes: int = 1,
    minutes: float | None = None,
    *,
    encoder: Path,
    start: Path | None = None,
    seed: int | None = None,
) -> None:
    """Train a chat model and export it to `out`.

    What takes long is kept in `work` (corpora, vocabulary, state of the run), so that the same call goes on where
    it was cut off.

    Args:
        processes: to synthesise the corpora with.
        minutes: end of the training (the corpus is not counted); else the settings' own.
        encoder: a Whisper directory, whose encoder the model starts with.
        start: a chat directory to go on from, with its vocabulary and sizes, but deeper where the settings have more
            layers; nothing easy comes first then.
        seed: instead of the settings' own, of the corpus and of all that is drawn.

    Raises:
        OSError: there is no Whisper checkpoint in `encoder`.
    """
    AutoConfig.from_pretrained(encoder)  # a wrong path is noticed before the synthesis
    if seed is not None:
        settings = replace(settings, seed=seed, speech=replace(settings.speech, seed=seed))
    torch.manual_seed(settings.seed)
    if minutes is not None:
        settings = replace(settings, schedule=settings.schedule.within(minutes))
    spoken, held_out = open_corpora(work, settings.speech, processes)
    if start is None:
        words = _processor(work / "chat" / "processor", spoken, settings)
        model = build_model(settings.size, words.tokenizer, encoder)
    else:
        schedule = replace(settings.schedule, learning_rate=AGAIN * settings.schedule.learning_rate)
        settings = replace(settings, mix=replace(settings.mix, easy_until=0.0), schedule=schedule)
        words, model = processor(start), load_model(start, encoder, settings.size.layers)
    run = Run(work / "chat" / "run", model, settings.schedule, device)

    def make_batches(seed: int) -> Iterator[Batch]:
        return _batches(spoken, words, settings, run, seed)

    def evaluate() -> Measures:
        return measure(model.inner, words, held_out, settings.measured, Random(settings.seed))

    run.train(make_batches, ChatLoss(model, settings, lambda: run.fraction, device), evaluate)
    export(model, words, out)


def _batches(
    spoken: Corpus, words: Qwen2AudioProcessor, settings: ChatSettings, run: Run, seed: int
) -> Iterator[Batch]:
    random = Random(settings.seed * 1_000_003 + seed)
    dialogues = training_dialogues(random, Studio(spoken, settings.mix), settings.mix, lambda: run.fraction)
    encoder = DialogueEncoder(words, settings.guidance.lag_s)
    rows = (encoder.row(dialogue) for dialogue in dialogues)
    return batches(rows, random, settings.positions_per_batch, settings.dialogues_sorted, pad_token(words))


def _processor(directory: Path, spoken: Corpus, settings: ChatSettings) -> Qwen2AudioProcessor:
    """Made once: the weights of a run belong to its vocabulary."""
    if not (directory / "tokenizer.json").exists():
        build_processor(spoken, settings.size.vocabulary, settings.seed).save_pretrained(directory)
    return processor(directory)
