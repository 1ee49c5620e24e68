import torch
from torch import Tensor

from deployments.asr.cache import WhisperCache

NUM_LAYERS, NUM_HEADS, DIM, NUM_FRAMES = 2, 3, 4, 5


def states(num_rows: int, length: int, seed: int) -> Tensor:
    return torch.randn(num_rows, NUM_HEADS, length, DIM, generator=torch.Generator().manual_seed(seed))


def cache_of(num_rows: int, length: int, seed: int = 0) -> WhisperCache:
    """As reading a prefix of `length` tokens leaves it."""
    cache = WhisperCache()
    for layer in range(NUM_LAYERS):
        own, cross = states(num_rows, length, seed + layer), states(num_rows, NUM_FRAMES, seed + 100 + layer)
        cache.both.self_attention_cache.update(own, own + 1, layer)
        cache.both.cross_attention_cache.update(cross, cross + 1, layer)
    cache.num_tokens = [length] * num_rows
    return cache


def own_keys(cache: WhisperCache, layer: int = 0) -> Tensor:
    keys: Tensor = cache.both.self_attention_cache.layers[layer].keys
    return keys


def cross_keys(cache: WhisperCache, layer: int = 0) -> Tensor:
    keys: Tensor = cache.both.cross_attention_cache.layers[layer].keys
    return keys


def test_an_empty_cache() -> None:
    cache = WhisperCache()
    assert cache.length == 0
    assert cache.num_tokens == []


def test_the_first_to_join_is_taken_as_it_is() -> None:
    cache, other = WhisperCache(), cache_of(2, 4)
    expected = own_keys(other).clone()
    cache.join(other)
    assert cache.num_tokens == [4, 4]
    assert torch.equal(own_keys(cache), expected)


def test_a_shorter_row_is_padded_on_the_left() -> None:
    cache = cache_of(2, 6, seed=1)
    longer, shorter = own_keys(cache).clone(), own_keys(cache_of(1, 4, seed=9)).clone()
    cache.join(cache_of(1, 4, seed=9))
    assert cache.num_tokens == [6, 6, 4]
    assert cache.length == 6
    assert torch.equal(own_keys(cache)[:2], longer)
    assert torch.equal(own_keys(cache)[2:, :, 2:], shorter)
    assert cross_keys(cache).shape == (3, NUM_HEADS, NUM_FRAMES, DIM)


def test_a_longer_row_pads_those_aboard() -> None:
    cache = cache_of(2, 3, seed=1)
    shorter = own_keys(cache, 1).clone()
    cache.join(cache_of(1, 7, seed=9))
    assert cache.num_tokens == [3, 3, 7]
    assert cache.length == 7
    assert torch.equal(own_keys(cache, 1)[:2, :, 4:], shorter)


def test_the_mask_shows_tokens_and_hides_padding() -> None:
    cache = cache_of(1, 4)
    cache.join(cache_of(1, 2))
    mask = cache.attention_mask(1, torch.device("cpu"))
    assert mask.tolist() == [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]


def test_who_leaves_takes_the_row_and_the_padding_along() -> None:
    cache = cache_of(1, 6, seed=1)
    cache.join(cache_of(1, 3, seed=5))
    cache.join(cache_of(1, 4, seed=9))
    cache.keep([2, 1])
    assert cache.num_tokens == [4, 3]
    assert cache.length == 4
    assert torch.equal(own_keys(cache)[0], own_keys(cache_of(1, 4, seed=9))[0])
    assert torch.equal(own_keys(cache)[1, :, 1:], own_keys(cache_of(1, 3, seed=5))[0])
    assert torch.equal(cross_keys(cache)[1], cross_keys(cache_of(1, 3, seed=5))[0])
    assert cache.attention_mask(0, torch.device("cpu")).tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]


def test_values_follow_their_keys() -> None:
    cache = cache_of(2, 6, seed=1)
    cache.join(cache_of(2, 3, seed=5))
    cache.keep([0, 3])
    for layers in (cache.both.self_attention_cache.layers, cache.both.cross_attention_cache.layers):
        for layer in layers:
            is_token = layer.keys != 0
            assert torch.equal(layer.values[is_token], (layer.keys + 1)[is_token])
