"""What a speech recogniser must do to be served, and the table of those that can be."""

from typing import Protocol

from deployments.engines import EngineArgs, StepOutput
from pipelines.audio_types import AudioChunk
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo

ENGINES = {"transformers": "deployments.asr.transformers_whisper:TransformersWhisper"}
"""Name in the configuration to import path; any other `module:Class` is taken as it is (`deployments.engines`)."""


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

    def step(self) -> list[StepOutput[ChunkTranscript]]:
        """Run one decoding step for everybody aboard and return who has finished."""
        ...

    def abort(self, request_id: str) -> None:
        """Drop a request; unknown ids are ignored, for it may just have finished."""
        ...
