"""Chats as plain clients ask for them, and their answers."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import httpx

from tests.conformance.wire import Api, Stream
from tests.conftest import CHAT_MODEL

PATH = "/v1/chat/completions"
MODEL = CHAT_MODEL

TRANSCRIBE = "Transcribe this."
ABOUT_ITSELF = "What can you do?"  # has the longest answer without audio, some forty tokens

Json = dict[str, Any]


def message(role: str, *parts: str | Json) -> Json:
    """One text alone stands there as a string, everything else as parts in their order."""
    if len(parts) == 1 and isinstance(parts[0], str):
        return {"role": role, "content": parts[0]}
    return {"role": role, "content": [text_part(part) if isinstance(part, str) else part for part in parts]}


def user(*parts: str | Json) -> Json:
    return message("user", *parts)


def text_part(text: str) -> Json:
    return {"type": "text", "text": text}


def input_audio(data: bytes, audio_format: str = "wav") -> Json:
    return {"type": "input_audio", "input_audio": {"data": b64encode(data).decode(), "format": audio_format}}


def audio_url(url: str) -> Json:
    return {"type": "audio_url", "audio_url": {"url": url}}


def data_url(data: bytes, media_type: str = "audio/ogg") -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def body(*messages: Json, **parameters: Any) -> Json:
    """Greedy unless told otherwise. A parameter of None is sent as null."""
    return {"model": MODEL, "temperature": 0, "messages": list(messages) or [user("Hello")], **parameters}


def chat(api: Api, *messages: Json, **parameters: Any) -> httpx.Response:
    return api.client.post(PATH, json=body(*messages, **parameters))


def completion(api: Api, *messages: Json, **parameters: Any) -> Json:
    """An answer that is not streamed."""
    response = chat(api, *messages, **parameters)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


def texts(answer: Json) -> list[str]:
    return [choice["message"]["content"] for choice in answer["choices"]]


def reply(api: Api, *messages: Json, **parameters: Any) -> str:
    """The text of the only answer."""
    (text,) = texts(completion(api, *messages, **parameters))
    return text


def chunks(api: Api, *messages: Json, **parameters: Any) -> "ChunkStream":
    response = chat(api, *messages, stream=True, **parameters)
    assert response.status_code == 200, response.text
    return ChunkStream(response.content)


class ChunkStream(Stream):
    """A whole streamed answer; `index` tells which choice."""

    def choices(self, index: int = 0) -> list[Json]:
        return [choice for event in self.events for choice in event["choices"] if choice["index"] == index]

    def contents(self, index: int = 0) -> list[str]:
        return [choice["delta"]["content"] for choice in self.choices(index) if "content" in choice["delta"]]

    def text(self, index: int = 0) -> str:
        return "".join(self.contents(index))

    def finish_reason(self, index: int = 0) -> str:
        """Said once, and last."""
        *before, last = [choice["finish_reason"] for choice in self.choices(index)]
        assert set(before) <= {None}
        assert isinstance(last, str)
        return last

    def logprobs(self, index: int = 0) -> list[Json]:
        scored = [choice["logprobs"] for choice in self.choices(index) if choice["logprobs"] is not None]
        return [token for logprobs in scored for token in logprobs["content"]]


def text_of_bytes(tokens: Sequence[Json]) -> str:
    """The text that the `bytes` of logprobs spell."""
    return bytes(byte for token in tokens for byte in token["bytes"]).decode()


def never_ending() -> Json:
    """Parameters of an answer that only a limit ends: SmolLM2's two tokens that end answers are made impossible."""
    return {"logit_bias": {"0": -100, "2": -100}}
