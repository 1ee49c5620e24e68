"""The encoder without padding gives what transformers' own gives."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2AudioForConditionalGeneration

from deployments.chat.families.qwen2_audio import UnpaddedEncoder, hear_only_what_there_is
from tests.support.chat_checkpoints import NUM_MELS

NUM_FRAMES = 3_000


def features(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise that goes on into the padding, which nobody must hear; and a mask of what is no padding."""
    noise = torch.randn(len(lengths), NUM_MELS, NUM_FRAMES, generator=torch.Generator().manual_seed(1))
    return noise, torch.arange(NUM_FRAMES)[None] < torch.tensor(lengths)[:, None]


def attention(mask: torch.Tensor) -> torch.Tensor:
    """(rows, 1, positions, positions), as transformers makes it of the frames' mask."""
    positions = ((mask.sum(-1) - 1) // 2 + 1)[:, None]
    keys = torch.arange(NUM_FRAMES // 2)[None] < positions
    return keys[:, None, None].expand(-1, 1, NUM_FRAMES // 2, -1)


@pytest.mark.parametrize(
    "lengths", [(1,), (2,), (3,), (4,), (185,), (186,), (2_999,), (3_000,), (40, 700, 333)], ids=str
)
@torch.inference_mode()
def test_what_is_no_padding_is_the_same(reference: Any, lengths: tuple[int, ...]) -> None:
    encoder = reference.model.audio_tower
    given, mask = features(*lengths)
    expected = encoder(given, attention_mask=attention(mask)).last_hidden_state
    found = UnpaddedEncoder(encoder)(given, attention_mask=attention(mask)).last_hidden_state
    _, num_positions = encoder._get_feat_extract_output_lengths(mask.sum(-1))
    assert found.shape[1] == max(int(num_positions.max()), 1)
    for row, num in enumerate(num_positions.tolist()):
        assert torch.allclose(found[row, :num], expected[row, :num], atol=1e-4)


@torch.inference_mode()
def test_without_a_mask_all_is_heard(reference: Any) -> None:
    given, _ = features(NUM_FRAMES)
    expected = reference.model.audio_tower(given).last_hidden_state
    assert torch.equal(UnpaddedEncoder(reference.model.audio_tower)(given).last_hidden_state, expected)


@torch.inference_mode()
def test_the_whole_model_says_the_same(checkpoint: Path, reference: Any) -> None:
    unpadded = Qwen2AudioForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    hear_only_what_there_is(unpadded)
    assert isinstance(unpadded.model.audio_tower, UnpaddedEncoder)
    given, mask = features(500)
    audio = [reference.config.audio_token_id] * 125
    inputs = {
        "input_ids": torch.tensor([[1, 20, 30, *audio, 40, 2]]),
        "input_features": given,
        "feature_attention_mask": mask.long(),
    }
    assert torch.allclose(unpadded(**inputs).logits, reference(**inputs).logits, atol=1e-3)
