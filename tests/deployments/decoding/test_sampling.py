from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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

from deployments.decoding.sampling import NUM_BEST, Sampler, uniform
from pipelines.sampling import Sampling

NUM_TOKENS = 20


@dataclass(frozen=True)
class Row:
    options: Sampling = field(default_factory=Sampling)
    temperature: float = 0.0
    seed: int = 0
    written: Sequence[int] = ()
    read: Sequence[int] = ()


def sampler(*rows: Row, num_countable: int = NUM_TOKENS) -> Sampler:
    return Sampler(rows, NUM_TOKENS, num_countable)


def logits_of(seed: int) -> Tensor:
    return torch.randn(NUM_TOKENS, generator=torch.Generator().manual_seed(seed)) * 3


def penalized(logits: Tensor, written: list[int], read: list[int] | None = None, **options: float) -> Tensor:
    changed = logits[None].clone()
    sampler(Row(Sampling(**options), written=written, read=read or [])).penalise(changed)  # type: ignore[arg-type]
    return changed[0]


def draws(logits: Tensor, num: int, temperature: float = 1.0, seed: int = 0, **options: Any) -> list[int]:
    """Of one row, one after the other."""
    drawer = sampler(Row(Sampling(**options), temperature, seed))
    tokens = []
    for _ in range(num):
        token = drawer.choose(logits[None])
        drawer.note(token)
        tokens.append(int(token))
    return tokens


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


def test_draws_depend_on_the_seed_alone() -> None:
    logits = logits_of(9)
    assert draws(logits, 20, seed=1) == draws(logits, 20, seed=1)
    assert draws(logits, 20, seed=1) != draws(logits, 20, seed=2)


def test_half_precision_logits_are_drawn_from_too() -> None:
    assert 0 <= draws(logits_of(1).bfloat16(), 1)[0] < NUM_TOKENS


# A batch


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_random_numbers_are_those_of_splitmix64(seed: int) -> None:
    def reference(counter: int) -> float:
        mixed = (seed + (counter + 1) * 0x9E3779B97F4A7C15) % 2**64
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
        return ((mixed ^ mixed >> 31) >> 11) / 2**53

    signed = torch.full((50,), seed - 2**64 if seed >= 2**63 else seed)
    assert uniform(signed, torch.arange(50)).tolist() == [reference(counter) for counter in range(50)]


ROWS = [
    Row(),
    Row(temperature=1.0, seed=3),
    Row(Sampling(top_k=5), 0.7, 4),
    Row(Sampling(top_p=0.8, min_p=0.01), 1.5, 5),
    Row(Sampling(repetition_penalty=1.4, frequency_penalty=0.5), 1.0, 6, written=[1, 2, 2], read=[7]),
    Row(Sampling(presence_penalty=1.0), written=[4]),
]


def written_by(rows: Sequence[Row], num: int, numbers: Sequence[int]) -> list[list[int]]:
    """`numbers`: of each row's own logits."""
    drawer = sampler(*rows)
    steps = []
    for step in range(num):
        logits = torch.stack([logits_of(1_000 * number + step) for number in numbers])
        drawer.penalise(logits)
        tokens = drawer.choose(logits)
        drawer.note(tokens)
        steps.append(tokens.tolist())
    return [list(row) for row in zip(*steps, strict=True)]


def test_who_else_is_aboard_changes_nothing() -> None:
    together = written_by(ROWS, 40, range(len(ROWS)))
    assert together == [written_by([row], 40, [number])[0] for number, row in enumerate(ROWS)]


def test_what_was_noted_counts_as_what_was_written_before() -> None:
    """A batch is made anew whenever somebody joins: nobody may notice."""
    for number, row in enumerate(ROWS):
        (whole,) = written_by([row], 12, [number])
        for step in range(12):
            later = replace(row, written=[*row.written, *whole[:step]])
            logits = logits_of(1_000 * number + step)[None]
            drawer = sampler(later)
            drawer.penalise(logits)
            assert drawer.choose(logits).tolist() == whole[step : step + 1]


def test_what_is_no_word_is_not_counted() -> None:
    logits = logits_of(2)[None]
    changed = logits.clone()
    options = Sampling(repetition_penalty=2.0, frequency_penalty=1.0, presence_penalty=1.0)
    row = Row(options, written=[3, 15], read=[16])
    drawer = sampler(row, num_countable=10)
    drawer.note(torch.tensor([17]))
    drawer.penalise(changed)
    assert (changed != logits).nonzero().tolist() == [[0, 3]]


@pytest.mark.parametrize("options", [{"top_p": 0.3}, {"top_p": 0.95}, {"top_p": 0.999}, {"top_p": 0.9, "top_k": 3000}])
@pytest.mark.parametrize("spread", [0.1, 3.0])
def test_few_of_many_tokens_are_chosen_among_as_all_are(options: dict[str, Any], spread: float) -> None:
    """A vocabulary in which the best are told without sorting it, or not (flat, the nucleus has thousands); equals
    among them, and rows of both kinds side by side."""
    num_tokens = 5 * NUM_BEST
    logits = torch.randn(2, num_tokens, generator=torch.Generator().manual_seed(1)) * torch.tensor([[spread], [3.0]])
    logits[:, :200] = logits[:, 200:400]
    probabilities = torch.softmax(logits.double(), dim=-1)
    ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    kept = (ordered.cumsum(dim=-1) - ordered) < options["top_p"]
    kept[:, options.get("top_k", num_tokens) :] = False
    for seed in range(20):
        rows = [Row(Sampling(**options), 1.0, seed + 100 * row) for row in range(2)]
        found = Sampler(rows, num_tokens, num_tokens).choose(logits)
        for row in range(2):
            weights = ordered[row][kept[row]]
            number = uniform(torch.tensor([seed + 100 * row]), torch.tensor([0])) * weights.sum()
            place = int(torch.searchsorted(weights.cumsum(dim=0), number, right=True))
            assert int(found[row]) == int(tokens[row, place])


def test_who_chooses_among_few_needs_no_order_of_all_beside_who_chooses_among_many() -> None:
    num_tokens = 5 * NUM_BEST
    logits = torch.randn(2, num_tokens, generator=torch.Generator().manual_seed(1)) * 3
    rows = [Row(Sampling(top_k=50, top_p=1.0), 1.0, 1), Row(Sampling(top_p=0.5), 1.0, 2)]
    ordered, _ = Sampler(rows, num_tokens, num_tokens)._ordered(torch.softmax(logits.double(), -1), torch.arange(2))
    assert ordered.shape[-1] == NUM_BEST
