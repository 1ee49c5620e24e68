"""The words of those rooms that tell speakers apart: frozen values, as in `pipelines.audio_types`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.audio_types import Waveform

Embedding = NDArray[np.float32]
"""What a voice sounds like, shape (dimension,): the cosine of two of them tells whether they are one speaker's."""

Speaker = str | int
"""A known speaker's name, or a number for one without."""


@dataclass(frozen=True, slots=True)
class SpeakerTurn:
    """One speaker's stretch of speech on the upload's clock; `speaker` is only a number within its stretch."""

    start_s: float
    end_s: float
    speaker: int


@dataclass(frozen=True, slots=True)
class Diarization:
    """Who spoke when in one stretch.

    turns: may overlap. exclusive_turns: never do; where several speak at once, the most active one counts.
    voices: embeddings by speaker; somebody who was hardly heard alone may have none.
    """

    turns: tuple[SpeakerTurn, ...] = ()
    exclusive_turns: tuple[SpeakerTurn, ...] = ()
    voices: Mapping[int, Embedding] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnownSpeaker:
    """A name and what its bearer sounds like; `speech` may be empty, and then nobody is recognised by it."""

    name: str
    speech: Waveform
