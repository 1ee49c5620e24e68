"""What helps to fill the pipelines' ports with plain classes, and to see what the pipelines tell."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import wraps
from typing import Any

from pipelines.audio_types import AudioChunk, AudioInfo
from pipelines.errors import Overloaded
from pipelines.ports import OpenUpload
from pipelines.transcription_events import Transcription, TranscriptionEvent


def opening(
    read: Callable[..., AsyncGenerator[Any, None]],
) -> Callable[..., AbstractAsyncContextManager[OpenUpload]]:
    """`AudioReader.open`, of a generator that yields what the upload is and then its chunks, or what else is known."""

    @wraps(read)
    @asynccontextmanager
    async def open_upload(*args: Any) -> AsyncGenerator[OpenUpload, None]:
        async with aclosing(read(*args)) as audio:
            info = await anext(audio)
            assert isinstance(info, AudioInfo)

            async def chunks() -> AsyncGenerator[AudioChunk, None]:
                async for one in audio:
                    if isinstance(one, AudioInfo):
                        opened.info = one
                    else:
                        yield one

            async with aclosing(chunks()) as reading:
                opened = OpenUpload(info, reading)
                yield opened

    return open_upload


def refuse(refusals: list[Exception], is_first_step: bool) -> None:
    """Raise the next of a model's refusals; what is not a request's first step waits out a full queue."""
    while refusals:
        error = refusals.pop(0)
        if is_first_step or not isinstance(error, Overloaded):
            raise error


async def told(
    opened: AbstractAsyncContextManager[Transcription],
) -> AsyncGenerator[AudioInfo | TranscriptionEvent, None]:
    """What a transcription is of, then all that it tells."""
    async with opened as transcription:
        yield transcription.info
        async for event in transcription.events:
            yield event


async def settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(200):
        await asyncio.sleep(0)
