"""An ASR deployment as the pipelines' port."""

from collections.abc import Callable

from ray.serve.handle import DeploymentHandle

from deployments.remote.calls import call
from pipelines.audio_types import AudioChunk
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo, Work


class RemoteRecognizer:
    """`pipelines.ports.Recognizer` over one ASR deployment."""

    def __init__(self, handle: DeploymentHandle, observe: Callable[[Work], None]) -> None:
        self._handle = handle
        self._observe = observe
        self._info: RecognizerInfo | None = None

    async def transcribe(
        self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
    ) -> ChunkTranscript:
        transcript, work = await call(self._handle.transcribe, chunk, options, is_first_step=is_first_step)
        self._observe(work)
        assert isinstance(transcript, ChunkTranscript)
        return transcript

    async def info(self) -> RecognizerInfo:
        if self._info is None:
            self._info = await call(self._handle.info)
        return self._info
