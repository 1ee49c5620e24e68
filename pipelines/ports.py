"""What the pipelines need from the outside, as protocols: handles over Ray fill them, tests hand in plain classes."""

from collections.abc import AsyncGenerator
from typing import Protocol

from pipelines.types import AudioChunk, AudioInfo, ChunkTranscript, DecodingOptions, RecognizerInfo, VadOptions


class AudioReader(Protocol):
    def read(self, upload: bytes, vad: VadOptions) -> AsyncGenerator[AudioInfo | AudioChunk, None]:
        """Yield one `AudioInfo`, then the chunks that hold speech, in order.

        Raises:
            UndecodableAudio, AudioTooShort, AudioTooLong: before anything is yielded.
        """
        ...


class Recognizer(Protocol):
    async def transcribe(self, chunk: AudioChunk, options: DecodingOptions) -> ChunkTranscript:
        """Transcribe (or translate) one chunk."""
        ...

    async def info(self) -> RecognizerInfo: ...
