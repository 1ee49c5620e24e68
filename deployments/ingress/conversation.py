"""Messages as they are on the wire to messages as a model takes them: their audio fetched and decoded."""

from collections.abc import Iterator

from deployments.ingress.addresses import parse_target
from deployments.ingress.data_url import decode_base64, parse_data_url
from deployments.ingress.errors import RequestTooLarge
from deployments.ingress.fetch import MediaFetcher
from deployments.ingress.schema.chat import (
    AudioUrlContent,
    ChatMessage,
    ChatRequest,
    Content,
    InputAudioContent,
    TextContent,
)
from deployments.settings import ChatModel
from pipelines.chat_types import AudioPart, ChatModelInfo, Message, TextPart
from pipelines.errors import AudioTooLong, InvalidRequest
from pipelines.ports import AudioReader
from pipelines.types import SAMPLE_RATE_HZ

AudioContent = InputAudioContent | AudioUrlContent


def check_audio(request: ChatRequest, model: ChatModel) -> None:
    """What can be told without the model.

    Raises:
        InvalidRequest: audio where none may be (CHT-08), or too many.
    """
    num_audios = 0
    for param, message, _ in audio_parts(request):
        num_audios += 1
        if message.role != "user":
            raise InvalidRequest(
                f"A message of the role '{message.role}' cannot hold audio: only users' messages can.", f"{param}.type"
            )
    if num_audios > model.max_audios:
        raise InvalidRequest(f"At most {model.max_audios} audios are supported; there are {num_audios}.", "messages")


def audio_parts(request: ChatRequest) -> Iterator[tuple[str, ChatMessage, AudioContent]]:
    """Where each is (`messages[0].content[1]`), whose it is, and itself."""
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.content if isinstance(message.content, list) else []):
            if not isinstance(part, TextContent):
                yield f"messages[{i}].content[{j}]", message, part


class ConversationReader:
    """Reads the messages of one request; all of their audio together has so many bytes and seconds."""

    def __init__(
        self,
        reader: AudioReader,
        fetcher: MediaFetcher,
        model: ChatModel,
        info: ChatModelInfo,
        max_bytes: int,
    ) -> None:
        self._reader = reader
        self._fetcher = fetcher
        self._model = model
        self._info = info
        self._num_bytes_left = max_bytes
        self.audio_s = 0.0
        """Seconds of audio that were read."""

    async def read(self, request: ChatRequest) -> list[Message]:
        """
        Raises:
            InvalidRequest: naming the part that is wrong.
        """
        return [await self._read_message(f"messages[{i}]", message) for i, message in enumerate(request.messages)]

    async def _read_message(self, param: str, message: ChatMessage) -> Message:
        role = "system" if message.role == "developer" else message.role
        if isinstance(message.content, str):
            return Message(role, (TextPart(message.content),))
        parts = [await self._read_part(f"{param}.content[{j}]", part) for j, part in enumerate(message.content)]
        return Message(role, tuple(parts))

    async def _read_part(self, param: str, part: Content) -> TextPart | AudioPart:
        if isinstance(part, TextContent):
            return TextPart(part.text)
        if not self._info.hears_audio:
            raise InvalidRequest(
                f"The model '{self._model.id}' does not hear audio.", f"{param}.type", "unsupported_content_type"
            )
        data, where, source = await self._bytes(param, part)
        try:
            return await self._decode(data)
        except InvalidRequest as error:
            raise type(error)(f"{source}: {error.message}", where, error.code) from None

    async def _bytes(self, param: str, part: AudioContent) -> tuple[bytes, str, str]:
        """A part's file, the field that it came in, and what to call it."""
        if isinstance(part, InputAudioContent):
            where, source = f"{param}.input_audio.data", "The audio"
            data = decode_base64(part.input_audio.data, where)
        else:
            where, url = f"{param}.audio_url.url", part.audio_url.url
            source = "The audio"
            if url.lstrip()[:5].lower() == "data:":
                data = parse_data_url(url, where)
            else:
                data = await self._fetcher.fetch(url, where, self._num_bytes_left)
                source = f"The audio from '{parse_target(url).host}'"
        self._num_bytes_left -= len(data)
        if self._num_bytes_left < 0:
            raise RequestTooLarge("The audio of this request is larger than this server accepts.")
        return data, where, source

    async def _decode(self, data: bytes) -> AudioPart:
        assert self._info is not None
        left_s = self._model.max_audio_s - self.audio_s
        own_limit_s = self._info.max_audio_s
        if left_s <= 0:
            raise AudioTooLong(f"a request may hold {self._model.max_audio_s:.0f} s of audio in all.")
        recording = await self._reader.read_recording(data, left_s)
        if own_limit_s is not None and recording.info.duration_s > own_limit_s:
            raise AudioTooLong(
                f"it is {recording.info.duration_s:.1f} s long, but the model '{self._model.id}' hears no more than "
                f"{own_limit_s:.0f} s of one audio. Cut it, or transcribe it first."
            )
        self.audio_s += len(recording.pcm) / SAMPLE_RATE_HZ
        return AudioPart(recording.pcm)
