from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from deployments.asr.encoder_cache import EncoderCache
from deployments.asr.engine import AsrEngineArgs
from deployments.asr.whisper import WhisperEngine
from models.sources import resolve
from pipelines.audio_types import Samples
from pipelines.transcript_types import DecodingOptions
from tests.support.whisper_driving import Speech, chunk_of, together

BYTES_EACH = 400


class Encoder:
    def __init__(self) -> None:
        self.heard: list[float] = []

    def __call__(self, windows: Sequence[Samples], num_samples: int | None) -> list[Tensor]:
        self.heard += [float(samples[0]) for samples in windows]
        return [torch.full((100,), float(samples[0])) for samples in windows]


def window(value: float) -> Samples:
    return np.full(50, value, np.float32)


def test_equal_windows_are_encoded_once() -> None:
    encoder, cache = Encoder(), EncoderCache(10 * BYTES_EACH)
    values = [1, 2, 1, 1, 2]
    found = [cache.encoded([window(value)], None, encoder)[0] for value in values]
    assert [float(encoded[0]) for encoded, _ in found] == values
    assert [lookup.is_hit for _, (lookup,) in found] == [False, False, True, True, True]
    assert encoder.heard == [1, 2]


def test_those_among_several_that_are_equal_or_known_are_not_encoded_again() -> None:
    encoder, cache = Encoder(), EncoderCache(2 * BYTES_EACH)
    cache.encoded([window(1)], None, encoder)
    found = cache.encoded([window(value) for value in (3, 1, 2, 3)], None, encoder)
    assert [float(one[0]) for one, _ in found] == [3, 1, 2, 3]
    assert [lookup.is_hit for _, (lookup,) in found] == [False, True, False, False]
    assert encoder.heard == [1, 3, 2]
    cache.encoded([window(2), window(3)], None, encoder)
    assert encoder.heard == [1, 3, 2]


def test_what_is_encoded_shorter_is_something_else() -> None:
    encoder, cache = Encoder(), EncoderCache(10 * BYTES_EACH)
    lookups = [cache.encoded([window(1)], length, encoder)[0][1][0] for length in (None, 320, 640, 320, None)]
    assert [lookup.is_hit for lookup in lookups] == [False, False, False, True, True]


def test_the_longest_unused_leave_first() -> None:
    encoder, cache = Encoder(), EncoderCache(2 * BYTES_EACH)
    for value in (1, 2, 1, 3, 1, 2):
        cache.encoded([window(value)], None, encoder)
    assert encoder.heard == [1, 2, 3, 2]


def test_what_is_larger_than_all_of_it_is_given_and_not_kept() -> None:
    encoder, cache = Encoder(), EncoderCache(BYTES_EACH - 1)
    for _ in range(2):
        assert float(cache.encoded([window(1)], None, encoder)[0][0][0]) == 1
    assert encoder.heard == [1, 1]


def test_it_can_be_switched_off() -> None:
    encoder, cache = Encoder(), EncoderCache(0)
    for _ in range(2):
        assert cache.encoded([window(1)], None, encoder)[0][1] == ()
    assert encoder.heard == [1, 1]


def test_a_hit_answers_exactly_as_a_miss(speech: Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    args = AsrEngineArgs(resolve("embedded:whisper-tiny.en"), "cpu", cache_mb=32)
    engine = WhisperEngine(args)
    requests = [
        (chunk_of(speech["en-00"]), DecodingOptions(word_timestamps=True)),
        (chunk_of(speech["en-00"], 3, 60.0), DecodingOptions(temperature=1.0, seed=3)),
        (chunk_of(speech["en-01"]), DecodingOptions()),
    ]
    first = together(engine, requests)

    def never(features: Tensor) -> Tensor:
        raise AssertionError("it was heard before")

    monkeypatch.setattr(engine._network, "encode", never)
    assert together(engine, requests) == first
