"""A chat deployment as the pipelines' port."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from ray.serve.handle import DeploymentHandle

from deployments.remote.calls import CALL_ERRORS, Retries, call, pieces
from pipelines.chat_types import ChatDelta, ChatModelInfo, Message, SamplingOptions
from pipelines.transcript_types import Work


class RemoteChatModel:
    """`pipelines.ports.ChatModel` over one chat deployment."""

    def __init__(self, handle: DeploymentHandle, observe: Callable[[Work], None]) -> None:
        self._handle = handle
        self._streaming = handle.options(stream=True)
        self._observe = observe
        self._info: ChatModelInfo | None = None

    async def generate(
        self, messages: Sequence[Message], options: SamplingOptions, in_pieces: bool, is_first_step: bool = True
    ) -> AsyncGenerator[ChatDelta, None]:
        """When the replica dies, another one reads what was delivered, and goes on behind it."""
        written: tuple[int, ...] = ()
        retries, has_ended = Retries(is_first_step), False
        while not has_ended:
            try:
                async with aclosing(self._write(messages, options, in_pieces, written)) as deltas:
                    async for delta in deltas:
                        written += delta.token_ids
                        has_ended = delta.finish_reason is not None
                        yield delta
                return
            except CALL_ERRORS as error:
                if not has_ended:  # else only the end of its stream was lost
                    await retries.wait_after(error)

    async def _write(
        self, messages: Sequence[Message], options: SamplingOptions, in_pieces: bool, written: Sequence[int]
    ) -> AsyncGenerator[ChatDelta, None]:
        """One replica's answer, behind the tokens of another's."""
        async with aclosing(pieces(self._streaming.generate, messages, options, in_pieces, written)) as answers:
            async for delta, work in answers:
                if delta.finish_reason:
                    self._observe(work)
                yield delta

    async def info(self) -> ChatModelInfo:
        if self._info is None:
            self._info = await call(self._handle.info)
        return self._info
