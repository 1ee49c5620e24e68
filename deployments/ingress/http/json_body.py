"""A JSON body to a validated request, or to one sentence that names the field that is wrong."""

import json
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from deployments.ingress.http.deadlines import deadline
from pipelines.errors import InvalidRequest

HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
"""Whole pairs are found, too: that only costs time."""

MAX_VALUES = 2_000_000
"""Each takes a hundred bytes, whatever it is; what a text says with commas counts as well."""

MAX_KEY_LENGTH = 64
MAX_MESSAGE_LENGTH = 300

RequestT = TypeVar("RequestT", bound=BaseModel)


async def read_json(request: Request, max_s: float) -> dict[str, Any]:
    """The body's object; what content type it claims to be is not looked at (CHT-34).

    Raises:
        InvalidRequest: not JSON, or no object, or more values than any request needs.
        DeadlineExceeded: a client that sends its body drop by drop does not hold its place for ever.
    """
    async with deadline(max_s, "to arrive"):
        body = b"".join([piece async for piece in request.stream()])  # `request.body()` would keep a copy
    try:
        text = body.decode(json.detect_encoding(body))
        if sum(text.count(sign) for sign in ",[{") > MAX_VALUES:
            raise InvalidRequest("The body holds too many values.")
        data = loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is not valid JSON.") from None
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return data


def loads(text: str) -> Any:
    """JSON can write half of a surrogate pair, as of an emoji that was cut through; no UTF-8 could carry it further, so
    it becomes "?".

    Raises:
        ValueError, RecursionError: it is no JSON.
    """
    data = json.loads(text)
    if HALF_PAIR.search(text):
        data = json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
    return data


def inlined_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON schema without references, which would lead nowhere in the middle of an OpenAPI document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(node: Any) -> Any:
        if isinstance(node, list):
            return [inlined(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inlined(definitions[node["$ref"].rpartition("/")[2]])
        return {key: inlined(value) for key, value in node.items() if key != "discriminator"}

    result: dict[str, Any] = inlined(schema)
    return result


def parse(data: dict[str, Any], model: type[RequestT], union_tags: frozenset[str]) -> RequestT:
    """
    Args:
        union_tags: names that pydantic gives to the members of unions.

    Raises:
        InvalidRequest: naming the first field that is wrong, such as `messages[0].content[1].type`.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise to_mistake(error, (), union_tags) from None


def to_mistake(
    error: ValidationError, place: Sequence[str] = (), union_tags: frozenset[str] = frozenset()
) -> InvalidRequest:
    """The first mistake as one sentence; `place` is where in the body the model stands."""
    mistake = error.errors(include_url=False, include_input=False)[0]
    loc = (*place, *mistake["loc"])
    if mistake["type"].startswith("union_tag"):
        loc = (*loc, "type")
    param = to_param(loc, union_tags)
    if mistake["type"] == "missing":
        return InvalidRequest(f"The parameter '{param}' is required.", param, "missing_required_parameter")
    message = mistake["msg"].removeprefix("Value error, ")
    if len(message) > MAX_MESSAGE_LENGTH:  # it repeats what was sent
        message = f"{message[:MAX_MESSAGE_LENGTH]}…"
    return InvalidRequest(f"Invalid value for '{param}': {message}.", param)


def to_param(loc: Sequence[int | str], union_tags: frozenset[str] = frozenset()) -> str:
    """`("messages", 0, "content")` as `messages[0].content`; a tag stands behind the union's own place."""
    param = ""
    for place, step in enumerate(loc):
        if isinstance(step, int):
            param += f"[{step}]"
        elif not (step in union_tags and place and _is_union(loc[place - 1])):
            # a key may be anything that a client made up
            key = step[:MAX_KEY_LENGTH].encode("utf-8", "replace").decode()
            param += f".{key}" if param else key
    return param


def _is_union(step: int | str) -> bool:
    return isinstance(step, int) or step == "content"
