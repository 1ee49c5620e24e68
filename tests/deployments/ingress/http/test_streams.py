"""When the 200 of a stream goes out, what is said after it, and who cleans up when the client has left."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from deployments.ingress.http import sse, streams
from deployments.ingress.http.sse import EventStream
from deployments.ingress.http.streams import open_stream
from pipelines.errors import AudioServerError, InvalidRequest, ModelUnavailable, Overloaded
from tests.support.sse import events_of

INTERNAL_ERROR = {
    "message": "The server had an error while processing your request.",
    "type": "server_error",
    "param": None,
    "code": "internal_error",
}


@dataclass
class Source:
    """Yields the events of its script, waits for the gates in it, raises its errors."""

    script: Sequence[Any]
    is_closed: bool = False
    num_given: int = field(default=0)

    async def events(self) -> AsyncGenerator[str, None]:
        try:
            for one in self.script:
                await asyncio.sleep(0)
                if isinstance(one, asyncio.Event):
                    await one.wait()
                elif isinstance(one, BaseException):
                    raise one
                else:
                    self.num_given += 1
                    yield one
        finally:
            self.is_closed = True


def render(event: str) -> list[dict[str, Any]]:
    """A line for each of its words."""
    return [{"word": word} for word in event.split()]


async def opened(
    source: Source, render: Callable[[str], Iterable[dict[str, Any]]] = render
) -> tuple[EventStream, list[str]]:
    """The answer, and a list that tells when its connection has ended."""
    response = await open_stream(source.events(), render, asyncio.get_running_loop().time())
    closed: list[str] = []
    response.on_close(lambda: closed.append("closed"))
    return response, closed


async def sent(response: EventStream, leave_after: int | None = None) -> list[bytes]:
    """What goes out as body; the connection breaks when so many messages were sent."""
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: Any) -> None:
        if leave_after is not None and len(messages) >= leave_after:
            raise OSError("the client has left")
        messages.append(message)

    await response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)  # type: ignore[arg-type]
    assert messages[0]["status"] == 200
    return [message["body"] for message in messages[1:] if message["body"]]


def parsed(body: Sequence[bytes]) -> list[Any]:
    return events_of(b"".join(body))


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STATUS_WAIT_S", 0.02)


# The 200


async def test_events_and_their_lines_in_order() -> None:
    source = Source(["a b", "", "c", "d e f"])
    response, closed = await opened(source)
    assert closed == []
    assert parsed(await sent(response)) == [{"word": word} for word in "abcdef"]
    assert source.is_closed
    assert closed == ["closed"]


async def test_no_event_is_an_empty_stream() -> None:
    response, _ = await opened(Source([]))
    assert parsed(await sent(response)) == []


@pytest.mark.parametrize(
    "error", [Overloaded("busy"), InvalidRequest("no", "n"), ModelUnavailable("lost"), ValueError("a bug")], ids=repr
)
async def test_what_is_refused_at_once_is_no_200(error: Exception) -> None:
    source = Source([error])
    with pytest.raises(type(error)) as caught:
        await opened(source)
    assert caught.value is error
    assert source.is_closed


async def test_no_more_than_the_first_event_is_read_before_the_200() -> None:
    source = Source(["a", "b", "c"])
    response, _ = await opened(source)
    await asyncio.sleep(0.01)
    assert source.num_given == 1
    assert len(parsed(await sent(response))) == 3


@pytest.mark.usefixtures("quickly")
async def test_who_takes_long_to_begin_has_a_200_meanwhile() -> None:
    gate = asyncio.Event()
    source = Source([gate, "a b"])
    response, _ = await opened(source)
    assert source.num_given == 0
    gate.set()
    assert parsed(await sent(response)) == [{"word": "a"}, {"word": "b"}]


async def test_who_has_waited_long_enough_gets_its_200_at_once() -> None:
    """As behind a body that took long to be understood."""
    source = Source([asyncio.Event()])
    long_ago_s = asyncio.get_running_loop().time() - streams.STATUS_WAIT_S
    response = await asyncio.wait_for(open_stream(source.events(), render, long_ago_s), streams.STATUS_WAIT_S / 2)
    assert source.num_given == 0
    await response._lines.aclose()


# Errors after it


@pytest.mark.parametrize(
    ("error", "kind", "param", "code"),
    [
        (Overloaded("busy"), "rate_limit_error", None, "rate_limit_exceeded"),
        (InvalidRequest("no", "messages", "refused"), "invalid_request_error", "messages", "refused"),
        (ModelUnavailable("lost"), "server_error", None, "service_unavailable"),
        (AudioServerError("known"), "server_error", None, "internal_error"),
    ],
    ids=repr,
)
async def test_cht_33_a_failure_after_the_200_is_an_event(
    error: AudioServerError, kind: str, param: str | None, code: str
) -> None:
    source = Source(["a", error, "b"])
    response, closed = await opened(source)
    failure = {"message": error.message, "type": kind, "param": param, "code": code}
    assert parsed(await sent(response)) == [{"word": "a"}, {"error": failure}]
    assert closed == ["closed"]


async def test_what_nobody_expected_is_told_without_its_details() -> None:
    response, _ = await opened(Source(["a", ValueError("a secret path")]))
    assert parsed(await sent(response)) == [{"word": "a"}, {"error": INTERNAL_ERROR}]


@pytest.mark.usefixtures("quickly")
async def test_a_late_refusal_of_the_first_event_is_an_event() -> None:
    gate = asyncio.Event()
    response, _ = await opened(Source([gate, Overloaded("busy")]))
    gate.set()
    (failure,) = parsed(await sent(response))
    assert failure["error"]["code"] == "rate_limit_exceeded"


async def test_an_event_that_cannot_be_rendered_ends_the_work() -> None:
    def broken(event: str) -> Iterable[dict[str, Any]]:
        yield {"word": event}
        if event == "b":
            raise KeyError("a secret name")

    source = Source(["a", "b", "c"])
    response, closed = await opened(source, broken)
    assert parsed(await sent(response)) == [{"word": "a"}, {"word": "b"}, {"error": INTERNAL_ERROR}]
    assert source.is_closed
    assert source.num_given == 2
    assert closed == ["closed"]


# Clients that leave


async def served_until_it_breaks(source: Source, leave_after: int) -> list[str]:
    async def serve() -> None:
        response, closed = await opened(source)
        told.append(closed)
        await sent(response, leave_after)

    told: list[list[str]] = []
    served = asyncio.create_task(serve())
    await asyncio.wait({served}, timeout=10)
    assert isinstance(served.exception(), ClientDisconnect)
    del served  # the error, and with it all that it holds
    await asyncio.sleep(0.01)
    return told[0]


@pytest.mark.parametrize("leave_after", range(4))
async def test_the_work_ends_with_the_connection(leave_after: int) -> None:
    """Also before the head was sent."""
    source = Source(["a b", "c", "d e", asyncio.Event()])
    assert await served_until_it_breaks(source, leave_after) == ["closed"]
    assert source.is_closed


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("leave_after", [0, 1])
async def test_who_leaves_before_the_first_event_ends_the_work(
    leave_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", 0.01)  # what shows that the client has left
    source = Source([asyncio.Event()])
    assert await served_until_it_breaks(source, leave_after) == ["closed"]
    assert source.is_closed


async def test_who_leaves_before_the_200_ends_the_work() -> None:
    source = Source([asyncio.Event()])
    task = asyncio.create_task(opened(source))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.is_closed


async def test_a_cancelled_answer_ends_the_work() -> None:
    """As Serve does with a request whose client has left."""
    source = Source(["a", asyncio.Event()])
    response, closed = await opened(source)
    task = asyncio.create_task(sent(response))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.is_closed
    assert closed == ["closed"]


async def test_closing_the_events_is_not_needed_twice() -> None:
    source = Source(["a"])
    events = source.events()
    response = await open_stream(events, render, asyncio.get_running_loop().time())
    await sent(response)
    async with aclosing(events):
        assert [event async for event in events] == []


def test_gen_11_what_clients_wait_for_comes_well_within_their_time() -> None:
    """3 s for the status and 2 s between two lines, some of it for the way there and back."""
    assert streams.STATUS_WAIT_S <= 2.0
    assert sse.KEEP_ALIVE_S <= 1.5
