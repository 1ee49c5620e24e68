"""What the pipelines need from the outside, as protocols: handles over Ray fill them, tests hand in plain classes."""

from collections.abc import AsyncGenerator
from typing import Protocol

from pipelines.speaker_types import Diarization, Embedding
from pipelines.types import (
    AudioChunk,
    AudioClip,
    AudioInfo,
    AudioWindow,
    ChunkTranscript,
    DecodingOptions,
    RecognizerInfo,
    VadOptions,
    Waveform,
)


class AudioReader(Protocol):
    def read(self, upload: bytes, vad: VadOptions) -> AsyncGenerator[AudioInfo | AudioChunk, None]:
        """Yield one `AudioInfo`, then the chunks that hold speech, in order.

        Raises:
            UndecodableAudio, AudioTooShort, AudioTooLong: before anything is yielded.
        """
        ...

    def read_windows(self, upload: bytes, window_s: float) -> AsyncGenerator[AudioWindow, None]:
        """Yield all of an upload that `read` has found good, `window_s` at a time; the last window may be shorter."""
        ...

    async def read_clip(self, upload: bytes, max_duration_s: float) -> AudioClip:
        """Read a short upload at once.

        Raises:
            UndecodableAudio, AudioTooShort, AudioTooLong
        """
        ...


class Recognizer(Protocol):
    async def transcribe(self, chunk: AudioChunk, options: DecodingOptions) -> ChunkTranscript:
        """Transcribe (or translate) one chunk."""
        ...

    async def info(self) -> RecognizerInfo: ...


class Diarizer(Protocol):
    async def diarize(self, window: AudioWindow) -> Diarization:
        """Tell who speaks when; times on the upload's clock."""
        ...

    async def embed(self, speech: Waveform) -> Embedding:
        """What the one speaker of `speech` sounds like."""
        ...
