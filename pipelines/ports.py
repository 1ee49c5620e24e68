"""What the pipelines need from the outside, as protocols: handles over Ray fill them, tests hand in plain classes."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NewType, Protocol

from pipelines.audio_types import (
    AudioChunk,
    AudioClip,
    AudioInfo,
    AudioRecording,
    AudioStretch,
    LiveFormat,
    VadOptions,
    Waveform,
)
from pipelines.chat_types import ChatDelta, ChatModelInfo, Message, SamplingOptions
from pipelines.realtime_types import AudioAppended
from pipelines.speaker_types import Diarization, Embedding
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo

StoredUpload = NewType("StoredUpload", object)
"""An upload where `AudioReader.store` put it; nobody but the reader looks inside."""


@dataclass(slots=True)
class OpenUpload:
    """`chunks` that hold speech, in order; nothing is read before somebody asks for it. Behind the last one `info` is
    measured."""

    info: AudioInfo
    chunks: AsyncGenerator[AudioChunk, None]


class AudioReader(Protocol):
    async def store(self, upload: bytes) -> StoredUpload:
        """Put an upload where it is read from, once for all its readings; it stays as long as the answer is held."""
        ...

    def open(
        self, upload: StoredUpload, vad: VadOptions, audio_track: int | None = None
    ) -> AbstractAsyncContextManager[OpenUpload]:
        """Find out what an upload is, and read it as long as it is open. Of a long one that says how long it is no more
        than the beginning is looked at before; what is wrong behind that the chunks raise.

        Args:
            audio_track: which one of a file's is heard, counted from 0; None is the one that players would choose.

        Raises:
            UndecodableAudio, AudioTooShort, AudioTooLong
            InvalidRequest: there is no such track.
        """
        ...

    def read_stretches(
        self, upload: StoredUpload, stretch_s: float, audio_track: int | None = None
    ) -> AsyncGenerator[AudioStretch, None]:
        """Yield all of an upload that `open` has found good, `stretch_s` at a time; the last may be shorter."""
        ...

    async def read_clip(self, upload: bytes, max_duration_s: float) -> AudioClip:
        """Read a short upload at once.

        Raises:
            UndecodableAudio, AudioTooShort, AudioTooLong
        """
        ...

    async def read_recording(self, upload: bytes, max_duration_s: float) -> AudioRecording:
        """Read all of an upload at once, silences included.

        Raises:
            UndecodableAudio, AudioTooShort, AudioTooLong
        """
        ...


class Recognizer(Protocol):
    """As for the diarizer: a full queue refuses what is a request's first step. What comes later waits for its turn."""

    async def transcribe(
        self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
    ) -> ChunkTranscript:
        """Transcribe (or translate) one chunk.

        Raises:
            InvalidRequest: the model cannot do what is asked for.
            Overloaded: only at a request's first step.
            ModelUnavailable
        """
        ...

    async def info(self) -> RecognizerInfo: ...


class Diarizer(Protocol):
    async def diarize(self, stretch: AudioStretch, is_first_step: bool = True) -> Diarization:
        """Tell who speaks when; times on the upload's clock.

        Raises:
            Overloaded, ModelUnavailable
        """
        ...

    async def embed(self, speech: Waveform, is_first_step: bool = True) -> Embedding:
        """What the one speaker of `speech` sounds like.

        Raises:
            Overloaded, ModelUnavailable
        """
        ...


class Ear(Protocol):
    """Hears the bytes of one realtime session, in one format after the other; it waits for nobody."""

    def hear(self, data: bytes) -> AudioAppended:
        """What is complete now."""
        ...

    def finish(self) -> AudioAppended:
        """The rest, to the last sample; what comes behind it is heard as from the beginning."""
        ...

    def change(self, format: LiveFormat) -> AudioAppended:
        """The rest; another format is heard from now on."""
        ...


class ChatModel(Protocol):
    def generate(
        self, messages: Sequence[Message], options: SamplingOptions, in_pieces: bool, is_first_step: bool = True
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer as it is written, or, not `in_pieces`, all of it in one delta.

        Raises:
            InvalidRequest: the model cannot do what is asked for.
            Overloaded: before anything is yielded, and only at a request's first step.
            ModelUnavailable
        """
        ...

    async def info(self) -> ChatModelInfo: ...
