"""The one fake of `pipelines.ports.ChatModel`."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipelines.chat_types import ChatDelta, ChatModelInfo, ChatUsage, Message, SamplingOptions, join_deltas


class Asked(NamedTuple):
    messages: Sequence[Message]
    options: SamplingOptions
    in_pieces: bool


Answer = Sequence[ChatDelta | BaseException]


def counting(index: int = 0) -> list[ChatDelta]:
    """Says "0 1 2 ", whatever the answer's index."""
    return [ChatDelta(f"{n} ", ChatUsage(5, 2, n + 1), (), "stop" if n == 2 else None) for n in range(3)]


def failing(number: int, error: BaseException) -> Callable[[int], Answer]:
    """Answers that count, until the error in the place of their piece `number`."""
    return lambda index: [*counting()[:number], error]


def waiting(number: int, gate: asyncio.Event) -> Callable[[int, int], asyncio.Event | None]:
    """The gate before each answer's piece `number`."""
    return lambda index, piece: gate if piece == number else None


@dataclass
class FakeChatModel:
    """Writes the answer that belongs to a request's index, which is its seed's distance from `first_seed`: before each
    piece waits until its gate is open, and instead of a piece raises the error that stands there."""

    answer: Callable[[int], Answer] = counting
    gate: Callable[[int, int], asyncio.Event | None] = lambda index, number: None
    first_seed: int = 0
    hears_audio: bool = True
    slow_s: float = 0.0
    loading_s: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    first_steps: list[bool] = field(default_factory=list)
    writing: set[int] = field(default_factory=set)
    finished: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)

    async def generate(
        self, messages: Sequence[Message], options: SamplingOptions, in_pieces: bool, is_first_step: bool = True
    ) -> AsyncGenerator[ChatDelta, None]:
        self.asked.append(Asked(messages, options, in_pieces))
        self.first_steps.append(is_first_step)
        index = options.seed - self.first_seed
        self.writing.add(index)
        try:
            await asyncio.sleep(self.slow_s)
            pieces: list[ChatDelta] = []
            for number, piece in enumerate(self.answer(index)):
                await self._reach(index, number)
                if isinstance(piece, BaseException):
                    raise piece
                pieces.append(piece)
                if in_pieces:
                    yield pieces.pop()
            if pieces:
                yield join_deltas(pieces)
            self.finished.append(index)
        finally:
            self.writing.remove(index)
            if index not in self.finished:
                self.left.append(index)

    async def _reach(self, index: int, number: int) -> None:
        if gate := self.gate(index, number):
            await gate.wait()
        else:
            await asyncio.sleep(0)

    async def info(self) -> ChatModelInfo:
        await asyncio.sleep(self.loading_s)
        return ChatModelInfo(self.hears_audio, max_audio_s=None, max_context_tokens=4_096)
