"""What a chat request may not ask for (api contract, CHT table)."""

import re
from typing import Any

from deployments.ingress.chat.schema import ChatRequest
from pipelines.errors import InvalidRequest

UNSERVED = ("tools", "functions", "audio", "prediction", "web_search_options")
NONE_GIVEN: tuple[object, ...] = (None, [])
TOKEN_ID = re.compile("[0-9]{1,10}")


def check_chat(request: ChatRequest) -> None:
    """Refuse what no model here does, and what does not go together (CHT-14 to CHT-19, CHT-32).

    Raises:
        InvalidRequest: naming the parameter.
    """
    for name in UNSERVED:
        if getattr(request, name) not in NONE_GIVEN:
            raise _unsupported(name)
    _check_choice("tool_choice", request.tool_choice)
    _check_choice("function_call", request.function_call)
    if set(request.modalities) - {"text"}:
        raise InvalidRequest("Only the modality 'text' is supported.", "modalities", "unsupported_value")
    if request.response_format is not None and request.response_format.get("type") != "text":
        raise InvalidRequest(
            "Only the response_format {'type': 'text'} is supported.", "response_format", "unsupported_value"
        )
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs=true.", "top_logprobs")
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options needs stream=true.", "stream_options")
    for token_id in request.logit_bias:
        if not (TOKEN_ID.fullmatch(token_id) and int(token_id) < 2**31):
            raise InvalidRequest(f"logit_bias: '{token_id[:40]}' is not the id of a token.", "logit_bias")


def _check_choice(name: str, choice: Any) -> None:
    if choice not in (None, "none", "auto"):
        raise _unsupported(name)


def _unsupported(name: str) -> InvalidRequest:
    return InvalidRequest(f"The parameter '{name}' is not supported.", name, "unsupported_parameter")
