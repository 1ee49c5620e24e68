"""What a speech recogniser must do to be served, and the table of those that can be."""

from dataclasses import dataclass
from typing import Protocol

from pipelines.types import AudioChunk, ChunkTranscript, DecodingOptions, RecognizerInfo

ENGINES = {"transformers": "deployments.asr.transformers_whisper:TransformersWhisper"}
"""Name in the configuration to import path; any other `module:Class` is taken as it is (`deployments.engines`)."""


@dataclass(frozen=True, slots=True)
class EngineArgs:
    """What an engine is built from.

    source: hub id or directory of the checkpoint.
    device: torch's name of it, "auto" for the first GPU that the replica was given, else the CPU.
    dtype: torch's name of it, "auto" for float16 on a GPU and float32 on a CPU.
    num_threads: CPU threads that the replica was given.
    """

    source: str
    device: str = "auto"
    dtype: str = "auto"
    num_threads: int = 1


@dataclass(frozen=True, slots=True)
class StepOutput:
    """A request that has finished: it is no longer aboard."""

    request_id: str
    result: ChunkTranscript


class AsrEngine(Protocol):
    """Synchronous and used by one thread only; constructed with `EngineArgs`. Options travel per row."""

    info: RecognizerInfo

    def __init__(self, args: EngineArgs) -> None: ...

    def add(self, request_id: str, chunk: AudioChunk, options: DecodingOptions) -> None:
        """Take a request aboard.

        Raises:
            InvalidRequest: when this model cannot do what `options` ask for; nothing is aboard then.
        """
        ...

    def step(self) -> list[StepOutput]:
        """Run one decoding step for everybody aboard and return who has finished."""
        ...

    def abort(self, request_id: str) -> None:
        """Drop a request; unknown ids are ignored, for it may just have finished."""
        ...
