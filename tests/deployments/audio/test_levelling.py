import numpy as np
import pytest

from deployments.audio.levelling import MAX_GAIN_DB, gain_of, level_of, levelled
from pipelines.audio_types import SAMPLE_RATE_HZ, Samples

SECONDS = 10


def tone(dbfs: float, seconds: float = SECONDS) -> Samples:
    times = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return np.float32(10 ** (dbfs / 20)) * np.sin(2 * np.pi * 440 * times).astype(np.float32)


def gains_db(*blocks: Samples) -> list[float]:
    return [20 * float(np.log10(gain)) for _, gain in levelled(iter(blocks))]


def test_every_block_comes_as_it_was() -> None:
    blocks = [tone(dbfs, seconds) for dbfs, seconds in [(-50, 10), (-3, 10), (-40, 0.2)]]
    assert [block.tolist() for block, _ in levelled(iter(blocks))] == [block.tolist() for block in blocks]
    assert list(levelled(iter([]))) == []


@pytest.mark.parametrize(
    ("dbfs", "raised_db"), [(-3, 0), (-29, 0), (-31, 11), (-45, 25), (-60, 40), (-90, MAX_GAIN_DB)]
)
def test_only_what_is_quiet_is_raised(dbfs: float, raised_db: float) -> None:
    assert gains_db(tone(dbfs)) == pytest.approx([raised_db], abs=0.1)


def test_silence_is_raised_no_further() -> None:
    assert gain_of(0.0) == pytest.approx(10 ** (MAX_GAIN_DB / 20))


def test_what_comes_is_not_begun_too_loud() -> None:
    assert gains_db(tone(-50), tone(-50), tone(-10)) == pytest.approx([30, 0, 0], abs=0.1)


def test_the_level_falls_slowly() -> None:
    found = gains_db(tone(-28), *[tone(-60)] * 10)
    assert found[:3] == pytest.approx([0, 11, 14], abs=0.1)  # 6 dB in 20 s
    assert found == sorted(found)
    assert found[-1] > 35


def test_a_bump_is_no_speech() -> None:
    bumped = tone(-50)
    bumped[8_000:8_600] = 0.9  # of 512 samples each, three frames at most
    assert gains_db(bumped) == pytest.approx([30], abs=0.1)
    bumped[8_000:12_000] = 0.9
    assert gains_db(bumped) == [0]


def test_short_blocks_have_a_level() -> None:
    assert level_of(tone(-6, 0.05)) == pytest.approx(0.5, rel=0.01)
    assert level_of(np.zeros(0, np.float32)) == 0
