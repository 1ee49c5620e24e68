"""Messages as they are on the wire to messages as a model takes them: their audio fetched and heard."""

import asyncio
from collections.abc import Callable, Iterator

from deployments.ingress.chat.ears import Ears
from deployments.ingress.chat.schema import (
    AudioUrlContent,
    ChatMessage,
    ChatRequest,
    InputAudioContent,
    TextContent,
)
from deployments.ingress.http.errors import RequestTooLarge
from deployments.ingress.http.together import together
from deployments.ingress.media.addresses import parse_target
from deployments.ingress.media.data_url import decode_base64_or_url, parse_data_url
from deployments.ingress.media.fetch import MediaFetcher
from deployments.model_configs import ChatModelConfig
from pipelines.chat_types import AudioPart, Message, TextPart
from pipelines.errors import InvalidRequest

AudioContent = InputAudioContent | AudioUrlContent


def check_audio(request: ChatRequest, model: ChatModelConfig) -> int:
    """How many audios there are, and what can be told of them without the model.

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
    return num_audios


def audio_parts(request: ChatRequest) -> Iterator[tuple[str, ChatMessage, AudioContent]]:
    """Where each is (`messages[0].content[1]`), whose it is, and itself."""
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.content if isinstance(message.content, list) else []):
            if not isinstance(part, TextContent):
                yield f"messages[{i}].content[{j}]", message, part


class ConversationReader:
    """Reads the messages of one request; all of their audio together has so many bytes."""

    def __init__(
        self,
        ears: Ears | None,
        fetcher: MediaFetcher,
        model: ChatModelConfig,
        max_bytes: int,
        count: Callable[[float], None],
    ) -> None:
        """
        Args:
            count: is told of each audio how many seconds it has, as soon as it was heard: whoever leaves then, or has
                sent another one that is wrong, has had so much.
        """
        self._count = count
        self._ears = ears
        self._fetcher = fetcher
        self._model = model
        self._num_bytes_left = max_bytes
        self._fetching = asyncio.Lock()  # one by one, so that each knows how many bytes are left
        self._hearing = asyncio.Semaphore(ears.num_at_once if ears else 1)
        self.num_audio_tokens = 0
        """What they count as beside what the model counts itself."""

    async def read(self, request: ChatRequest) -> list[Message]:
        """
        Raises:
            InvalidRequest: naming the part that is wrong.
        """
        heard = await together(*[self._hear(param, part) for param, _, part in audio_parts(request)])
        audios = iter(heard)
        return [_to_message(message, audios) for message in request.messages]

    async def _hear(self, param: str, part: AudioContent) -> TextPart | AudioPart:
        if self._ears is None:
            raise InvalidRequest(
                f"The model '{self._model.id}' does not hear audio.", f"{param}.type", "unsupported_content_type"
            )
        async with self._fetching:
            data, where, source = await self._bytes(param, part)
        try:
            async with self._hearing:
                heard = await self._ears.hear(data)
        except InvalidRequest as error:
            raise type(error)(f"{source}: {error.message}", where, error.code) from None
        self._count(heard.duration_s)
        self.num_audio_tokens += heard.num_tokens
        return heard.part

    async def _bytes(self, param: str, part: AudioContent) -> tuple[bytes, str, str]:
        """A part's file, the field that it came in, and what to call it."""
        if isinstance(part, InputAudioContent):
            where, source = f"{param}.input_audio.data", "The audio"
            data = decode_base64_or_url(part.input_audio.data, where)
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


def _to_message(message: ChatMessage, audios: Iterator[TextPart | AudioPart]) -> Message:
    """`audios`: of this message and those behind it."""
    role = "system" if message.role == "developer" else message.role
    if isinstance(message.content, str):
        return Message(role, (TextPart(message.content),))
    parts = [TextPart(part.text) if isinstance(part, TextContent) else next(audios) for part in message.content]
    return Message(role, tuple(parts))
