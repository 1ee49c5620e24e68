"""What a diarizer must do to be served, and the table of those that can be."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pipelines.audio_types import AudioStretch, Waveform
from pipelines.speaker_types import Diarization, Embedding

ENGINES = {"pyannote": "deployments.diarization.pyannote:PyannoteDiarizer"}
"""Name in the configuration to import path; any other `module:Class` is taken as it is (`deployments.engines`)."""


@dataclass(frozen=True, slots=True)
class DiarizerArgs:
    """What a diarizer is built from.

    source: hub id or directory of the pipeline.
    device: torch's name of it.
    batch_size: stretches of audio that a network looks at together.
    num_threads: CPU threads that the replica was given.
    hop_s: of windows whose voices are compared; None leaves it to the pipeline.
    """

    source: str
    device: str = "cpu"
    batch_size: int = 16
    num_threads: int = 1
    hop_s: float | None = None


class Cancelled(Exception):
    """Nobody waits for the result any more."""


class DiarizationEngine(Protocol):
    """Synchronous and used by one thread only; constructed with `DiarizerArgs`. Keeps nothing between calls."""

    def __init__(self, args: DiarizerArgs) -> None:
        """
        Raises:
            ConfigurationError: one sentence about why it cannot be made of these.
        """
        ...

    def diarize(self, stretch: AudioStretch, is_cancelled: Callable[[], bool]) -> Diarization:
        """Tell who speaks when, in times on the upload's clock.

        Raises:
            Cancelled: `is_cancelled`, which is asked now and then, said so.
        """
        ...

    def embed(self, speech: Waveform) -> Embedding:
        """What the one speaker of `speech` sounds like; zeros when there is too little of it."""
        ...
