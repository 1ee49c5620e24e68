"""The diarization deployment as the pipelines' port."""

from collections.abc import Callable
from typing import cast

from ray.serve.handle import DeploymentHandle

from deployments.remote.calls import call
from pipelines.audio_types import AudioStretch, Waveform
from pipelines.speaker_types import Diarization, Embedding
from pipelines.transcript_types import Work


class RemoteDiarizer:
    """`pipelines.ports.Diarizer` over the diarization deployment."""

    def __init__(self, handle: DeploymentHandle, observe: Callable[[Work], None]) -> None:
        self._handle = handle
        self._observe = observe

    async def diarize(self, stretch: AudioStretch, is_first_step: bool = True) -> Diarization:
        diarization, work = await call(self._handle.diarize, stretch, is_first_step=is_first_step)
        self._observe(work)
        assert isinstance(diarization, Diarization)
        return diarization

    async def embed(self, speech: Waveform, is_first_step: bool = True) -> Embedding:
        embedding, work = await call(self._handle.embed, speech, is_first_step=is_first_step)
        self._observe(work)
        return cast(Embedding, embedding)
