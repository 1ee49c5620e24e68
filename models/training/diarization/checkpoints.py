"""Networks as pyannote.audio loads them, and the directory of a pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pyannote.audio
import torch
import yaml
from pyannote.audio.core.model import Model
from pyannote.audio.core.task import Problem, Resolution, Specifications

from deployments.diarization.small_models import SmallEmbedding, SmallSegmentation
from deployments.diarization.small_pipeline import SmallSpeakerDiarization
from models.training.diarization.segmentation import CHUNK_S, MOST_AT_ONCE

WINDOW_S, HOP_S = 1.5, 0.3
SEGMENTATION_STEP = 0.2
FIRST_PASS = "average"
MIN_CLUSTER_SIZE = 8


def new_embedding() -> SmallEmbedding:
    model = SmallEmbedding()
    model.specifications = Specifications(Problem.REPRESENTATION, Resolution.CHUNK, CHUNK_S, classes=["-"])
    return model


def new_segmentation() -> SmallSegmentation:
    model = SmallSegmentation()
    model.specifications = Specifications(
        Problem.MONO_LABEL_CLASSIFICATION,
        Resolution.FRAME,
        CHUNK_S,
        classes=[f"speaker#{number + 1}" for number in range(MOST_AT_ONCE)],
        powerset_max_classes=MOST_AT_ONCE,
        permutation_invariant=True,
    )
    model.build()
    return model


def save(model: Model, folder: Path) -> None:
    """Write `pytorch_model.bin`, which names the model's class: wherever that moves, the checkpoint is orphaned."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = {
        "state_dict": {name: value.cpu() for name, value in model.state_dict().items()},
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
        "pyannote.audio": {
            "versions": {"pyannote.audio": pyannote.audio.__version__},
            "architecture": {"module": type(model).__module__, "class": type(model).__name__},
            "specifications": model.specifications,
        },
    }
    torch.save(checkpoint, folder / "pytorch_model.bin")


def save_config(folder: Path, clustering: Mapping[str, float]) -> None:
    """Write `config.yaml`.

    clustering: `threshold`, `merge` and `noise` of `CentroidMergeClustering`.
    """
    pipeline = f"{SmallSpeakerDiarization.__module__}.{SmallSpeakerDiarization.__name__}"
    config = {
        "dependencies": {"pyannote.audio": pyannote.audio.__version__},
        "pipeline": {"name": pipeline, "params": parameters("$model")},
        "params": hyperparameters(clustering),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def save_plda(folder: Path, dimension: int) -> None:
    """Write the identity: pyannote.audio always loads a PLDA, and this clustering never uses it."""
    folder.mkdir(parents=True, exist_ok=True)
    zeros, identity = np.zeros(dimension), np.eye(dimension)
    np.savez_compressed(folder / "xvec_transform.npz", mean1=zeros, mean2=zeros, lda=identity)
    # different variances, or their order would not be defined
    np.savez_compressed(folder / "plda.npz", mu=zeros, tr=identity, psi=np.linspace(2, 1, dimension))


def hyperparameters(clustering: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """What the pipeline is instantiated with."""
    first = {"method": FIRST_PASS, "min_cluster_size": MIN_CLUSTER_SIZE}
    return {"segmentation": {"min_duration_off": 0.0}, "clustering": {**first, **clustering}}


def parameters(folder: Path | str) -> dict[str, float | str | bool]:
    """What the pipeline of a directory is constructed with; `$model` in a config is its own directory."""
    return {
        "window_s": WINDOW_S,
        "hop_s": HOP_S,
        "segmentation": f"{folder}/segmentation",
        "segmentation_step": SEGMENTATION_STEP,
        "embedding": f"{folder}/embedding",
        "embedding_exclude_overlap": True,
        "plda": f"{folder}/plda",
        # of pyannote.audio's own; the pipeline puts its CentroidMergeClustering in its place
        "clustering": "AgglomerativeClustering",
    }
