"""Bodies of many entries are refused before anybody looks at each of them."""

import tracemalloc
from typing import Any

import pytest

from deployments.ingress.chat.schema import (
    MAX_BIASES,
    MAX_MESSAGES,
    MAX_PARTS,
    MAX_STOP_CHARACTERS,
    UNION_TAGS,
    ChatRequest,
)
from deployments.ingress.http.json_body import parse
from pipelines.errors import InvalidRequest

HELLO = {"role": "user", "content": "Hello"}
TEXT = {"type": "text", "text": "x"}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "a", "messages": [HELLO], **fields}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {str(token): 1 for token in range(MAX_BIASES + 1)}}, "logit_bias"),
        ({"messages": [HELLO] * (MAX_MESSAGES + 1)}, "messages"),
        ({"messages": [{"role": "user", "content": [TEXT] * (MAX_PARTS + 1)}]}, "messages[0].content"),
        ({"stop": "x" * (MAX_STOP_CHARACTERS + 1)}, "stop[0]"),
        ({"stop": ["x", "x" * (MAX_STOP_CHARACTERS + 1)]}, "stop[1]"),
    ],
)
def test_one_more_than_there_may_be(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(body(**fields), ChatRequest, UNION_TAGS)
    assert caught.value.param == param


def test_as_many_as_there_may_be() -> None:
    parse(
        body(
            logit_bias={str(token): 1 for token in range(MAX_BIASES)},
            messages=[HELLO] * (MAX_MESSAGES - 1) + [{"role": "user", "content": [TEXT] * MAX_PARTS}],
            stop=["x" * MAX_STOP_CHARACTERS] * 4,
        ),
        ChatRequest,
        UNION_TAGS,
    )


def test_cht_16_a_hundred_thousand_wrong_biases_take_no_memory() -> None:
    wrong = body(logit_bias={str(token): "" for token in range(100_000)})
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match="must have at most 1024 tokens"):
            parse(wrong, ChatRequest, UNION_TAGS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
