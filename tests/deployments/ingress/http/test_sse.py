import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from deployments.ingress.http.deadlines import until_deadline
from deployments.ingress.http.sse import DONE, KEEP_ALIVE, cancel_and_wait, to_line, with_keep_alive
from pipelines.errors import DeadlineExceeded, UndecodableAudio


@dataclass
class Source:
    """Yields `count` items, waits for `gate` before the one numbered `gated`, then may raise."""

    count: int
    gated: int = -1
    error: Exception | None = None
    gate: asyncio.Event | None = None
    is_closed: bool = False

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(self.count):
                if number == self.gated:
                    assert self.gate is not None
                    await self.gate.wait()
                yield b"%d" % number
            if self.error:
                raise self.error
        finally:
            self.is_closed = True


def test_a_line_is_data_and_a_blank_line() -> None:
    assert to_line({"delta": "a", "n": 1}) == b'data: {"delta":"a","n":1}\n\n'
    assert DONE == b"data: [DONE]\n\n"


@pytest.mark.parametrize("text", ["你好", "a\nb\r\nc", "x\u2028y\u2029z\x85", "\x00\x1c\x1e", "😀", "data: [DONE]\n\n"])
def test_a_line_breaks_nowhere_else(text: str) -> None:
    line = to_line({"delta": text})
    assert line.isascii()
    assert line.decode("ascii").splitlines() == [line.decode("ascii").removesuffix("\n\n"), ""]
    assert json.loads(line.removeprefix(b"data: ")) == {"delta": text}


async def test_lines_pass_in_order() -> None:
    source = Source(5)
    assert [line async for line in with_keep_alive(source())] == [b"0", b"1", b"2", b"3", b"4"]
    assert source.is_closed


async def test_nothing_to_send() -> None:
    assert [line async for line in with_keep_alive(Source(0)())] == []


async def test_blank_lines_keep_it_alive_while_nothing_is_ready() -> None:
    source, lines = Source(2, gated=1, gate=asyncio.Event()), []
    async for line in with_keep_alive(source()):
        lines.append(line)
        if line == KEEP_ALIVE:
            assert source.gate is not None
            source.gate.set()
    assert lines == [b"0", KEEP_ALIVE, b"1"]


async def test_an_error_of_the_source_comes_through() -> None:
    with pytest.raises(UndecodableAudio):
        _ = [line async for line in with_keep_alive(Source(1, error=UndecodableAudio("no"))())]


async def test_closing_ends_the_source_that_is_waited_for() -> None:
    source = Source(2, gated=1, gate=asyncio.Event())
    async with aclosing(with_keep_alive(source())) as lines:
        assert await anext(lines) == b"0"
        assert await anext(lines) == KEEP_ALIVE
    assert source.is_closed


async def test_cancelling_ends_the_source_that_is_waited_for() -> None:
    source = Source(2, gated=1, gate=asyncio.Event())

    async def consume() -> None:
        async for _ in with_keep_alive(source()):
            pass

    task = asyncio.create_task(consume())
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(20):
        await asyncio.sleep(0)
    assert source.is_closed


async def test_events_pass_before_the_deadline() -> None:
    assert [event async for event in until_deadline(Source(3)(), 60)] == [b"0", b"1", b"2"]


async def test_the_deadline_ends_a_source_that_hangs() -> None:
    source = Source(2, gated=1, gate=asyncio.Event())
    events = until_deadline(source(), 0.05)
    assert await anext(events) == b"0"
    with pytest.raises(DeadlineExceeded) as caught:
        await anext(events)
    assert source.is_closed
    assert caught.value.message == "The request took longer than 0 s."


async def test_the_deadline_ends_a_source_that_never_does() -> None:
    async def endless() -> AsyncGenerator[int, None]:
        while True:
            await asyncio.sleep(0)
            yield 1

    with pytest.raises(DeadlineExceeded):
        async for _ in until_deadline(endless(), 0.05):
            pass


async def test_an_error_before_the_deadline_comes_through() -> None:
    with pytest.raises(UndecodableAudio):
        _ = [event async for event in until_deadline(Source(1, error=UndecodableAudio("no"))(), 60)]


async def test_cancel_and_wait() -> None:
    hanging = asyncio.ensure_future(asyncio.Event().wait())
    await cancel_and_wait(hanging)
    assert hanging.cancelled()
    await cancel_and_wait(hanging)
