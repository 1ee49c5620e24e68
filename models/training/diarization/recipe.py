"""From nothing to `models/diarization-embedded`."""

from pathlib import Path

import torch

from deployments.diarization.small_models import SmallEmbedding, SmallSegmentation
from models.training.diarization import checkpoints, tuning
from models.training.diarization.channel import vary_channel
from models.training.diarization.embedding import SpeakerClassifier, Windows, equal_error_rate
from models.training.diarization.material import Material, gather
from models.training.diarization.segmentation import Chunks, CountingLoss, counting_errors
from models.training.diarization.settings import FULL, Settings
from models.training.diarization.spoken import conversations
from models.training.loop import Measures, Run

TUNING_SEED = 3


def train(
    out: Path,
    work: Path,
    settings: Settings = FULL,
    device: str = "cpu",
    processes: int = 1,
    minutes: float | None = None,
    librispeech: Path | None = None,
    meetings: Path | None = None,
) -> None:
    """Write the directory of a pipeline to `out`.

    Args:
        work: for the voices and each network's run. Called again with the same one, training goes on where it was.
        processes: to synthesise and read with.
        minutes: of training, shared by both networks; without them each takes its schedule's steps. What comes before
            and the choice of the clustering afterwards take some minutes more.
        librispeech: a folder of LibriSpeech; without it only synthetic voices are known.
        meetings: a folder of annotated meetings (`meetings.py`).

    Raises:
        ValueError: one of the folders has nothing to train on, or something that is held out.
    """
    if minutes is not None:
        settings = settings.with_minutes(minutes)
    torch.manual_seed(0)
    work = work / "diarization"
    material = gather(work, settings, librispeech, meetings, processes)
    embedding = train_embedding(work / "embedding", material, settings, device)
    segmentation = train_segmentation(work / "segmentation", material, settings, device)
    checkpoints.save(embedding, out / "embedding")
    checkpoints.save(segmentation, out / "segmentation")
    checkpoints.save_plda(out / "plda", embedding.dimension)
    spoken = conversations(material.kept_back, material.backgrounds, settings.tuning_conversations, TUNING_SEED)
    checkpoints.save_config(out, tuning.tune(out, spoken, settings.clustering))


def train_embedding(work: Path, material: Material, settings: Settings, device: str) -> SmallEmbedding:
    windows = Windows(material, settings)
    embedding = checkpoints.new_embedding()
    model = SpeakerClassifier(embedding, windows.num_speakers, settings)
    run = Run(work, model, settings.embedding, device)
    vary_channel(
        embedding.features,
        lambda: settings.channels if run.fraction < 1 - settings.last_part else settings.last_channels,
        seed=run.step,
    )

    def evaluate() -> Measures:
        kept_back = material.kept_back.items()
        return {f"EER {kind}": equal_error_rate(embedding, voices, device) for kind, voices in kept_back}

    run.train(windows, lambda batch: model.loss(batch.to(device), run.fraction), evaluate)
    return embedding


def train_segmentation(work: Path, material: Material, settings: Settings, device: str) -> SmallSegmentation:
    model = checkpoints.new_segmentation()
    run = Run(work, model, settings.segmentation, device)
    vary_channel(model.features, lambda: settings.channels, seed=run.step)
    loss = CountingLoss(model, settings, device)

    def evaluate() -> Measures:
        measures = {}
        for kind, voices in material.kept_back.items():
            measures[f"missed {kind}"], measures[f"invented {kind}"] = counting_errors(model, voices, device)
        return measures

    run.train(Chunks(material, settings), lambda batch: loss(batch.to(device)), evaluate)
    return model
