"""Many channels to one."""

from collections.abc import Sequence

import numpy as np

from pipelines.audio_types import Samples

LEVELS = {
    "FL": 0.5,
    "FR": 0.5,
    "FC": 0.5**0.5,
    "FLC": 0.5,
    "FRC": 0.5,
    "BL": 0.125**0.5,
    "BR": 0.125**0.5,
    "SL": 0.125**0.5,
    "SR": 0.125**0.5,
    "BC": 0.25,
    "LFE": 0.0,
}
"""By FFmpeg's names: ITU-R BS.775-4, table 2, and the mean of the two sides that it gives."""

CANCELLED = 0.125
"""Of the power that channels have which are nothing alike: less than this (-9 dB) is left by those that cancel."""


def levels_of(channels: Sequence[str]) -> Samples | None:
    """None for one channel, or for such as have no place before a listener; all of those count the same."""
    if len(channels) < 3 or any(name not in LEVELS for name in channels):
        return None
    return np.array([LEVELS[name] for name in channels], np.float32)


def mono(samples: Samples, levels: Samples | None = None) -> Samples:
    """One channel of (length, channels), each within [-1, 1] first; what is no number is silence.

    Channels may cancel each other, as on a call recorder one of whose sides is inverted. Then the loudest one is taken,
    for as long as `samples` are. It is decided by their differences, for a hum that is common to all says nothing.

    Args:
        levels: (channels,), by default those of the mean.
    """
    channels = _in_range(np.ascontiguousarray(samples.T))  # few adjacent values are slow
    if len(channels) == 1:
        return np.asarray(channels[0], np.float32)
    if levels is None:
        levels = np.full(len(channels), 1 / len(channels), np.float32)
    mixed: Samples = levels @ channels
    mixed /= max(float(np.abs(mixed).max(initial=0.0)), 1.0)  # levels add up to more than 1
    powers = _power(channels) * levels**2
    if _power(mixed) < CANCELLED * powers.sum():
        loud = powers >= powers.max() / 2  # the first of them, so that it stays the same one
        return np.asarray(channels[int(loud.argmax())], np.float32)
    return mixed


def _in_range(samples: Samples) -> Samples:
    """The same array, if there is nothing to do: asking costs a fraction of doing it."""
    if samples.min(initial=0.0) >= -1.0 and samples.max(initial=0.0) <= 1.0:  # false if one is no number
        return samples
    clipped: Samples = np.clip(np.nan_to_num(samples), -1.0, 1.0)
    return clipped


def _power(samples: Samples) -> Samples:
    """(…, length) to (…): of differences from one sample to the next."""
    steps = np.diff(samples)
    power: Samples = np.einsum("...i,...i->...", steps, steps)
    return power
