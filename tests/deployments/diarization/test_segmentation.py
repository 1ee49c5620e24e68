"""Chunks that share their filters: what pyannote.audio's own network and its own `Inference` say of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pyannote.audio import Inference
from pyannote.audio.models.segmentation import PyanNet

from benchmarks.scoring import Conversation
from deployments.diarization.segmentation import OverlappingSegmentation, load_segmentation
from deployments.diarization.windowed_pipeline import SEGMENTATION_FILE
from pipelines.audio import from_pcm
from pipelines.audio_types import SAMPLE_RATE_HZ

CHUNK_S = 10.0


@pytest.fixture(scope="module")
def path(checkpoint: Path) -> Path:
    torch.set_num_threads(1)
    return checkpoint / "segmentation" / SEGMENTATION_FILE


@pytest.fixture(scope="module")
def stock(path: Path) -> PyanNet:
    return load_segmentation(path)


@pytest.fixture(scope="module")
def speech(conversations: dict[str, Conversation]) -> torch.Tensor:
    """(1, samples): three who talk over each other."""
    return torch.from_numpy(from_pcm(conversations["tst00"].window().pcm))[None]


@pytest.mark.parametrize("step_s", [1.0, 2.0, 3.7])
def test_each_chunk_is_what_the_network_hears_of_it_alone(
    path: Path, stock: PyanNet, speech: torch.Tensor, step_s: float
) -> None:
    """Also where chunks are not as loud as each other, and their samples have a mean."""
    stretch = speech[:, : round((CHUNK_S + 4 * step_s) * SAMPLE_RATE_HZ)]
    stretch = stretch * torch.linspace(0.1, 1.0, stretch.shape[1]) + 0.1
    chunks = stretch.unfold(1, round(CHUNK_S * SAMPLE_RATE_HZ), round(step_s * SAMPLE_RATE_HZ))
    shared = OverlappingSegmentation(load_segmentation(path), step_s / CHUNK_S).model
    with torch.inference_mode():
        expected = torch.cat([stock(chunk[None, None]) for chunk in chunks[0]])
        torch.testing.assert_close(shared(stretch[None]).exp(), expected.exp(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("duration_s", "batch_size"), [(0.01, 3), (9.9, 3), (10.0, 3), (10.1, 1), (14.0, 3), (23.0, 3)]
)
def test_a_recording_is_cut_into_the_same_chunks(
    path: Path, stock: PyanNet, speech: torch.Tensor, duration_s: float, batch_size: int
) -> None:
    file = {"waveform": speech[:, : round(duration_s * SAMPLE_RATE_HZ)], "sample_rate": SAMPLE_RATE_HZ}
    expected = Inference(stock, duration=CHUNK_S, step=2.0, skip_aggregation=True)(dict(file))
    shared = OverlappingSegmentation(load_segmentation(path), 0.2)
    shared.batch_size = batch_size
    found = shared(dict(file))
    assert found.data.shape == expected.data.shape
    assert (found.sliding_window.step, found.sliding_window.duration) == (2.0, CHUNK_S)
    assert np.mean(found.data != expected.data) < 1e-3


def test_a_step_is_one_of_the_filters(path: Path) -> None:
    assert OverlappingSegmentation(load_segmentation(path), 0.123_456_7).step == 19_750 / SAMPLE_RATE_HZ


def test_the_hook_hears_of_each_batch(path: Path, speech: torch.Tensor) -> None:
    heard: list[tuple[int, int]] = []
    shared = OverlappingSegmentation(load_segmentation(path), 0.2)
    shared.batch_size = 2
    shared(
        {"waveform": speech[:, : 16 * SAMPLE_RATE_HZ], "sample_rate": SAMPLE_RATE_HZ},
        hook=lambda completed, total: heard.append((completed, total)),
    )
    assert heard == [(0, 4), (2, 4), (4, 4)]
