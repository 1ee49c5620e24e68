import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

from deployments.asr.sampling import Choice, TokenChooser
from deployments.asr.vocabulary import Vocabulary
from pipelines.transcript_types import DecodingOptions

NUM_WORDS, NUM_TIMES = 20, 30
END, NO_TIMESTAMPS, BEGIN = NUM_WORDS, NUM_WORDS + 4, NUM_WORDS + 5
SIZE = BEGIN + NUM_TIMES
PLAIN = DecodingOptions()


@dataclass
class SmallVocabulary:
    """Words 0 to 19, <|endoftext|> 20, other special tokens up to <|notimestamps|> 24, then timestamps."""

    end_of_text: int = END
    no_timestamps: int = NO_TIMESTAMPS
    timestamp_begin: int = BEGIN
    suppressed: list[int] = field(default_factory=list)
    suppressed_at_begin: list[int] = field(default_factory=list)
    max_initial_timestamp: int | None = None


def chooser(*rows: Choice, **changes: Any) -> TokenChooser:
    return TokenChooser(cast(Vocabulary, SmallVocabulary(**changes)), rows, SIZE)


def choice(
    written: list[int] | None = None,
    options: DecodingOptions = PLAIN,
    temperature: float = 0.0,
    seed: int = 0,
    must_reach: int = 0,
) -> Choice:
    return Choice(options, temperature, seed, written or [], options is TIMED, must_reach)


def random_logits(seed: int, num_rows: int = 1) -> Tensor:
    return torch.randn(num_rows, SIZE, generator=torch.Generator().manual_seed(seed)) * 3


def logits_of(**high: float) -> Tensor:
    logits = torch.full((1, SIZE), -5.0)
    for name, value in high.items():
        logits[0, int(name[1:])] = value
    return logits


def chosen(logits: Tensor, row: Choice, **changes: Any) -> int:
    (token,), _ = chooser(row, **changes).choose(logits)
    return token


def test_greedy_takes_the_most_probable_and_tells_its_logprob() -> None:
    logits = random_logits(1)
    expected = torch.log_softmax(logits, dim=-1)[0]
    (token,), (logprob,) = chooser(choice()).choose(logits.clone())
    assert token == int(expected.argmax())
    assert logprob == pytest.approx(float(expected.max()), abs=1e-5)


def test_suppressed_tokens_are_never_chosen() -> None:
    assert chosen(logits_of(_3=9.0, _4=5.0), choice(), suppressed=[3]) == 4
    assert chosen(logits_of(_3=9.0, _4=5.0), choice(temperature=1.0), suppressed=[3, 24]) != 3


def test_some_tokens_are_suppressed_at_the_beginning_only() -> None:
    logits = logits_of(_3=9.0, _4=5.0)
    assert chosen(logits.clone(), choice(), suppressed_at_begin=[3]) == 4
    assert chosen(logits.clone(), choice([1]), suppressed_at_begin=[3]) == 3


# Timestamps


TIMED = DecodingOptions(timestamps=True)


def test_the_first_token_is_a_timestamp_and_not_too_late() -> None:
    logits = logits_of(_3=20.0, _27=1.0, _40=5.0)
    assert chosen(logits.clone(), choice(options=TIMED)) == 40
    assert chosen(logits.clone(), choice(options=TIMED), max_initial_timestamp=2) == 27


def test_after_the_opening_timestamp_comes_text() -> None:
    assert chosen(logits_of(_3=1.0, _28=20.0), choice([BEGIN], TIMED)) == 3


def test_after_a_closing_timestamp_comes_another_or_the_end() -> None:
    assert chosen(logits_of(_3=20.0, _30=1.0), choice([BEGIN, 3, BEGIN + 4], TIMED)) == 30
    assert chosen(logits_of(_3=20.0, _20=1.0), choice([BEGIN, 3, BEGIN + 4], TIMED)) == END


