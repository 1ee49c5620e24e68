"""CAM++: the published weights in our classes, the same sums in two ways, and voices told apart."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.scoring import Conversation
from deployments.diarization.campplus import CamPlusPlus, load_campplus
from deployments.diarization.embedding import CamPlusPlusEmbedding
from deployments.diarization.features import FRAME_SAMPLES, HOP_SAMPLES, filter_bank
from deployments.diarization.folded import FoldedCamPlusPlus
from deployments.diarization.windowed_pipeline import EMBEDDING_FILE
from pipelines.audio import from_pcm
from pipelines.audio_types import SAMPLE_RATE_HZ

MIN_SAME_COSINE = 0.9999


@pytest.fixture(scope="module")
def path(checkpoint: Path) -> Path:
    return checkpoint / "embedding" / EMBEDDING_FILE


@pytest.fixture(scope="module")
def network(path: Path) -> CamPlusPlus:
    return load_campplus(path)


@pytest.fixture(scope="module")
def features(conversations: dict[str, Conversation]) -> dict[str, Tensor]:
    """By reader and number: 5 s of two turns of every reader of three conversations, without their mean."""
    found: dict[str, Tensor] = {}
    for name in ("libri-01", "libri-03", "libri-04"):
        samples = from_pcm(conversations[name].window().pcm)
        for reader in conversations[name].speakers:
            turns = conversations[name].turns.label_timeline(reader)
            longest = sorted(turns, key=lambda turn: -turn.duration)[:2]
            for number, turn in enumerate(longest):
                first = round(turn.start * SAMPLE_RATE_HZ)
                last = min(round(turn.end * SAMPLE_RATE_HZ), first + 5 * SAMPLE_RATE_HZ)
                bank = filter_bank(torch.from_numpy(samples[first:last]))
                found[f"{reader} {name} {number}"] = bank - bank.mean(dim=0)
    assert len(found) >= 10
    return found


@torch.inference_mode()
def voices(network: torch.nn.Module, features: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: F.normalize(network(bank[None])[0], dim=0) for name, bank in features.items()}


def test_the_published_weights_fit_to_the_last_one(path: Path) -> None:
    """Strictly: no name is left over on either side."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    assert len(saved) == 937
    assert {name: value.shape for name, value in CamPlusPlus().state_dict().items()} == {
        name: value.shape for name, value in saved.items()
    }


def test_other_weights_do_not_load(tmp_path: Path) -> None:
    torch.save({"head.conv1.weight": torch.zeros(32, 1, 3, 3)}, tmp_path / "other.pt")
    with pytest.raises(RuntimeError, match="Missing key"):
        load_campplus(tmp_path / "other.pt")


def test_one_voice_is_alike_and_two_are_not(network: CamPlusPlus, features: dict[str, Tensor]) -> None:
    heard = voices(network, features)
    alike, unlike = [], []
    for left, right in combinations(heard, 2):
        (alike if left.split()[0] == right.split()[0] else unlike).append(float(heard[left] @ heard[right]))
    assert np.mean(alike) > 0.6
    assert np.mean(unlike) < 0.2


def test_folding_changes_no_sum(network: CamPlusPlus, features: dict[str, Tensor]) -> None:
    expected, found = voices(network, features), voices(FoldedCamPlusPlus(network), features)
    for name in features:
        assert float(expected[name] @ found[name]) > MIN_SAME_COSINE


@pytest.mark.parametrize("num_frames", [30, 31, 100, 199, 200, 201, 777])
def test_folding_changes_no_sum_at_any_length(network: CamPlusPlus, num_frames: int) -> None:
    """Also with normalisations that turn signs, which training makes few of."""
    torch.manual_seed(num_frames)
    noise = 3 * torch.randn(2, num_frames, 80)
    with torch.inference_mode():
        found = FoldedCamPlusPlus(network)(noise)
        torch.testing.assert_close(found, network(noise), atol=1e-3, rtol=1e-3)


def test_folding_takes_normalisations_of_any_sign() -> None:
    torch.manual_seed(0)
    network = CamPlusPlus().eval()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm1d) and part.affine:
            torch.nn.init.normal_(part.weight)
            torch.nn.init.normal_(part.bias)
    noise = torch.randn(1, 120, 80)
    with torch.inference_mode():
        torch.testing.assert_close(FoldedCamPlusPlus(network)(noise), network(noise), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("num_samples", [0, 1, FRAME_SAMPLES - 1, FRAME_SAMPLES, FRAME_SAMPLES + HOP_SAMPLES])
def test_a_frame_needs_all_of_its_samples(num_samples: int) -> None:
    features = filter_bank(torch.ones(num_samples))
    assert features.shape == (max(0, (num_samples - FRAME_SAMPLES) // HOP_SAMPLES + 1), 80)


def test_features_in_blocks_are_those_of_the_whole() -> None:
    """Longer than a block, and compared with its second half alone."""
    samples = torch.randn(70 * SAMPLE_RATE_HZ, generator=torch.Generator().manual_seed(0)) / 10
    skipped = 2_950
    torch.testing.assert_close(filter_bank(samples)[skipped:], filter_bank(samples[skipped * HOP_SAMPLES :]))


def test_too_few_samples_are_no_voice(path: Path) -> None:
    heard = CamPlusPlusEmbedding(path)
    found = heard(torch.randn(1, 1, 800))
    assert found.shape == (1, heard.dimension)
    assert np.isnan(found).all()
