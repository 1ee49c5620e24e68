"""Messages to deltas: one answer, or several at once. Knows no model, no Ray and no wire."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from pipelines.chat_types import ChatDelta, Message, SamplingOptions
from pipelines.errors import ModelUnavailable
from pipelines.ports import ChatModel


@dataclass(frozen=True, slots=True)
class ChoiceDelta:
    """`index` tells which of the answers `delta` belongs to."""

    index: int
    delta: ChatDelta


class ChatPipeline:
    """Keeps nothing between calls."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model

    async def run(
        self,
        messages: Sequence[Message],
        options: SamplingOptions,
        num_choices: int,
        in_pieces: bool,
        num_heard_tokens: int = 0,
    ) -> AsyncGenerator[ChoiceDelta, None]:
        """Yield the deltas of all answers as they come; those of one answer in order, the last with a finish reason.

        Every answer is a row of its own in the model's batch, with a seed of its own. `num_heard_tokens` of audio were
        heard for the model, and are part of the usage: where there are some, a full queue is waited for, for else what
        was heard would be lost.

        Raises:
            InvalidRequest, Overloaded, ModelUnavailable
        """
        news: asyncio.Queue[ChoiceDelta | None] = asyncio.Queue()
        is_first_step = not num_heard_tokens

        async def write(index: int) -> None:
            try:
                own = replace(options, seed=options.seed + index)
                async with aclosing(self._model.generate(messages, own, in_pieces, is_first_step)) as deltas:
                    async for delta in deltas:
                        usage = delta.usage.with_audio(num_heard_tokens)
                        news.put_nowait(ChoiceDelta(index, replace(delta, usage=usage)))
            finally:
                news.put_nowait(None)

        writers = [asyncio.create_task(write(index)) for index in range(num_choices)]
        try:
            num_writing = num_choices
            while num_writing:
                piece = await news.get()
                if piece is not None:
                    yield piece
                    continue
                num_writing -= 1
                _raise_failure(writers)
        finally:
            for writer in writers:
                writer.cancel()
            await asyncio.gather(*writers, return_exceptions=True)


def _raise_failure(writers: list["asyncio.Task[None]"]) -> None:
    for writer in (writer for writer in writers if writer.done()):
        if writer.cancelled():  # from below, for nobody here has: what was written so far must not look whole
            raise ModelUnavailable("The replica that wrote this answer was lost.")
        if error := writer.exception():
            raise error