def test_timestamps_never_go_back() -> None:
    logits = logits_of(_26=20.0, _30=1.0)
    assert chosen(logits, choice([BEGIN + 3, 3], TIMED)) == 30


def test_a_segment_has_a_length_but_the_next_may_start_where_it_ended() -> None:
    same, later = BEGIN + 3, BEGIN + 5
    logits = logits_of(**{f"_{same}": 20.0, f"_{later}": 10.0})
    assert chosen(logits.clone(), choice([same, 3], TIMED)) == later
    assert chosen(logits.clone(), choice([BEGIN, 3, same], TIMED)) == same


def test_a_timestamp_it_is_when_all_together_outweigh_any_word() -> None:
    logits = torch.full((1, SIZE), -50.0)
    logits[0, 3] = 1.0
    logits[0, BEGIN + 5 : BEGIN + 15] = 0.0  # ln 10 > 1
    assert chosen(logits.clone(), choice([BEGIN, 4], TIMED)) >= BEGIN
    assert chosen(logits.clone(), choice([BEGIN, 4], PLAIN)) == 3


def test_text_does_not_end_long_before_the_speech() -> None:
    logits = logits_of(_20=20.0, _3=9.0, _30=5.0)
    closing, closed = [BEGIN, 3, BEGIN + 4], [BEGIN, 3, BEGIN + 4, BEGIN + 4]
    assert chosen(logits.clone(), choice(closing, TIMED, must_reach=5)) == 30
    assert chosen(logits.clone(), choice(closed, TIMED, must_reach=5)) == 3
    for written in (closing, closed):
        assert chosen(logits.clone(), choice(written, TIMED, must_reach=4)) == END
        assert chosen(logits.clone(), choice(written, PLAIN, must_reach=5)) == END
    # who says nothing at all may say so
    assert chosen(logits.clone(), choice([BEGIN], TIMED, must_reach=5)) == END


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("max_initial", [None, 5])
def test_rules_are_those_of_transformers(seed: int, max_initial: int | None) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, written = random_logits(seed), list[int]()
    config = GenerationConfig(
        eos_token_id=END,
        bos_token_id=END,
        no_timestamps_token_id=NO_TIMESTAMPS,
        max_initial_timestamp_index=max_initial,
    )
    prefix = [END + 1, END + 2]
    processor = WhisperTimeStampLogitsProcessor(config, begin_index=len(prefix))
    drawer = chooser(choice(options=TIMED), max_initial_timestamp=max_initial)
    for _ in range(12):  # along one random but lawful path
        logits = torch.randn(1, SIZE, generator=generator) * 3
        expected = processor(torch.tensor([prefix + written]), logits.clone())
        (token,), (logprob,) = drawer.choose(logits.clone())
        assert token == int(expected.argmax())
        assert logprob == pytest.approx(float(expected.log_softmax(-1).max()), abs=1e-4)
        if token == END:
            break
        written.append(token)


# Penalties


def test_repetition_makes_what_was_written_less_probable() -> None:
    logits = logits_of(_3=2.0, _4=1.5)
    assert chosen(logits.clone(), choice([3])) == 3
    punished = DecodingOptions(repetition_penalty=2.0)
    assert chosen(logits.clone(), choice([3], punished)) == 4
    negative = torch.full((1, SIZE), -5.0)
    negative[0, 3], negative[0, 4] = -1.0, -1.5
    assert chosen(negative, choice([3], punished)) == 4


def test_frequency_counts_and_presence_does_not() -> None:
    logits = logits_of(_3=3.0, _4=2.0)
    frequent = DecodingOptions(frequency_penalty=0.4)
    present = DecodingOptions(presence_penalty=0.9)
    assert chosen(logits.clone(), choice([3, 3], frequent)) == 3
    assert chosen(logits.clone(), choice([3, 3, 3], frequent)) == 4
    assert chosen(logits.clone(), choice([3, 3, 3, 3], present)) == 3
    assert chosen(logits.clone(), choice([3, 4], present)) == 3


