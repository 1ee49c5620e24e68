"""The network over slots, and transformers' own beside it: slow, obviously right."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import WhisperForConditionalGeneration

from deployments.asr.alignment import alignment_heads
from deployments.asr.network import WhisperNetwork, attend_to_all
from deployments.asr.slots import Slots
from deployments.decoding.devices import Precision
from tests.support.whisper_checkpoints import FAMILIES

FLOAT32 = Precision(torch.float32, torch.float32)
INT8 = Precision(torch.float32, torch.float32, has_int8_weights=True)

NUM_ROWS, NUM_TOKENS = 3, 9


@pytest.fixture(scope="module", params=["multilingual", "turbo"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WhisperForConditionalGeneration:
    directory: Path = tmp_path_factory.mktemp("whisper")
    FAMILIES[request.param](directory)
    return WhisperForConditionalGeneration.from_pretrained(directory, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def network(model: WhisperForConditionalGeneration) -> WhisperNetwork:
    return WhisperNetwork(model, FLOAT32, alignment_heads(model))


@pytest.fixture(scope="module")
def features(model: WhisperForConditionalGeneration) -> Tensor:
    frames = 2 * model.config.max_source_positions
    return torch.randn(NUM_ROWS, model.config.num_mel_bins, frames, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def token_ids(model: WhisperForConditionalGeneration) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(model.config.vocab_size, (NUM_ROWS, NUM_TOKENS), generator=generator)


@pytest.fixture(scope="module")
def expected(model: WhisperForConditionalGeneration, features: Tensor, token_ids: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(input_features=features, decoder_input_ids=token_ids).logits
    return logits


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@torch.inference_mode()
def boarded(network: WhisperNetwork, features: Tensor, num_slots: int = 2) -> Slots:
    slots = Slots(network.slot_shape, num_slots)
    network.listen(network.encode(features), slots, slots.take(len(features)))
    return slots


@torch.inference_mode()
def test_the_encoder_is_transformers(
    model: WhisperForConditionalGeneration, network: WhisperNetwork, features: Tensor
) -> None:
    assert close(network.encode(features), model.model.encoder(features).last_hidden_state)


@torch.inference_mode()
def test_read_at_once_or_token_by_token(
    network: WhisperNetwork, features: Tensor, token_ids: Tensor, expected: Tensor
) -> None:
    rows = slice(0, NUM_ROWS)
    slots = boarded(network, features)
    assert close(network.logits(network.read(token_ids, slots, rows)), expected)
    slots.rewind(rows)
    parts = [network.read(part, slots, rows) for part in token_ids.split([4, 1, 1, 3], dim=1)]
    assert close(network.logits(torch.cat(parts, dim=1)), expected)


@torch.inference_mode()
def test_rows_of_unequal_length_that_move_between_slots(
    network: WhisperNetwork, features: Tensor, token_ids: Tensor, expected: Tensor
) -> None:
    slots = boarded(network, features)
    for row, length in enumerate((7, 2, 4)):
        network.read(token_ids[row : row + 1, :length], slots, slice(row, row + 1))
    assert slots.give_back(0) == 2  # the slots hold rows 2 and 1
    next_ids = torch.stack([token_ids[2, 4:5], token_ids[1, 2:3]])
    found = network.logits(network.read(next_ids, slots, slice(0, 2)))[:, 0]
    assert close(found, torch.stack([expected[2, 4], expected[1, 2]]))


@torch.inference_mode()
def test_scores_are_the_attention_of_transformers(
    model: WhisperForConditionalGeneration, network: WhisperNetwork, features: Tensor, token_ids: Tensor
) -> None:
    slots = boarded(network, features)
    network.read(token_ids, slots, slice(0, NUM_ROWS))
    model.set_attn_implementation("eager")
    try:
        attentions = model(
            input_features=features, decoder_input_ids=token_ids, output_attentions=True
        ).cross_attentions
    finally:
        model.set_attn_implementation("sdpa")
    for row in range(NUM_ROWS):
        found = slots.scores(row, 2, 7).softmax(dim=-1)
        for place, (layer, head) in enumerate(sorted(alignment_heads(model))):
            assert torch.allclose(found[place], attentions[layer][row, head, 2:7], atol=1e-4)


@torch.inference_mode()
def test_8_bits_hear_nearly_the_same_and_a_row_hangs_on_itself_alone(
    model: WhisperForConditionalGeneration, features: Tensor, token_ids: Tensor, expected: Tensor
) -> None:
    small = WhisperNetwork(model, INT8, alignment_heads(model))
    together = small.logits(small.read(token_ids, boarded(small, features), slice(0, NUM_ROWS)))
    assert (together - expected).norm() / expected.norm() < 0.2
    for row in range(NUM_ROWS):
        one = slice(row, row + 1)
        alone = small.logits(small.read(token_ids[one], boarded(small, features[one]), slice(0, 1)))
        assert torch.equal(alone, together[one])


def test_attention_in_parts_is_attention() -> None:
    query, keys, values = torch.randn(3, 2, 4, 700, 16).bfloat16()
    expected = scaled_dot_product_attention(query.float(), keys.float(), values.float(), scale=1.0)
    found = attend_to_all(query, keys, values)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() / expected.norm() < 0.03
