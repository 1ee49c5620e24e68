"""A JSON body to a validated request, or to one sentence that names the field that is wrong."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from pipelines.errors import DeadlineExceeded, InvalidRequest

RequestT = TypeVar("RequestT", bound=BaseModel)


async def read_json(request: Request, max_s: float) -> dict[str, Any]:
    """The body's object; what content type it claims to be is not looked at (CHT-34).

    Raises:
        InvalidRequest: not JSON, or no object.
        DeadlineExceeded: a client that sends its body drop by drop does not hold its place for ever.
    """
    try:
        async with asyncio.timeout(max_s):
            body = await request.body()
    except TimeoutError:
        raise DeadlineExceeded(f"The request took longer than {max_s:.0f} s to arrive.") from None
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is not valid JSON.") from None
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return data


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
        mistake = error.errors()[0]
    loc = mistake["loc"]
    if mistake["type"].startswith("union_tag"):
        loc = (*loc, "type")
    param = to_param(loc, union_tags)
    if mistake["type"] == "missing":
        raise InvalidRequest(f"The parameter '{param}' is required.", param, "missing_required_parameter")
    message = mistake["msg"].removeprefix("Value error, ")
    raise InvalidRequest(f"Invalid value for '{param}': {message}.", param)


def to_param(loc: Sequence[int | str], union_tags: frozenset[str] = frozenset()) -> str:
    """`("messages", 0, "content")` as `messages[0].content`; a tag stands behind the union's own place."""
    param = ""
    for place, step in enumerate(loc):
        if isinstance(step, int):
            param += f"[{step}]"
        elif not (step in union_tags and place and _is_union(loc[place - 1])):
            param += f".{step}" if param else step
    return param


def _is_union(step: int | str) -> bool:
    return isinstance(step, int) or step == "content"
