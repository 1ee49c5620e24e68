"""Packed attention over slots, against each row's own, plainly computed."""

from collections.abc import Sequence
from math import tanh

import pytest
import torch
from torch import Tensor

from deployments.chat.attention import Kind, Part, Step, attend
from deployments.chat.slots import Slots
from pipelines.errors import ConfigurationError

NUM_HEADS, NUM_KEY_HEADS, WIDTH, VALUE_WIDTH = 6, 2, 8, 4
LENGTHS = (200, 3, 70, 131)
KINDS = [
    Kind(WIDTH**-0.5, None, None, None),
    Kind(0.3, 5, None, None),
    Kind(0.3, 100, 2.0, None),
    Kind(1.0, 64, None, torch.linspace(-2, 2, NUM_HEADS)),
]


class Conversation:
    def __init__(self, length: int, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self.queries = torch.randn(1, NUM_HEADS, length, WIDTH, generator=random)
        self.keys = torch.randn(1, NUM_KEY_HEADS, length, WIDTH, generator=random)
        self.values = torch.randn(1, NUM_KEY_HEADS, length, VALUE_WIDTH, generator=random)

    def part(self, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(states[:, :, first:last] for states in (self.queries, self.keys, self.values))  # type: ignore[return-value]

    def expected(self, kind: Kind, place: int) -> Tensor:
        """(heads, width), a token at a time and a head at a time."""
        found = []
        for head in range(NUM_HEADS):
            its = head // (NUM_HEADS // NUM_KEY_HEADS)
            start = 0 if kind.window is None else max(place - kind.window + 1, 0)
            scores = [
                float(self.queries[0, head, place] @ self.keys[0, its, other]) * kind.scaling
                for other in range(start, place + 1)
            ]
            if kind.softcap is not None:
                scores = [tanh(score / kind.softcap) * kind.softcap for score in scores]
            extra = [] if kind.sinks is None else [float(kind.sinks[head])]
            weights = torch.softmax(torch.tensor(scores + extra), dim=0)[: len(scores)]
            found.append(weights @ self.values[0, its, start : place + 1])
        return torch.stack(found)


def attended(
    slots: Slots, conversations: Sequence[Conversation], parts: Sequence[Part], num_writing: int, kind: Kind
) -> Tensor:
    """(tokens, heads, width)"""
    step = Step(slots, parts, num_writing, torch.device("cpu"))
    states = [conversation.part(part.first, part.last) for conversation, part in zip(conversations, parts, strict=True)]
    packed = [torch.cat(some, dim=2) for some in zip(*states, strict=True)]
    found = [step.attend(number, *packed, kind) for number in (0, 1)]
    torch.testing.assert_close(*found, rtol=0, atol=0, equal_nan=True)
    return found[0][0]


@pytest.mark.parametrize("kind", KINDS, ids=["plain", "window", "softcap", "sinks"])
def test_what_is_not_kept_for_other_layers_is_found_again(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.chat.attention.MAX_HIDDEN", 0)
    test_rows_that_are_read_in_pieces_and_write_side_by_side(kind, 1_000)


@pytest.mark.parametrize("kind", KINDS, ids=["plain", "window", "softcap", "sinks"])
@pytest.mark.parametrize("size", [7, 64, 1_000])
def test_rows_that_are_read_in_pieces_and_write_side_by_side(kind: Kind, size: int) -> None:
    """Each is read in pieces of `size`, and when it is, writes its last 30 tokens one by one, if it has so many."""
    conversations = [Conversation(length, seed) for seed, length in enumerate(LENGTHS)]
    num_prompt = [max(length - 30, length // 2) for length in LENGTHS]
    found: list[list[Tensor]] = [[] for _ in LENGTHS]
    slots, num_written = Slots(), [0, 0, 0, 0]
    for slot, length in enumerate(num_prompt):
        for first in range(0, length, size):
            last = min(first + size, length)
            writing = [
                Part(other, num_prompt[other] + num_written[other], num_prompt[other] + num_written[other] + 1)
                for other in range(slot)
            ]
            if any(part.last > LENGTHS[part.slot] for part in writing):
                writing = []
            parts = [*writing, Part(slot, first, last)]
            states = attended(slots, [conversations[part.slot] for part in parts], parts, len(writing), kind)
            for part in parts:
                found[part.slot].append(states[: part.num_tokens])
                states = states[part.num_tokens :]
            for part in writing:
                num_written[part.slot] += 1
    for conversation, rows in zip(conversations, found, strict=True):
        together = torch.cat(rows)
        expected = torch.stack([conversation.expected(kind, place) for place in range(len(together))])
        torch.testing.assert_close(together, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS, ids=["plain", "window", "softcap", "sinks"])
def test_a_row_s_sums_are_the_same_to_the_last_bit_in_any_company(kind: Kind) -> None:
    first, *others = [Conversation(length, seed) for seed, length in enumerate((90, 400, 20))]
    alone = Slots()
    expected = attended(alone, [first], [Part(0, 0, 80)], 0, kind), attended(alone, [first], [Part(0, 80, 81)], 1, kind)
    slots = Slots()
    read = [attended(slots, [first], [Part(0, 0, 64)], 0, kind), attended(slots, [first], [Part(0, 64, 80)], 0, kind)]
    for slot, other in enumerate(others, 1):
        attended(slots, [other], [Part(slot, 0, other.keys.shape[2] - 1)], 0, kind)
    parts = [Part(0, 80, 81), Part(1, 399, 400), Part(2, 19, 20)]
    written = attended(slots, [first, *others], parts, 3, kind)[:1]
    assert torch.cat(read).equal(expected[0])
    assert written.equal(expected[1])


def test_what_is_no_number_in_one_slot_is_in_no_other() -> None:
    bad, good = Conversation(80, 0), Conversation(10, 1)
    bad.keys[:], bad.values[:] = torch.nan, torch.nan
    slots, kind = Slots(), KINDS[0]
    attended(slots, [good], [Part(0, 0, 9)], 0, kind)
    attended(slots, [bad], [Part(1, 0, 79)], 0, kind)
    written = attended(slots, [good, bad], [Part(0, 9, 10), Part(1, 79, 80)], 2, kind)
    torch.testing.assert_close(written[0], good.expected(kind, 9), atol=2e-5, rtol=1e-4)
    slots.copy(0, 1, 10)  # moves into the slot that is left
    again = attended(slots, [good, good], [Part(0, 9, 10), Part(1, 9, 10)], 2, kind)
    assert again[0].equal(again[1])
    slots.clean(1)
    late = attended(slots, [good], [Part(1, 0, 10)], 0, kind)
    torch.testing.assert_close(late[9], good.expected(kind, 9), atol=2e-5, rtol=1e-4)


# Memory


def test_memory_grows_as_it_is_needed_and_keeps_what_it_has() -> None:
    first, second = Conversation(300, 0), Conversation(5, 1)
    slots, kind = Slots(), KINDS[0]
    assert slots.num_bytes == 0
    attended(slots, [first], [Part(0, 0, 299)], 0, kind)
    assert slots.num_bytes == 2 * 512 * NUM_KEY_HEADS * (WIDTH + VALUE_WIDTH) * 4
    attended(slots, [second], [Part(4, 0, 5)], 0, kind)
    assert slots.num_bytes == 2 * 8 * 512 * NUM_KEY_HEADS * (WIDTH + VALUE_WIDTH) * 4
    written = attended(slots, [first], [Part(0, 299, 300)], 1, kind)
    torch.testing.assert_close(written[0], first.expected(kind, 299), atol=2e-5, rtol=1e-4)
    slots.clear()
    assert slots.num_bytes == 0


def test_what_is_not_done_is_refused() -> None:
    states = torch.zeros(1, 2, 1, 8)
    for wanted in ({"attention_mask": states}, {"attention_mask": None, "position_bias": states}):
        with pytest.raises(ConfigurationError, match=next(name for name in reversed(wanted))):
            attend(torch.nn.Identity(), states, states, states, **wanted)  # type: ignore[arg-type]