def test_penalties_leave_timestamps_and_the_end_alone() -> None:
    punished = DecodingOptions(repetition_penalty=5.0, frequency_penalty=2.0, presence_penalty=2.0)
    written = [BEGIN, 3, BEGIN + 2, BEGIN + 2, 4]
    logits = torch.full((1, SIZE), -20.0)
    logits[0, BEGIN + 6] = 3.0
    (token,), (logprob,) = chooser(choice(written, punished)).choose(logits.clone())
    plain = chooser(choice(written, TIMED)).choose(logits.clone())
    assert token == BEGIN + 6
    assert logprob == pytest.approx(plain[1][0], abs=1e-3)


# Sampling


def test_the_same_seed_draws_the_same() -> None:
    def draws(seed: int) -> list[int]:
        row = choice(temperature=1.0, seed=seed)
        return [chosen(random_logits(number), row) for number in range(30)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)


def test_who_else_is_aboard_changes_nothing() -> None:
    logits = random_logits(5, num_rows=3)
    alone = chosen(logits[:1].clone(), choice(temperature=1.0, seed=4))
    rows = [choice(temperature=1.0, seed=4), choice(temperature=0.5, seed=8), choice()]
    together, _ = chooser(*rows).choose(logits.clone())
    assert together[0] == alone


def test_draws_follow_the_distribution() -> None:
    logits = torch.full((1, SIZE), -math.inf)
    logits[0, :3] = torch.tensor([0.6, 0.3, 0.1]).log()
    drawer = chooser(choice(temperature=1.0, seed=1))
    counts = Counter(drawer.choose(logits.clone())[0][0] for _ in range(3_000))
    assert counts.keys() == {0, 1, 2}
    assert counts[0] / 3_000 == pytest.approx(0.6, abs=0.04)
    assert counts[2] / 3_000 == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        (DecodingOptions(top_k=2), {0, 1}),
        (DecodingOptions(top_p=0.7), {0, 1}),
        (DecodingOptions(top_p=0.5), {0}),
        (DecodingOptions(top_p=1e-9), {0}),
        (DecodingOptions(min_p=0.3), {0, 1}),
        (DecodingOptions(min_p=1.0), {0}),
        (DecodingOptions(top_k=-1), {0, 1, 2}),
        (DecodingOptions(top_k=1_000), {0, 1, 2}),
        (DecodingOptions(top_k=2, top_p=0.5), {0}),
    ],
)
def test_only_the_probable_are_drawn(options: DecodingOptions, allowed: set[int]) -> None:
    logits = torch.full((1, SIZE), -math.inf)
    logits[0, :3] = torch.tensor([0.6, 0.3, 0.1]).log()
    drawer = chooser(choice(options=options, temperature=1.0, seed=1))
    assert {drawer.choose(logits.clone())[0][0] for _ in range(300)} == allowed


def test_a_high_temperature_is_bolder() -> None:
    def num_different(temperature: float) -> int:
        drawer = chooser(choice(temperature=temperature, seed=1))
        return len({drawer.choose(random_logits(3))[0][0] for _ in range(200)})

    assert num_different(0.01) == 1
    assert num_different(2.0) > num_different(0.5)


def test_the_logprob_is_that_before_temperature() -> None:
    logits = random_logits(9)
    expected = torch.log_softmax(logits, dim=-1)[0]
    (token,), (logprob,) = chooser(choice(temperature=0.3, seed=2)).choose(logits.clone())
    assert logprob == pytest.approx(float(expected[token]), abs=1e-5)


def test_what_is_forbidden_is_never_drawn() -> None:
    rows = [choice([BEGIN, 3, BEGIN + 9], TIMED, temperature=2.0, seed=number) for number in range(200)]
    drawn = set(chooser(*rows, suppressed=[END + 1, END + 2]).choose(random_logits(1, 200))[0])
    assert len(drawn) > 5
    assert all(token == END or token == END + 3 or token >= BEGIN + 9 for token in drawn)
