import torch
from torch import Tensor

from deployments.decoding.cache import BatchCache

NUM_LAYERS, NUM_HEADS, DIM = 3, 2, 4
CPU = torch.device("cpu")


def states(num_rows: int, length: int, seed: int) -> Tensor:
    return torch.randn(num_rows, NUM_HEADS, length, DIM, generator=torch.Generator().manual_seed(seed))


def cache_of(length: int, seed: int = 0, num_rows: int = 1) -> BatchCache:
    """As a model leaves it that has read `length` tokens."""
    cache = BatchCache()
    for layer in range(NUM_LAYERS):
        keys = states(num_rows, length, seed + 10 * layer)
        cache.layers.update(keys, keys + 1, layer)
    cache.num_tokens = [length] * num_rows
    return cache


def tokens(cache: BatchCache, row: int, layer: int) -> tuple[Tensor, Tensor]:
    """Keys and values of a row, without padding."""
    num, states_of = cache.num_tokens[row], cache.layers.layers[layer]
    return states_of.keys[row, :, cache.length - num :], states_of.values[row, :, cache.length - num :]


def holds(cache: BatchCache, row: int, length: int, seed: int) -> bool:
    """Whether a row is that of `cache_of(length, seed)`, in every layer."""
    expected = cache_of(length, seed)
    return cache.num_tokens[row] == length and all(
        torch.equal(found, wanted)
        for layer in range(NUM_LAYERS)
        for found, wanted in zip(tokens(cache, row, layer), tokens(expected, 0, layer), strict=True)
    )


def joined(*lengths: int) -> BatchCache:
    """Rows of these lengths, each with its place as its seed."""
    cache = BatchCache()
    for seed, length in enumerate(lengths):
        cache.join(cache_of(length, seed))
    return cache


def test_an_empty_cache_has_no_length() -> None:
    assert (BatchCache().length, BatchCache().num_tokens) == (0, [])


def test_the_first_to_join_is_taken_as_it_is() -> None:
    cache = joined(4)
    assert cache.length == 4
    assert holds(cache, 0, 4, seed=0)


def test_rows_of_any_length_join_and_keep_their_own() -> None:
    cache = joined(4, 6, 1, 6, 3)
    assert cache.length == 6
    assert cache.num_tokens == [4, 6, 1, 6, 3]
    assert all(holds(cache, row, length, seed=row) for row, length in enumerate([4, 6, 1, 6, 3]))


def test_who_joins_leaves_the_other_cache_alone() -> None:
    other = cache_of(2, seed=5)
    cache = joined(3)
    cache.join(other)
    cache.join(cache_of(1, seed=6))
    assert other.num_tokens == [2]
    assert holds(other, 0, 2, seed=5)


def test_several_join_at_once() -> None:
    cache = joined(2)
    cache.join(cache_of(5, seed=3, num_rows=2))
    assert cache.num_tokens == [2, 5, 5]
    assert holds(cache, 0, 2, seed=0)
    assert cache.layers.layers[0].keys.shape == (3, NUM_HEADS, 5, DIM)


def test_the_mask_shows_tokens_and_hides_padding() -> None:
    cache = joined(3, 1)
    assert cache.attention_mask(0, CPU).tolist() == [[1, 1, 1], [0, 0, 1]]
    assert cache.attention_mask(2, CPU).tolist() == [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]


def test_padding_is_nothing() -> None:
    cache = joined(3, 1)
    for layer in cache.layers.layers:
        assert not layer.keys[1, :, :2].any()
        assert not layer.values[1, :, :2].any()


def test_who_leaves_takes_the_row_along() -> None:
    cache = joined(4, 6, 1, 5)
    cache.keep([0, 2, 3])
    assert cache.num_tokens == [4, 1, 5]
    assert holds(cache, 0, 4, seed=0)
    assert holds(cache, 1, 1, seed=2)
    assert holds(cache, 2, 5, seed=3)


def test_padding_that_nobody_needs_goes_with_the_longest() -> None:
    cache = joined(4, 6, 1)
    cache.keep([0, 2])
    assert cache.length == 4
    cache.keep([1])
    assert cache.length == 1
    assert cache.attention_mask(1, CPU).tolist() == [[1, 1]]
    assert holds(cache, 0, 1, seed=2)


def test_rows_may_change_places() -> None:
    cache = joined(2, 3)
    cache.keep([1, 0])
    assert holds(cache, 0, 3, seed=1)
    assert holds(cache, 1, 2, seed=0)


def test_a_token_written_by_all_stands_at_the_end_of_each() -> None:
    cache = joined(3, 1)
    written = states(2, 1, seed=99)
    for layer in range(NUM_LAYERS):
        cache.layers.update(written, written + 1, layer)
    cache.num_tokens = [4, 2]
    cache.join(cache_of(7, seed=2))
    cache.keep([1, 2])
    keys, values = tokens(cache, 0, layer=1)
    assert torch.equal(keys[:, -1:], written[1])
    assert torch.equal(values[:, -1:], written[1] + 1)
    assert torch.equal(keys[:, :1], tokens(cache_of(1, seed=1), 0, layer=1)[0])
    assert holds(cache, 1, 7, seed=2)
