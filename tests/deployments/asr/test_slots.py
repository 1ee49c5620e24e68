import pytest
import torch

from deployments.asr.slots import Slots, SlotShape

SHAPE = SlotShape(
    num_layers=2,
    num_heads=3,
    head_width=4,
    num_positions=6,
    num_frames=5,
    dtype=torch.float32,
    audio_dtype=torch.bfloat16,
    device=torch.device("cpu"),
    alignment_heads=((1, 2), (1, 0)),
)


def filled(num_rows: int, num_slots: int = 4) -> Slots:
    """Whatever belongs to row r is r."""
    slots = Slots(SHAPE, num_slots)
    rows = slots.take(num_rows)
    for slot in range(rows.start, rows.stop):
        for layer in slots.layers:
            for tensor in layer.tensors():
                tensor[slot] = float(slot)
        slots.lengths[slot] = slot + 1
    return slots


def owner(slots: Slots, slot: int) -> set[float]:
    """Whose everything is that the row in `slot` may read."""
    length = slots.lengths[slot]
    read = [tensor for layer in slots.layers for tensor in (layer.audio_keys[slot], layer.audio_values[slot])]
    for layer in slots.layers:
        read += [cache[slot, :, :length] for cache in (layer.keys, layer.values, layer.queries)]
    return {value for tensor in read for value in tensor.unique().tolist()}


def test_rows_come_one_behind_the_other() -> None:
    slots = Slots(SHAPE, 4)
    assert (slots.take(1), slots.take(2)) == (slice(0, 1), slice(1, 3))
    assert slots.lengths == [0, 0, 0]
    assert slots.num_slots == 4


def test_more_rows_than_slots_make_more_slots_and_keep_what_is_there() -> None:
    slots = filled(3)
    assert slots.take(4) == slice(3, 7)
    assert slots.num_slots == 8
    assert [owner(slots, slot) for slot in range(3)] == [{0.0}, {1.0}, {2.0}]


@pytest.mark.parametrize("leaving", [0, 1, 2])
def test_the_last_row_moves_into_the_slot_that_is_left(leaving: int) -> None:
    slots = filled(3)
    assert slots.give_back(leaving) == 2
    owners = [0, 1, 2]
    owners[leaving] = 2
    assert slots.lengths == [row + 1 for row in owners[:2]]
    assert [owner(slots, slot) for slot in range(2)] == [{float(row)} for row in owners[:2]]


def test_who_comes_finds_numbers_whatever_was_left() -> None:
    slots = filled(2)
    for layer in slots.layers:
        layer.keys[1] = layer.values[1] = torch.nan
    slots.give_back(1)
    assert slots.take(1) == slice(1, 2)
    assert all(layer.keys[1].isfinite().all() and layer.values[1].isfinite().all() for layer in slots.layers)


def test_a_row_that_begins_anew_keeps_what_it_looks_at() -> None:
    slots = filled(3)
    slots.rewind(slice(1, 2))
    assert slots.lengths == [1, 0, 3]
    assert owner(slots, 1) == {1.0}


def test_scores_are_those_of_the_alignment_heads() -> None:
    slots = filled(2)
    layer = slots.layers[1]
    layer.queries[1] = torch.randn(2, 6, 4)
    layer.audio_keys[1] = torch.randn(3, 5, 4)
    scores = slots.scores(1, 1, 4)
    assert scores.shape == (2, 3, 5)
    for place, head in enumerate((0, 2)):
        expected = layer.queries[1, place, 1:4] @ layer.audio_keys[1, head].float().T
        assert torch.allclose(scores[place], expected)


def test_the_size_told_is_the_size_taken() -> None:
    slots = Slots(SHAPE, 3)
    assert 3 * SHAPE.num_bytes == sum(tensor.nbytes for layer in slots.layers for tensor in layer.tensors())


def test_nothing_is_left_of_a_longer_row_that_is_no_number() -> None:
    """The row that moves in is read beside longer ones."""
    slots = filled(3)
    slots.lengths[0] = 5
    caches = [cache for layer in slots.layers for cache in (layer.keys, layer.values)]
    for cache in caches:
        cache[0, :, :5] = torch.nan
    slots.give_back(0)
    assert owner(slots, 0) == {2.0}
    assert all(cache[0].isfinite().all() for cache in caches)
