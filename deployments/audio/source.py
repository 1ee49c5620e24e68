"""What every reader of uploads gives, whichever library it stands on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pipelines.audio_types import DecodeLimits, Samples
from pipelines.errors import UndecodableAudio

MIN_SAMPLE_RATE_HZ = 1_000

MAX_PIECE_VALUES = 1 << 16
"""Small enough for a cache, whatever sample rate and number of channels a file has."""


@dataclass(frozen=True, slots=True)
class Piece:
    """
    samples: (length, channels), as the file has them: they may exceed 1 or be no numbers.
    channels: their names, as FFmpeg calls them, where they are known.
    """

    sample_rate_hz: int
    samples: Samples
    channels: tuple[str, ...] = ()


class Source(Protocol):
    """An open upload; it is read once, by `lengths_s` or by `pieces`."""

    container: str
    codec: str
    claimed_s: float
    """What the header says, 0.0 where it says nothing."""

    def lengths_s(self) -> Iterator[float]:
        """Decode all and keep nothing but how long it is, in parts."""
        ...

    def pieces(self) -> Iterator[Piece]: ...


def piece_length(sample_rate_hz: int, num_channels: int) -> int:
    """A second of samples, in which a call's own cost is lost; less of many channels."""
    return max(min(sample_rate_hz, MAX_PIECE_VALUES // num_channels), 1)


def check_format(sample_rate_hz: int, num_channels: int, limits: DecodeLimits) -> None:
    """
    Raises:
        UndecodableAudio: outside the limits.
    """
    # Some codecs tell neither before the first frame: 0 means not known yet.
    if sample_rate_hz and not MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= limits.max_sample_rate_hz:
        raise UndecodableAudio(
            f"The sample rate of {sample_rate_hz} Hz is not supported: it must lie between "
            f"{MIN_SAMPLE_RATE_HZ} and {limits.max_sample_rate_hz} Hz."
        )
    if num_channels > limits.max_channels:
        raise UndecodableAudio(f"{num_channels} channels are not supported: at most {limits.max_channels} are.")
