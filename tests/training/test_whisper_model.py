"""The Whisper recipe's forward passes and losses, against transformers' own and against slow, obvious references."""

import math
from pathlib import Path

import pytest
import torch
from transformers import WhisperTokenizer

from models.training.whisper.model import Learner, build_whisper
from models.training.whisper.objectives import LEAST_LOG_MASS, SMEAR, broad_loss, misread, outside_loss, smeared_loss
from models.training.whisper.position_head import ridge
from models.training.whisper.settings import Size
from models.training.whisper.tokenizer import NUM_TIMESTAMPS, Vocabulary

CHECKPOINT = Path(__file__).parent.parent.parent / "models" / "whisper-embedded"
TINY = Size(width=32, encoder_layers=2, decoder_layers=2, heads=2)
SPANS = torch.tensor([[2.0, 6.0], [-1.0, 0.4], [9.5, 30.0], [4.2, 4.4]])


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.of(WhisperTokenizer.from_pretrained(CHECKPOINT))


@pytest.fixture(scope="module")
def learner(vocabulary: Vocabulary) -> Learner:
    torch.manual_seed(0)
    whisper = build_whisper(TINY, vocabulary)
    # larger than where training starts, so that attention is anything but uniform
    for parameter in whisper.parameters():
        if parameter.ndim > 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    whisper.set_attn_implementation("eager")
    return Learner(whisper, num_phones=5).eval()


def test_the_forward_passes_are_those_of_transformers(learner: Learner, vocabulary: Vocabulary) -> None:
    mel = torch.randn(2, 80, 3000, generator=torch.Generator().manual_seed(1))
    tokens = torch.randint(0, vocabulary.size, (2, 12), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = learner.whisper(mel, decoder_input_ids=tokens, output_attentions=True)
        encoded = learner.encode(mel, torch.zeros(2, dtype=torch.long))
        hidden, attention = learner.decode(tokens, encoded)
        assert torch.allclose(encoded, expected.encoder_last_hidden_state, atol=1e-5)
        assert torch.allclose(learner.logits(hidden), expected.logits, atol=1e-4)
        rows = torch.rand(2, 12, generator=torch.Generator().manual_seed(3)) < 0.5
        for layer in range(2):
            for head in range(2):
                weights = attention.log_weights(layer, head, rows).exp()
                assert torch.allclose(weights, expected.cross_attentions[layer][:, head][rows], atol=1e-5)


def test_an_offset_moves_the_encoder_positions(learner: Learner) -> None:
    mel = torch.randn(2, 80, 200, generator=torch.Generator().manual_seed(1))
    positions = learner.whisper.model.encoder.embed_positions.weight
    kept = positions.detach().clone()
    with torch.no_grad():
        shifted = learner.encode(mel, torch.tensor([0, 700]))
        positions.copy_(kept.roll(-700, 0))
        expected = learner.encode(mel, torch.zeros(2, dtype=torch.long))
        positions.copy_(kept)
        assert torch.allclose(shifted[1], expected[1], atol=1e-6)
        assert torch.allclose(shifted[0], learner.encode(mel, torch.zeros(2, dtype=torch.long))[0], atol=1e-6)


def test_the_hooks_are_gone_after_a_pass(learner: Learner) -> None:
    with torch.no_grad():
        learner.decode(torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 4, TINY.width))
    for layer in learner.whisper.model.decoder.layers:
        assert not layer.encoder_attn.q_proj._forward_hooks


def test_ridge_is_the_minimum_of_its_penalised_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 6, generator=generator).double()
    inputs -= inputs.mean(0)
    targets = inputs @ torch.randn(6, 4, generator=generator).double()
    targets += 0.1 * torch.randn(200, 4, generator=generator)
    fit = ridge(inputs, targets).requires_grad_()
    penalty = 1e-2 * 200 * inputs.var(0).mean()
    ((inputs @ fit - targets).square().sum() + penalty * fit.square().sum()).backward()
    assert fit.grad is not None
    assert fit.grad.abs().max() < 1e-4


def test_only_text_is_misread() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(0, 1_500, (20, 200))
    is_text = tokens < 1_000
    wrong = misread(tokens, 0.5, num_texts=1_000)
    assert 0.4 < float((wrong != tokens)[is_text].float().mean()) < 0.6
    assert torch.equal(wrong[~is_text], tokens[~is_text])
    assert (wrong[is_text] < 1_000).all()
    assert torch.equal(misread(tokens, 0.0, num_texts=1_000), tokens)


def test_a_smeared_timestamp_is_a_bell_around_the_right_one() -> None:
    first, size = 20, 20 + NUM_TIMESTAMPS
    logits = torch.randn(4, size, generator=torch.Generator().manual_seed(0))
    log_probabilities = logits.log_softmax(-1)
    labels = torch.tensor([first, first + 1, first + 700, size - 1])
    losses = smeared_loss(log_probabilities, labels, first)
    steps = range(-SMEAR, SMEAR + 1)
    total = sum(math.exp(-(step**2) / 2) for step in steps)
    for row, label in enumerate(labels.tolist()):
        expected = 0.0
        for step in steps:
            near = min(max(label + step, first), size - 1)
            expected -= math.exp(-(step**2) / 2) / total * float(log_probabilities[row, near])
        assert float(losses[row]) == pytest.approx(expected, abs=1e-4)


def test_the_outside_loss_is_the_logarithm_of_the_mass_in_the_span() -> None:
    log_weights = torch.randn(4, 16, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    losses = outside_loss(log_weights, SPANS)
    for row, (start, end) in enumerate(SPANS.tolist()):
        mass = sum(float(log_weights[row, frame].exp()) for frame in range(16) if start <= frame <= end)
        expected = -max(math.log(mass), LEAST_LOG_MASS) if mass else -LEAST_LOG_MASS
        assert float(losses[row]) == pytest.approx(expected, abs=1e-4)


def test_the_broad_loss_pulls_towards_a_uniform_distribution_over_the_inner_span() -> None:
    scores = torch.randn(4, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    losses = broad_loss(scores.log_softmax(-1), SPANS)
    cores = [[frame for frame in range(16) if start + 0.5 <= frame <= end - 0.5] for start, end in SPANS.tolist()]
    assert [len(core) for core in cores] == [3, 0, 6, 0]
    assert len(losses) == 2
    (pulled,) = torch.autograd.grad(losses.sum(), scores)
    divergence = torch.zeros(())
    for row, core in enumerate(cores):
        for frame in core:
            weight = scores[row].softmax(-1)[frame] + 1e-3
            divergence = divergence + (math.log(1 / len(core)) - weight.log()) / len(core)
    (expected,) = torch.autograd.grad(divergence, scores)
    assert torch.allclose(pulled, expected, atol=1e-6)
