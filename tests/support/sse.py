"""Server-sent events as any client reads them: lines of `data:` up to `[DONE]`, and blank ones."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

END = "[DONE]"


def read_events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """What each line holds, as it comes; an error when they stop before the end."""
    for line in lines:
        if not line:
            continue
        data = line.removeprefix("data: ")
        assert data != line, f"no line of data: {line!r}"
        if data == END:
            return
        yield json.loads(data)
    raise AssertionError(f"the stream ended without {END}")


def events_of(body: str | bytes) -> list[dict[str, Any]]:
    """Of a whole answer, in which nothing may come behind the end."""
    text = body if isinstance(body, str) else body.decode()
    lines = [line for line in text.split("\n") if line]
    assert lines[-1:] == [f"data: {END}"], lines[-1:]
    events = list(read_events(lines))
    assert len(events) == len(lines) - 1
    return events
