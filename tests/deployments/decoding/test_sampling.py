from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from deployments.decoding.sampling import apply_penalties, draw

NUM_TOKENS = 20


@dataclass(frozen=True)
class Options:
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0


def logits_of(seed: int) -> Tensor:
    return torch.randn(NUM_TOKENS, generator=torch.Generator().manual_seed(seed)) * 3


def penalized(logits: Tensor, written: list[int], read: list[int] | None = None, **options: float) -> Tensor:
    changed = logits.clone()
    apply_penalties(changed, written, Options(**options), read or [])  # type: ignore[arg-type]
    return changed


def draws(logits: Tensor, num: int, temperature: float = 1.0, seed: int = 0, **options: Any) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [int(draw(logits, temperature, Options(**options), generator)) for _ in range(num)]


# Penalties


def test_without_penalties_nothing_changes() -> None:
    logits = logits_of(1)
    assert torch.equal(penalized(logits, [1, 2], [3]), logits)


@pytest.mark.parametrize("penalty", [1.3, 0.7])
def test_the_repetition_penalty_is_transformers(penalty: float) -> None:
    logits, written, read = logits_of(2), [4, 4, 9], [9, 13]
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([[*read, *written]]), logits[None].clone())[0]
    assert torch.equal(penalized(logits, written, read, repetition_penalty=penalty), expected)
    assert not torch.equal(expected, logits)


def test_the_repetition_penalty_before_a_word_is_said() -> None:
    logits = logits_of(2)
    assert torch.equal(penalized(logits, [], [], repetition_penalty=1.3), logits)
    assert (penalized(logits, [], [7], repetition_penalty=1.3) != logits).nonzero().tolist() == [[7]]


def test_frequency_and_presence_are_openai_s() -> None:
    """logit - count x frequency - (count > 0) x presence; the prompt does not count."""
    logits, written = logits_of(3), [5, 8, 5, 5]
    expected = logits.clone()
    for token, count in Counter(written).items():
        expected[token] -= count * 0.5 + 0.25
    found = penalized(logits, written, [18, 19], frequency_penalty=0.5, presence_penalty=0.25)
    assert torch.allclose(found, expected)
    assert torch.equal(penalized(logits, [], [18, 19], frequency_penalty=2.0, presence_penalty=2.0), logits)


def test_negative_penalties_make_a_text_repeat_itself() -> None:
    logits = logits_of(4)
    assert float(penalized(logits, [5], frequency_penalty=-1.0)[5]) == pytest.approx(float(logits[5]) + 1.0)


# Draws


def shares(tokens: list[int]) -> Tensor:
    return torch.bincount(torch.tensor(tokens), minlength=NUM_TOKENS) / len(tokens)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_distribution(temperature: float) -> None:
    logits = logits_of(5)
    expected = torch.softmax(logits / temperature, dim=-1)
    assert torch.allclose(shares(draws(logits, 1_500, temperature)), expected, atol=0.05)


@pytest.mark.parametrize(
    ("options", "warper"),
    [
        ({"top_k": 5}, TopKLogitsWarper(5)),
        ({"top_p": 0.8}, TopPLogitsWarper(0.8)),
        ({"min_p": 0.1}, MinPLogitsWarper(0.1)),
    ],
)
def test_what_is_left_out_is_what_transformers_leaves_out(options: dict[str, Any], warper: Any) -> None:
    logits = logits_of(6)
    expected = torch.softmax(warper(None, logits[None].clone())[0], dim=-1)
    found = shares(draws(logits, 1_500, **options))
    assert set(found.nonzero().flatten().tolist()) <= set(expected.nonzero().flatten().tolist())
    assert torch.allclose(found, expected, atol=0.05)


def test_the_most_probable_token_is_always_left() -> None:
    logits = logits_of(7)
    best = int(logits.argmax())
    for options in ({"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}):
        assert draws(logits, 5, temperature=2.0, **options) == [best] * 5


def test_top_k_may_be_more_than_there_are() -> None:
    assert len(set(draws(torch.zeros(NUM_TOKENS), 500, top_k=10_000))) == NUM_TOKENS


def test_what_cannot_be_is_never_drawn() -> None:
    logits = torch.full((NUM_TOKENS,), -torch.inf)
    logits[[3, 4]] = 0.0
    assert set(draws(logits, 200, temperature=2.0)) == {3, 4}


def test_a_low_temperature_is_nearly_greedy() -> None:
    logits = logits_of(8)
    assert set(draws(logits, 50, temperature=1e-3)) == {int(logits.argmax())}


@pytest.mark.parametrize("temperature", [1e-3, 1e-300, 5e-324])
def test_no_temperature_is_too_low(temperature: float) -> None:
    logits = logits_of(3) * 1_000
    assert set(draws(logits, 5, temperature=temperature)) == {int(logits.argmax())}


def test_draws_depend_on_the_generator_alone() -> None:
    logits = logits_of(9)
    assert draws(logits, 20, seed=1) == draws(logits, 20, seed=1)
    assert draws(logits, 20, seed=1) != draws(logits, 20, seed=2)


def test_half_precision_logits_are_drawn_from_too() -> None:
    assert 0 <= draws(logits_of(1).bfloat16(), 1)[0] < NUM_TOKENS
