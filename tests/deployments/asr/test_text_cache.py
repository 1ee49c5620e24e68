import asyncio
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from deployments.asr.text_cache import TextCache
from pipelines.audio_types import AudioChunk, SpeechSegment, Waveform
from pipelines.errors import ModelUnavailable
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, Lookup, Segment, Token, Work

HIT, MISS = Lookup("text", is_hit=True), Lookup("text", is_hit=False)
ENCODED = Lookup("encoder", is_hit=False)
OPTIONS = DecodingOptions(language="en")


def chunk(value: float = 0.1, index: int = 0, offset_s: float = 0.0) -> AudioChunk:
    return AudioChunk(index, offset_s, Waveform(np.full(160, value, np.float32)))


@dataclass
class Model:
    """Says how often it was asked; waits until it may answer."""

    num_asked: int = 0
    errors: list[Exception] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> tuple[ChunkTranscript, Work]:
        self.num_asked += 1
        number = self.num_asked
        await self.may_answer.wait()
        if self.errors:
            raise self.errors.pop()
        segment = Segment(0.0, 1.0, f" {number}", (Token(7, " 7", -0.1, b" 7"),), 0.0, -0.1, 1.0, 0.0)
        return ChunkTranscript(0, "en", (segment,)), Work(0.1, 0.2, 1.0, 8, (ENCODED,))


@pytest.fixture
def model() -> Model:
    model = Model()
    model.may_answer.set()
    return model


async def test_the_same_chunk_asked_for_in_the_same_way_gets_the_same_answer(model: Model) -> None:
    cache = TextCache(100_000)
    first, work = await cache.transcribed(chunk(), OPTIONS, model)
    second, again = await cache.transcribed(chunk(), OPTIONS, model)
    assert second == first
    assert model.num_asked == 1
    assert (work.lookups, again.lookups) == ((MISS, ENCODED), (HIT,))


OTHERS = [
    (chunk(0.2), OPTIONS),
    (chunk(index=1), OPTIONS),
    (chunk(offset_s=1.0), OPTIONS),
    (replace(chunk(), speech=(SpeechSegment(0.0, 0.005),)), OPTIONS),
    *(
        (chunk(), replace(OPTIONS, **change))
        for change in (
            {"language": None},
            {"prompt": "Bach"},
            {"temperature": 0.2, "seed": 1},
            {"seed": 1},
            {"word_timestamps": True},
            {"task": "translate"},
            {"written": (Token(1, "a", -0.1),)},
            {"neighbour": "de"},
        )
    ),
]


@pytest.mark.parametrize(("other", "options"), OTHERS)
async def test_anything_else_is_another_question(other: AudioChunk, options: DecodingOptions, model: Model) -> None:
    cache = TextCache(100_000)
    await cache.transcribed(chunk(), OPTIONS, model)
    await cache.transcribed(other, options, model)
    assert model.num_asked == 2
    await cache.transcribed(other, options, model)
    assert model.num_asked == 2


async def test_who_hurries_asks_the_same(model: Model) -> None:
    cache = TextCache(100_000)
    await cache.transcribed(chunk(), OPTIONS, model)
    await cache.transcribed(chunk(), replace(OPTIONS, head_start_s=5.0), model)
    assert model.num_asked == 1


@pytest.mark.parametrize(
    ("max_bytes", "options"),
    [
        (0, OPTIONS),
        (100_000, replace(OPTIONS, temperature=0.5)),
        (100_000, replace(OPTIONS, is_draft=True)),
        (10, OPTIONS),
    ],
)
async def test_what_is_not_kept(max_bytes: int, options: DecodingOptions, model: Model) -> None:
    cache = TextCache(max_bytes)
    for _ in range(3):
        await cache.transcribed(chunk(), options, model)
    assert model.num_asked == 3


async def test_the_longest_unused_leave_first(model: Model) -> None:
    cache = TextCache(1000)  # of some hundred bytes each
    for value in range(20):
        await cache.transcribed(chunk(value), OPTIONS, model)
    assert model.num_asked == 20
    await cache.transcribed(chunk(19), OPTIONS, model)
    assert model.num_asked == 20
    await cache.transcribed(chunk(0), OPTIONS, model)
    assert model.num_asked == 21


async def test_of_equals_that_come_together_one_is_decoded() -> None:
    cache, model = TextCache(100_000), Model()
    asking = [asyncio.create_task(cache.transcribed(chunk(), OPTIONS, model)) for _ in range(5)]
    await asyncio.sleep(0.01)
    model.may_answer.set()
    answers = await asyncio.gather(*asking)
    assert model.num_asked == 1
    assert len({transcript.segments[0].text for transcript, _ in answers}) == 1


async def test_nobody_waits_twice() -> None:
    cache, model = TextCache(100_000), Model()
    asking = [asyncio.create_task(cache.transcribed(chunk(), OPTIONS, model)) for _ in range(5)]
    await asyncio.sleep(0.01)
    asking[0].cancel()
    await asyncio.sleep(0.01)
    assert model.num_asked == 5
    model.may_answer.set()
    _, *answers = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(answer, tuple) and answer[1].lookups[0] == MISS for answer in answers)
    await cache.transcribed(chunk(), OPTIONS, model)
    await cache.transcribed(chunk(), OPTIONS, model)
    assert model.num_asked == 6


async def test_others_go_on_when_the_first_leaves_or_fails() -> None:
    cache, model = TextCache(100_000), Model(errors=[ModelUnavailable("Lost.")])
    asking = [asyncio.create_task(cache.transcribed(chunk(), OPTIONS, model)) for _ in range(3)]
    await asyncio.sleep(0.01)
    asking[0].cancel()
    await asyncio.sleep(0.01)
    model.may_answer.set()
    left, failed, answered = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(left, asyncio.CancelledError)
    assert isinstance(failed, ModelUnavailable)
    assert not isinstance(answered, BaseException)
    assert model.num_asked == 3
