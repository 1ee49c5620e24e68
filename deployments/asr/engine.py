"""What a speech recogniser must do to be served, and the table of those that can be."""

from dataclasses import dataclass
from typing import Literal, Protocol

from deployments.engines import EngineArgs, StepOutput
from pipelines.audio_types import AudioChunk
from pipelines.errors import AudioServerError
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo

ENGINES = {"transformers": "deployments.asr.whisper:WhisperEngine"}
"""Name in the configuration to import path; any other `module:Class` is taken as it is (`deployments.engines`)."""


AsrOutput = StepOutput[ChunkTranscript | AudioServerError]
Timestamps = Literal["attention", "tokens"]
CudaGraphs = Literal["auto", "off"]


@dataclass(frozen=True, slots=True)
class AsrEngineArgs(EngineArgs):
    """timestamps: from what times are told, the decoder's attention or timestamp tokens that it writes.
    cache_mb: for what the encoder made of windows, should they come again; 0 keeps nothing.
    padding_s: of silence behind chunks whose options do not say; None is as much as the model was trained with.
    cuda_graphs: whether steps of the decoder are recorded on a GPU.
    """

    timestamps: Timestamps = "attention"
    cache_mb: int = 0
    padding_s: float | None = None
    cuda_graphs: CudaGraphs = "auto"


class AsrEngine(Protocol):
    """Synchronous and used by one thread only; constructed with `AsrEngineArgs`. Options travel per row."""

    info: RecognizerInfo

    def __init__(self, args: AsrEngineArgs) -> None: ...

    def add(self, request_id: str, chunk: AudioChunk, options: DecodingOptions) -> None:
        """Take a request aboard.

        Raises:
            InvalidRequest: when this model cannot do what `options` ask for; nothing is aboard then.
        """
        ...

    def step(self) -> list[AsrOutput]:
        """Run one decoding step for everybody aboard and return who has finished; an error concerns its request
        alone."""
        ...

    def abort(self, request_id: str) -> None:
        """Drop a request; unknown ids are ignored, for it may just have finished."""
        ...
