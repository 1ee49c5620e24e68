"""What the pipelines need from the outside, as protocols: handles over Ray fill them, tests hand in plain classes."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from pipelines.audio_types import AudioChunk, AudioClip, AudioInfo, AudioRecording, AudioWindow, VadOptions, Waveform
from pipelines.chat_types import ChatDelta, ChatModelInfo, Message, SamplingOptions
from pipelines.speaker_types import Diarization, Embedding
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo


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

    async def read_recording(self, upload: bytes, max_duration_s: float) -> AudioRecording:
        """Read all of an upload at once, silences included.

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


class ChatModel(Protocol):
    def generate(
        self, messages: Sequence[Message], options: SamplingOptions, in_pieces: bool
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer as it is written, or, not `in_pieces`, all of it in one delta.

        Raises:
            InvalidRequest: the model cannot do what is asked for.
            Overloaded: before anything is yielded.
            ModelUnavailable
        """
        ...

    async def info(self) -> ChatModelInfo: ...
