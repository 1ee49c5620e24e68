import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from pipelines.chat import ChatPipeline, ChoiceDelta
from pipelines.chat_types import ChatDelta, ChatUsage, Message, SamplingOptions, TextPart, join_deltas
from pipelines.errors import InvalidRequest, ModelUnavailable, Overloaded
from tests.support.fake_chat_model import Answer, FakeChatModel
from tests.support.ports import settle

MESSAGES = (Message("user", (TextPart("Count."),)),)
SEED = 40
OPTIONS = SamplingOptions(seed=SEED, temperature=0.7, stop=("x",), max_tokens=9)


def delta(text: str, is_last: bool = False) -> ChatDelta:
    return ChatDelta(text, ChatUsage(3, 0, 1), (), "stop" if is_last else None)


def counted(index: int, length: int = 3) -> list[ChatDelta]:
    """The answer that is numbered `index`."""
    return [delta(f"{index}.{number} ", number == length - 1) for number in range(length)]


@dataclass
class Model(FakeChatModel):
    answer: Callable[[int], Answer] = counted
    first_seed: int = SEED


def run(model: Model, num_choices: int = 3, in_pieces: bool = True) -> AsyncGenerator[ChoiceDelta, None]:
    return ChatPipeline(model).run(MESSAGES, OPTIONS, num_choices, in_pieces)


async def collected(model: Model, num_choices: int = 3) -> list[ChoiceDelta]:
    return [piece async for piece in run(model, num_choices)]


def of(pieces: Sequence[ChoiceDelta], index: int) -> list[ChatDelta]:
    return [piece.delta for piece in pieces if piece.index == index]


def gates() -> Callable[[int, int], asyncio.Event]:
    """One for every piece of every answer, the same whenever it is asked for."""
    made: dict[tuple[int, int], asyncio.Event] = {}
    return lambda index, number: made.setdefault((index, number), asyncio.Event())


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind() -> AsyncGenerator[None, None]:
    """No task, and no error that nobody has seen."""
    loop, before = asyncio.get_running_loop(), asyncio.all_tasks()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    await settle()
    loop.set_exception_handler(None)
    assert not left
    assert not complaints


# Answers


async def test_one_answer_passes_as_it_is() -> None:
    pieces = await collected(Model(), 1)
    assert pieces == [ChoiceDelta(0, one) for one in counted(0)]


@pytest.mark.parametrize("num_choices", [1, 2, 8])
async def test_every_answer_is_whole_and_in_order(num_choices: int) -> None:
    pieces = await collected(Model(), num_choices)
    assert [of(pieces, index) for index in range(num_choices)] == [counted(index) for index in range(num_choices)]
    assert {piece.index for piece in pieces} == set(range(num_choices))


@pytest.mark.parametrize("in_pieces", [True, False])
async def test_every_answer_has_a_seed_of_its_own_and_nothing_else(in_pieces: bool) -> None:
    model = Model()
    async with aclosing(run(model, 4, in_pieces)) as pieces:
        _ = [piece async for piece in pieces]
    assert sorted(options.seed for _, options, _ in model.asked) == [SEED, SEED + 1, SEED + 2, SEED + 3]
    assert {replace(options, seed=SEED).max_tokens for _, options, _ in model.asked} == {9}
    assert all(replace(options, seed=SEED) == OPTIONS for _, options, _ in model.asked)
    assert all(messages is MESSAGES and asked == in_pieces for messages, _, asked in model.asked)


async def test_a_quick_answer_does_not_wait_for_a_slow_one() -> None:
    gate = asyncio.Event()
    model = Model(gate=lambda index, number: gate if index == 0 else None)
    async with aclosing(run(model, 2)) as pieces:
        first = [await anext(pieces) for _ in range(3)]
        assert of(first, 1) == counted(1)
        gate.set()
        assert [piece async for piece in pieces] == [ChoiceDelta(0, one) for one in counted(0)]


async def test_pieces_come_in_the_order_in_which_they_are_written() -> None:
    gate = gates()
    order = [(1, 0), (0, 0), (0, 1), (2, 0), (1, 1), (2, 1), (2, 2), (0, 2), (1, 2)]
    async with aclosing(run(Model(gate=gate))) as pieces:
        for index, number in order:
            gate(index, number).set()
            assert await anext(pieces) == ChoiceDelta(index, counted(index)[number])
        assert [piece async for piece in pieces] == []


async def test_who_reads_late_gets_all_of_it() -> None:
    model = Model()
    async with aclosing(run(model)) as pieces:
        first = await anext(pieces)
        await settle()
        assert model.finished
        whole = [first, *[piece async for piece in pieces]]
    assert [of(whole, index) for index in range(3)] == [counted(index) for index in range(3)]


def cut(text: str, random: Random) -> Iterator[str]:
    """Into pieces of any length, empty ones too."""
    places = sorted(random.choices(range(len(text) + 1), k=random.randint(0, 12)))
    return (text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True))


