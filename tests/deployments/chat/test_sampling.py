"""How the next token is chosen, on logits that are known."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

from deployments.chat.row import Prompt, Row
from deployments.chat.sampling import TokenChooser
from deployments.chat.vocabulary import Vocabulary
from pipelines.chat_types import SamplingOptions, ScoredToken
from tests.support.small_tokenizers import byte_level

NUM_LOGITS = 512
VOCABULARY = Vocabulary(byte_level(), GenerationConfig(), NUM_LOGITS)
READ = [10, 11]


def row_of(written: list[int] | None = None, seed: int = 0, **options: Any) -> Row:
    prompt = Prompt({"input_ids": torch.tensor([READ])}, num_audio_tokens=0)
    row = Row("0", prompt, SamplingOptions(seed=seed, **{"temperature": 0.0, **options}), 1_000, VOCABULARY)
    row.written = written or []
    return row


def logits_of(**high: float) -> Tensor:
    """-5 everywhere, but for tokens that are named, as _20=3.0."""
    logits = torch.full((1, NUM_LOGITS), -5.0)
    for name, value in high.items():
        logits[0, int(name[1:])] = value
    return logits


def chooser(*rows: Row) -> TokenChooser:
    return TokenChooser(VOCABULARY, rows, NUM_LOGITS, torch.device("cpu"))


def choose(logits: Tensor, row: Row) -> tuple[int, ScoredToken | None]:
    (choice,) = chooser(row).choose(logits.clone())
    return choice


def chosen(logits: Tensor, row: Row) -> int:
    return choose(logits, row)[0]


def drawn(logits: Tensor, num: int = 300, **options: Any) -> set[int]:
    """What is drawn in `num` draws."""
    drawer = chooser(row_of(temperature=options.pop("temperature", 1.0), **options))
    return {drawer.choose(logits.clone())[0][0] for _ in range(num)}


def test_padding_of_the_output_layer_is_never_chosen() -> None:
    assert VOCABULARY.size < NUM_LOGITS
    logits = logits_of(_500=50.0, _411=40.0, _20=1.0)
    assert chosen(logits, row_of()) == 20
    assert max(drawn(logits, temperature=2.0)) < VOCABULARY.size
    _, scored = choose(logits, row_of(top_logprobs=20))
    assert scored
    assert all(token.id < VOCABULARY.size and math.isfinite(token.logprob) for token in scored.alternatives)


def test_alternatives_are_as_many_as_there_are_tokens_at_most() -> None:
    _, scored = choose(logits_of(_20=1.0), row_of(top_logprobs=10_000))
    assert scored
    assert len(scored.alternatives) == VOCABULARY.size


def test_logprobs_are_those_before_temperature() -> None:
    """CHT-14"""
    logits = logits_of(_20=2.0, _21=1.0)
    expected = torch.log_softmax(logits[0, : VOCABULARY.size], dim=-1)
    for temperature in (0.0, 0.5, 2.0):
        token_id, scored = choose(logits, row_of(temperature=temperature, top_logprobs=2))
        assert scored
        assert scored.token.id == token_id
        assert scored.token.logprob == pytest.approx(float(expected[token_id]), abs=1e-5)
        assert [(one.id, one.logprob) for one in scored.alternatives] == [
            (20, pytest.approx(float(expected[20]), abs=1e-5)),
            (21, pytest.approx(float(expected[21]), abs=1e-5)),
        ]


def test_a_token_s_name_and_bytes_are_told() -> None:
    """CHT-14"""
    (end,) = VOCABULARY.ends
    letter = byte_level().convert_tokens_to_ids("Ġ")
    _, scored = choose(logits_of(**{f"_{letter}": 9.0, f"_{end}": 8.0}), row_of(top_logprobs=2))
    assert scored
    assert (scored.token.text, scored.token.data) == (" ", b" ")
    assert (scored.alternatives[1].text, scored.alternatives[1].data) == ("<|im_end|>", b"")


def test_without_logprobs_nothing_is_told() -> None:
    """CHT-14"""
    assert choose(logits_of(_20=1.0), row_of()) == (20, None)


def test_a_repetition_penalty_looks_at_prompt_and_answer() -> None:
    """CHT-21"""
    logits = logits_of(_10=3.0, _30=2.9, _20=2.0)
    assert chosen(logits, row_of()) == 10
    assert chosen(logits, row_of(repetition_penalty=1.2)) == 30
    assert chosen(logits, row_of([30], repetition_penalty=1.6)) == 20


@pytest.mark.parametrize("penalty", ["frequency_penalty", "presence_penalty"])
def test_the_other_penalties_look_at_the_answer_alone(penalty: str) -> None:
    """CHT-15"""
    logits = logits_of(_10=3.0, _30=2.0)
    assert chosen(logits, row_of(**{penalty: 2.0})) == 10
    assert chosen(logits, row_of([10], **{penalty: 2.0})) == 30
    assert chosen(logits_of(_10=1.0, _30=2.0), row_of([10], **{penalty: -2.0})) == 10


def test_frequency_counts_and_presence_does_not() -> None:
    """CHT-15"""
    logits = logits_of(_10=3.0, _30=1.5)
    assert chosen(logits, row_of([10, 10], frequency_penalty=1.0)) == 30
    assert chosen(logits, row_of([10, 10], presence_penalty=1.0)) == 10


def test_a_bias_is_added() -> None:
    """CHT-16"""
    logits = logits_of(_10=3.0, _30=1.5)
    assert chosen(logits, row_of(logit_bias={30: 1.6})) == 30
    assert chosen(logits, row_of(logit_bias={10: -1.6})) == 30
    assert chosen(logits, row_of(logit_bias={7: 100.0})) == 7
    assert drawn(logits, logit_bias={10: -100.0, 30: -100.0}).isdisjoint({10, 30})


def test_top_k_top_p_and_min_p_leave_out_the_rest() -> None:
    """CHT-10, CHT-21"""
    logits = torch.full((1, NUM_LOGITS), -50.0)
    logits[0, 20:24] = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    assert drawn(logits) == {20, 21, 22, 23}
    assert drawn(logits, top_k=2) == {20, 21}
    assert drawn(logits, top_p=0.65) == {20, 21}
    assert drawn(logits, min_p=0.45) == {20, 21, 22}
    assert drawn(logits, top_k=3, min_p=0.7) == {20, 21}


def test_rows_are_chosen_for_by_their_own_options() -> None:
    logits = logits_of(_10=3.0, _30=2.0).repeat(4, 1)
    rows = [
        row_of(),
        row_of(logit_bias={10: -100.0}),
        row_of([10], presence_penalty=2.0),
        row_of(temperature=1.0, seed=5, top_k=1, logit_bias={42: 50.0}),
    ]
    assert [token_id for token_id, _ in chooser(*rows).choose(logits)] == [10, 30, 30, 42]


def test_a_row_draws_the_same_at_any_place_of_a_batch() -> None:
    """CHT-13"""
    logits = torch.randn(1, NUM_LOGITS, generator=torch.Generator().manual_seed(1))
    expected = [chosen(logits, row_of(seed=seed, temperature=1.0)) for seed in range(8)]
    rows = [row_of(seed=seed, temperature=1.0) for seed in range(8)]
    found = [token_id for token_id, _ in chooser(*rows).choose(logits.repeat(8, 1))]
    assert found == expected
    assert len(set(found)) > 4
