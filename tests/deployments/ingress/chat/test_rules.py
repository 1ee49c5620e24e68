"""CHT-14 to CHT-19 and CHT-32: what is known and refused, and what is known and harmless."""

from typing import Any

import pytest

from deployments.ingress.chat.options import to_options
from deployments.ingress.chat.rules import check_chat
from deployments.ingress.chat.schema import ChatRequest
from deployments.ingress.http.errors import error_response
from pipelines.chat_types import SamplingDefaults
from pipelines.errors import InvalidRequest

TOOL = {"type": "function", "function": {"name": "f"}}
UNSUPPORTED, VALUE = "unsupported_parameter", "unsupported_value"


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})


def mistake(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        check_chat(request(**fields))
    assert error_response(caught.value).status_code == 400
    assert len(caught.value.message) < 200
    return caught.value


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"tools": [TOOL]}, UNSUPPORTED),
        ({"functions": [{"name": "f"}]}, UNSUPPORTED),
        ({"tool_choice": "required"}, UNSUPPORTED),
        ({"tool_choice": TOOL}, UNSUPPORTED),
        ({"tool_choice": {}}, UNSUPPORTED),
        ({"tool_choice": ["none"]}, UNSUPPORTED),
        ({"function_call": {"name": "f"}}, UNSUPPORTED),
        ({"audio": {"voice": "alloy", "format": "wav"}}, UNSUPPORTED),
        ({"prediction": {"type": "content", "content": "x"}}, UNSUPPORTED),
        ({"web_search_options": {"search_context_size": "low"}}, UNSUPPORTED),
        ({"web_search_options": {}}, UNSUPPORTED),
        ({"audio": {}}, UNSUPPORTED),
        ({"prediction": {}}, UNSUPPORTED),
        ({"modalities": ["audio"]}, VALUE),
        ({"modalities": ["text", "audio"]}, VALUE),
        ({"response_format": {"type": "json_object"}}, VALUE),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}}, VALUE),
        ({"response_format": {"type": "yaml"}}, VALUE),
        ({"response_format": {"type": ["text"]}}, VALUE),
        ({"response_format": {}}, VALUE),
        ({"top_logprobs": 1}, "invalid_value"),
        ({"top_logprobs": 20, "logprobs": False}, "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "invalid_value"),
        ({"stream_options": {}, "stream": False}, "invalid_value"),
    ],
    ids=str,
)
def test_cht_14_to_cht_19_what_is_refused(fields: dict[str, Any], code: str) -> None:
    error = mistake(**fields)
    assert (error.param, error.code) == (next(iter(fields)), code)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": [], "functions": []},
        {"tools": None, "functions": None, "tool_choice": None, "function_call": None},
        {"tool_choice": "none", "function_call": "none"},
        {"tool_choice": "auto", "function_call": "auto"},
        {"audio": None, "prediction": None, "web_search_options": None},
        {"modalities": ["text"]},
        {"modalities": []},
        {"modalities": None},
        {"response_format": {"type": "text"}},
        {"response_format": None},
        {"top_logprobs": 0},
        {"top_logprobs": 0, "logprobs": False},
        {"top_logprobs": 20, "logprobs": True},
        {"stream_options": {"include_usage": True}, "stream": True},
        {"stream_options": None},
        {"logit_bias": {}},
    ],
    ids=str,
)
def test_what_is_harmless(fields: dict[str, Any]) -> None:
    check_chat(request(**fields))


@pytest.mark.parametrize("token_id", ["0", "7", "007", "151645", "2147483647"])
def test_cht_16_what_may_be_the_id_of_a_token(token_id: str) -> None:
    asked = request(logit_bias={token_id: 5})
    check_chat(asked)
    assert to_options(asked, SamplingDefaults()).logit_bias == {int(token_id): 5.0}


@pytest.mark.parametrize(
    "token_id",
    [
        "",
        " ",
        "-1",
        "+7",
        "7.0",
        "7 ",
        "1_000",
        "1e3",
        "0x7",
        "seven",
        "²",
        "٣",
        "\uff17",
        "2147483648",
        "9" * 20,
        "9" * 5000,
        "0" * 11 + "1" + "9" * 20,
        "0" * 11 + "1" + "9" * 5000,
        "x" * 100_000,
    ],
    ids=lambda token_id: ascii(token_id[:30]),
)
def test_cht_16_what_is_no_id_of_a_token(token_id: str) -> None:
    error = mistake(logit_bias={"7": 1, token_id: 5})
    assert (error.param, error.code) == ("logit_bias", "invalid_value")