@pytest.mark.parametrize("seed", range(100))
async def test_however_they_are_cut_and_mixed_answers_stay_whole(seed: int) -> None:
    random = Random(seed)
    num_choices = random.randint(1, 8)
    answers = []
    for index in range(num_choices):
        *begin, end = cut("".join(random.choices("ab 😀é\n", k=random.randint(0, 30))), random)
        answers.append([*map(delta, begin), delta(f"{end}|{index}", is_last=True)])
    rests = Random(seed + 1)

    class Hesitant(Model):
        async def generate(self, *asked: Any) -> AsyncGenerator[ChatDelta, None]:
            async for piece in super().generate(*asked):
                for _ in range(rests.choice([0, 0, 1, 5])):
                    await asyncio.sleep(0)
                yield piece

    pieces = await collected(Hesitant(answers.__getitem__), num_choices)
    for index, answer in enumerate(answers):
        assert of(pieces, index) == answer
        assert join_deltas(of(pieces, index)).text.endswith(f"|{index}")


# Failures


@pytest.mark.parametrize(
    "error", [Overloaded("busy"), ModelUnavailable("lost"), InvalidRequest("no", "n"), ValueError("a bug")], ids=repr
)
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_the_first_failure_ends_all(failing: int, number: int, error: Exception) -> None:
    gate = gates()

    def answer(index: int) -> Answer:
        return [*counted(index)[:number], error] if index == failing else counted(index)

    model = Model(answer, gate)
    pieces = run(model)
    for done in range(number):
        gate(failing, done).set()
        assert await anext(pieces) == ChoiceDelta(failing, counted(failing)[done])
    gate(failing, number).set()
    with pytest.raises(type(error)) as caught:
        await anext(pieces)
    assert caught.value is error
    assert not model.writing
    assert sorted(model.left) == [0, 1, 2]


async def test_what_was_written_before_a_failure_is_told() -> None:
    error = ModelUnavailable("lost")
    model = Model(lambda index: [*counted(index)[:2], error] if index else counted(0))
    seen: list[ChoiceDelta] = []

    async def read() -> None:
        async for piece in run(model, 2):
            seen.append(piece)

    with pytest.raises(ModelUnavailable):
        await read()
    assert of(seen, 1) == counted(1)[:2]
    assert of(seen, 0) == counted(0)[: len(of(seen, 0))]


async def test_one_of_several_failures_is_raised() -> None:
    model = Model(lambda index: [ModelUnavailable(f"lost {index}")])
    with pytest.raises(ModelUnavailable, match=r"lost \d"):
        await collected(model, 8)


async def test_a_failure_after_another_answer_s_end() -> None:
    gate = asyncio.Event()
    failure: list[ChatDelta | BaseException] = [delta("begin "), ModelUnavailable("lost")]
    model = Model(
        lambda index: failure if index else counted(0),
        lambda index, number: gate if (index, number) == (1, 1) else None,
    )
    async with aclosing(run(model, 2)) as pieces:
        begin = [await anext(pieces) for _ in range(4)]
        assert of(begin, 0) == counted(0)
        gate.set()
        with pytest.raises(ModelUnavailable):
            await anext(pieces)


async def test_an_answer_that_is_cancelled_from_below_does_not_seem_whole() -> None:
    """As when Ray cancels a call that nobody here has cancelled."""
    model = Model(lambda index: [delta("begin "), asyncio.CancelledError()] if index == 1 else counted(index))
    with pytest.raises((ModelUnavailable, asyncio.CancelledError)):
        await collected(model, 2)


# Leaving


@pytest.mark.parametrize("num_read", [1, 2, 4])
async def test_closing_ends_every_answer(num_read: int) -> None:
    gate = gates()
    model = Model(gate=gate)
    pieces = run(model)
    for index, number in [(0, 0), (1, 0), (1, 1), (2, 0)][:num_read]:
        gate(index, number).set()
        await anext(pieces)
    assert model.writing == {0, 1, 2}
    await pieces.aclose()
    assert model.writing == set()
    assert sorted(model.left) == [0, 1, 2]


async def test_cancelling_its_reader_ends_every_answer() -> None:
    never = asyncio.Event()
    model = Model(gate=lambda index, number: never if number else None)
    reader = asyncio.create_task(collected(model))
    await settle()
    assert model.writing == {0, 1, 2}
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert model.writing == set()


async def test_closing_waits_until_the_models_have_let_go() -> None:
    let_go = []

    class Slow(Model):
        async def generate(self, *asked: Any) -> AsyncGenerator[ChatDelta, None]:
            try:
                async with aclosing(super().generate(*asked)) as pieces:
                    async for piece in pieces:
                        yield piece
            finally:
                await asyncio.sleep(0.01)
                let_go.append(asked[1].seed)

    never = asyncio.Event()
    pieces = run(Slow(gate=lambda index, number: never if number else None))
    await anext(pieces)
    await settle()
    await pieces.aclose()
    assert sorted(let_go) == [SEED, SEED + 1, SEED + 2]


async def test_who_never_reads_asks_nobody() -> None:
    model = Model()
    pieces = run(model)
    await pieces.aclose()
    await settle()
    assert model.asked == []


async def test_two_runs_do_not_mix() -> None:
    pipeline = ChatPipeline(Model())

    async def texts(seed: int) -> list[str]:
        pieces = [piece async for piece in pipeline.run(MESSAGES, replace(OPTIONS, seed=seed), 2, True)]
        return [join_deltas(of(pieces, index)).text for index in range(2)]

    first, second = await asyncio.gather(texts(SEED), texts(SEED + 10))
    assert first == ["0.0 0.1 0.2 ", "1.0 1.1 1.2 "]
    assert second == ["10.0 10.1 10.2 ", "11.0 11.1 11.2 "]
