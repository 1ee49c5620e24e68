import numpy as np
import pytest

from deployments.audio.mixing import LEVELS, levels_of, mono
from pipelines.audio_types import Samples

RANDOM = np.random.default_rng(0)


def noise(num_channels: int = 1) -> Samples:
    return RANDOM.uniform(-0.5, 0.5, (16_000, num_channels)).astype(np.float32)


def test_channels_that_are_nothing_alike_are_all_heard() -> None:
    """However many: none is dropped for its loudness."""
    for num_channels in (2, 4, 20):
        samples = noise(num_channels)
        assert mono(samples) == pytest.approx(samples.mean(axis=1), abs=1e-6)


def test_one_channel_that_speaks_is_not_taken_for_cancelled() -> None:
    samples = noise(2) * [1.0, 0.0]
    assert mono(samples.astype(np.float32)) == pytest.approx(samples[:, 0] / 2, abs=1e-6)


@pytest.mark.parametrize(("inverted", "is_loudest"), [(-1.0, True), (-0.8, True), (-0.3, False), (0.5, False)])
def test_only_what_cancels_gives_way_to_the_loudest(inverted: float, is_loudest: bool) -> None:
    side = noise()
    samples = np.concatenate([inverted * side, side], axis=1)
    expected = samples[:, 0] if is_loudest else samples.mean(axis=1)
    assert mono(samples) == pytest.approx(expected, abs=1e-6)


def test_four_channels_that_cancel_in_pairs() -> None:
    first, second = noise(), noise() * 0.5
    samples = np.concatenate([second, -second, first, -first], axis=1)
    assert mono(samples) == pytest.approx(first[:, 0], abs=1e-6)


def test_silence_is_silence() -> None:
    assert not mono(np.zeros((0, 2), np.float32)).size
    assert not mono(np.zeros((100, 2), np.float32)).any()
    assert not mono(np.full((100, 6), np.nan, np.float32), levels_of(tuple(LEVELS)[:6])).any()


def test_loud_channels_with_levels_do_not_clip() -> None:
    levels = levels_of(("FL", "FR", "FC", "LFE", "BL", "BR"))
    side = noise()
    mixed = mono(np.repeat(2 * side, 6, axis=1), levels)
    assert np.abs(mixed).max() == pytest.approx(1.0)
    assert np.corrcoef(mixed, side[:, 0])[0, 1] > 0.9999


def test_places_that_are_unknown_have_no_levels() -> None:
    assert levels_of(("FL", "FR")) is None
    assert levels_of(("NONE",) * 6) is None
    assert levels_of(()) is None


def test_rumble_is_not_heard_unless_it_is_the_only_channel() -> None:
    samples = np.zeros((16_000, 3), np.float32)
    samples[:, 2] = noise()[:, 0]
    assert not mono(samples, levels_of(("FL", "FR", "LFE"))).any()
    assert mono(samples[:, 2:], levels_of(("LFE",))).any()
