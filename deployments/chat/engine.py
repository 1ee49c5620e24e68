"""What a chat model must do to be served, and the table of those that can be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from deployments.engines import EngineArgs, StepOutput
from pipelines.chat_types import ChatDelta, ChatModelInfo, Message, SamplingOptions
from pipelines.errors import AudioServerError

ENGINES = {"transformers": "deployments.chat.transformers_chat:TransformersChat"}
"""Name in the configuration to import path; any other `module:Class` is taken as it is (`deployments.engines`)."""

ChatOutput = StepOutput[ChatDelta | AudioServerError]


@dataclass(frozen=True, slots=True)
class ChatEngineArgs(EngineArgs):
    """`max_context_tokens` bounds prompt and answer together; None is what the checkpoint was made for."""

    max_context_tokens: int | None = None


class ChatEngine(Protocol):
    """Constructed with `ChatEngineArgs`. Used by one thread only, but for `prepare`, which another one calls
    meanwhile. Options travel per row.
    """

    info: ChatModelInfo

    def __init__(self, args: ChatEngineArgs) -> None: ...

    def prepare(self, messages: Sequence[Message]) -> Any:
        """Turn a conversation into what `add` takes.

        Raises:
            InvalidRequest: the model's chat template has no place for these messages.
            ContextLengthExceeded
        """
        ...

    def add(self, request_id: str, prompt: Any, options: SamplingOptions, written: Sequence[int]) -> None:
        """Take a request aboard; its answer goes on behind the tokens that were `written` elsewhere, which are not told
        again.

        Raises:
            InvalidRequest: when this model cannot do what `options` ask for; nothing is aboard then.
        """
        ...

    def step(self) -> list[ChatOutput]:
        """Read of prompts and write one token for everybody aboard, and return what is new; the last output of a
        request has a finish reason, or is an error that concerns this request alone."""
        ...

    def abort(self, request_id: str) -> None:
        """Drop a request; unknown ids are ignored, for it may just have finished."""
        ...
