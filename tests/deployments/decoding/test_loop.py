import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from deployments.decoding.loop import MAX_FAILED_STEPS, EngineLoop
from deployments.engines import StepOutput
from pipelines.errors import AudioServerError, ModelUnavailable, Overloaded, UnsupportedLanguage
from pipelines.transcript_types import Work


@dataclass
class CountingEngine:
    """A request is the number of steps that it takes; its answer repeats it. `allow` lets one step happen."""

    is_gated: bool = False
    allow: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    aboard: dict[str, tuple[int, int]] = field(default_factory=dict)
    batch_sizes: list[int] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def add(self, request_id: str, num_steps: Any) -> None:
        self.threads.add(threading.get_ident())
        if isinstance(num_steps, Exception):
            raise num_steps
        self.aboard[request_id] = (num_steps, num_steps)

    def step(self) -> list[StepOutput[Any]]:
        self.threads.add(threading.get_ident())
        if self.is_gated:
            assert self.allow.acquire(timeout=60)
        self.batch_sizes.append(len(self.aboard))
        if any(num_steps < 0 for num_steps, _ in self.aboard.values()):
            raise RuntimeError("the model broke")
        self.aboard = {id: (asked, left - 1) for id, (asked, left) in self.aboard.items()}
        done = [StepOutput(id, asked) for id, (asked, left) in self.aboard.items() if left <= 0]
        for output in done:
            del self.aboard[output.request_id]
        return done

    def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)
        self.aboard.pop(request_id, None)


@asynccontextmanager
async def looping(
    engine: Any, max_batch_size: int = 4, max_step_s: float = 60, is_serial: bool = False
) -> AsyncIterator[EngineLoop[int]]:
    loop: EngineLoop[int] = EngineLoop(engine, max_batch_size, max_step_s, is_serial)
    try:
        yield loop
    finally:
        if hasattr(engine, "allow"):
            engine.is_gated = False
            engine.allow.release(10_000)
        await asyncio.to_thread(loop.stop)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does; the test's own timeout ends it."""
    while not condition():
        await asyncio.sleep(0.001)


def submit(loop: EngineLoop[int], *requests: Any) -> list["asyncio.Task[tuple[int, Work]]"]:
    return [asyncio.create_task(loop.run(request)) for request in requests]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def batch_sizes(work: Iterator[Work]) -> list[float]:
    return [one.mean_batch_size for one in work]


async def test_everybody_gets_their_own_answer() -> None:
    async with looping(CountingEngine(), 3) as loop:
        answers = await asyncio.gather(*(loop.run(number) for number in range(1, 40)))
    assert [result for result, _ in answers] == list(range(1, 40))


async def test_the_batch_limit_is_obeyed_and_reached() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine, 3) as loop:
        tasks = submit(loop, *[5] * 10)
        await settle()
        engine.is_gated = False
        engine.allow.release()
        await asyncio.gather(*tasks)
    assert max(engine.batch_sizes) == 3


async def test_a_new_limit_holds_from_the_next_step() -> None:
    engine = CountingEngine()
    async with looping(engine, 1) as loop:
        await asyncio.gather(*submit(loop, *[2] * 4))
        assert set(engine.batch_sizes) == {1}
        loop.max_batch_size = 4
        await asyncio.gather(*submit(loop, *[50] * 8))
    assert max(engine.batch_sizes) == 4


async def test_a_lower_limit_lets_those_aboard_finish() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine, 4) as loop:
        tasks = submit(loop, 3, 3, 3, 3)
        await until(lambda: bool(engine.aboard))
        engine.allow.release()
        await until(lambda: len(engine.aboard) == 4 and len(engine.batch_sizes) == 1)
        loop.max_batch_size = 2
        tasks += submit(loop, 3, 3)
        engine.allow.release(100)
        assert [result for result, _ in await asyncio.gather(*tasks)] == [3] * 6
    assert max(engine.batch_sizes[5:], default=0) <= 2


async def test_who_has_a_head_start_boards_first_but_not_before_who_waits_for_longer_than_that() -> None:
    engine = CountingEngine(is_gated=True)
    order = []

    async def ask(loop: EngineLoop[int], number: int, head_start_s: float) -> None:
        order.append((await loop.run(number, head_start_s=head_start_s))[0])

    async with looping(engine, 1) as loop:
        (aboard,) = submit(loop, 1)
        await until(lambda: bool(engine.aboard))
        head_starts = {2: 0.2, 3: 0.0, 4: 0.0}
        waiting = [asyncio.create_task(ask(loop, number, head_start_s)) for number, head_start_s in head_starts.items()]
        await asyncio.sleep(0.3)
        waiting += [asyncio.create_task(ask(loop, 5, 0.0)), asyncio.create_task(ask(loop, 6, 0.2))]
        await settle()
        engine.allow.release(100)
        await asyncio.gather(aboard, *waiting)
    assert order == [2, 3, 4, 6, 5]


async def test_one_joins_in_a_step_where_joining_delays_the_others() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine, 4, is_serial=True) as loop:
        tasks = submit(loop, *[6] * 6)
        await settle()
        engine.allow.release(100)
        await asyncio.gather(*tasks)
    assert engine.batch_sizes[:5] == [1, 2, 3, 4, 4]


async def test_only_who_is_as_urgent_joins_somebody_urgent_where_joining_delays_the_others() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine, 4, is_serial=True) as loop:
        urgent = asyncio.create_task(loop.run(3, head_start_s=0.3))
        await until(lambda: bool(engine.aboard))
        others = [asyncio.create_task(loop.run(1, head_start_s=head_start_s)) for head_start_s in (0.0, 0.2)]
        others.append(asyncio.create_task(loop.run(2, head_start_s=0.3)))
        await settle()
        engine.allow.release(100)
        await asyncio.gather(urgent, *others)
    assert engine.batch_sizes == [1, 2, 2, 1, 1]


async def test_somebody_joins_while_others_are_aboard() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine) as loop:
        (first,) = submit(loop, 3)
        await until(lambda: len(engine.aboard) == 1)
        (second,) = submit(loop, 1)
        await settle()
        engine.allow.release(2)
        assert (await second)[0] == 1
        assert not first.done()
        engine.allow.release()
        assert (await first)[0] == 3


async def test_the_engine_is_touched_by_one_thread_only_which_is_not_the_event_loop_s() -> None:
    engine = CountingEngine()
    async with looping(engine) as loop:
        await asyncio.gather(*submit(loop, 1, 2, 3))
    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads


async def test_the_event_loop_goes_on_while_the_engine_works() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine) as loop:
        (task,) = submit(loop, 1)
        await until(lambda: len(engine.aboard) == 1)
        for _ in range(1_000):  # the step hangs at its gate all the while
            await asyncio.sleep(0)
        assert not task.done()
        engine.allow.release()
        assert (await task)[0] == 1


async def test_work_tells_what_it_cost() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine, 2) as loop:
        (first,) = submit(loop, 2)
        await until(lambda: len(engine.aboard) == 1)
        (second,) = submit(loop, 1)
        await settle()
        engine.allow.release(2)
        works = [work for _, work in await asyncio.gather(first, second)]
    assert batch_sizes(iter(works)) == [1.5, 2.0]
    assert all(work.queue_s >= 0 and work.model_s >= 0 for work in works)


async def test_cancelling_takes_a_request_out_before_the_next_step() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine) as loop:
        leaving, staying = submit(loop, 1_000_000, 3)
        await until(lambda: bool(engine.aboard))
        engine.allow.release()
        await until(lambda: len(engine.aboard) == 2)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        engine.allow.release()  # the step that was under way
        await until(lambda: engine.aborted == ["0"])
        assert list(engine.aboard) == ["1"]
        engine.allow.release(10)
        assert (await staying)[0] == 3


async def test_cancelling_who_waits_never_reaches_the_engine() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine, 1) as loop:
        first, waiting, last = submit(loop, 2, 2, 2)
        await until(lambda: len(engine.aboard) == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        engine.allow.release(100)
        await asyncio.gather(first, last)
    assert engine.aborted == []
    assert len(engine.batch_sizes) == 4


async def test_a_cancelled_place_is_free_at_once() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine, 1) as loop:
        leaving, waiting = submit(loop, 1_000_000, 1)
        await until(lambda: len(engine.aboard) == 1)
        leaving.cancel()
        await settle()
        engine.allow.release(2)
        assert (await waiting)[0] == 1
    assert len(engine.batch_sizes) == 2


async def test_many_come_and_go() -> None:
    async with looping(CountingEngine(), 8) as loop:
        tasks = submit(loop, *(1 + number % 7 for number in range(300)))
        for task in tasks[::3]:
            await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(
            isinstance(result, asyncio.CancelledError) or result[0] == 1 + number % 7  # type: ignore[index]
            for number, result in enumerate(results)
        )
        assert all(not isinstance(result, BaseException) for i, result in enumerate(results) if i % 3)
        assert (await loop.run(1))[0] == 1


async def test_what_add_refuses_fails_alone() -> None:
    async with looping(CountingEngine()) as loop:
        good, bad, also_good = submit(loop, 3, UnsupportedLanguage("No Klingon."), 3)
        with pytest.raises(UnsupportedLanguage, match="No Klingon"):
            await bad
        assert [(await good)[0], (await also_good)[0]] == [3, 3]


async def test_how_long_it_has_been_idle() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine, 1) as loop:
        await asyncio.sleep(0.5)
        assert loop.idle_s >= 0.5
        aboard, leaving = submit(loop, 1, 5)
        await until(lambda: bool(engine.aboard))
        leaving.cancel()
        await settle()
        assert loop.idle_s == 0
        engine.allow.release(10)
        await aboard
        assert loop.idle_s < 0.5
        await asyncio.sleep(0.5)
        assert loop.idle_s >= 0.5


@pytest.mark.timeout(20)
async def test_an_unexpected_error_in_add_fails_alone() -> None:
    async with looping(CountingEngine()) as loop:
        good, bad = submit(loop, 3, RuntimeError("out of memory"))
        with pytest.raises(ModelUnavailable):
            await asyncio.wait_for(bad, 5)
        assert (await asyncio.wait_for(good, 5))[0] == 3
        assert loop.is_healthy


async def test_a_failed_step_fails_those_aboard_and_the_loop_lives_on() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine, 2) as loop:
        aboard = submit(loop, 5, -1)
        waiting = submit(loop, 1)
        await until(lambda: bool(engine.aboard))
        engine.allow.release(100)
        for task in aboard:
            with pytest.raises(ModelUnavailable):
                await task
        assert (await waiting[0])[0] == 1
        assert loop.is_healthy
        assert engine.aborted == ["0", "1"]
        assert (await loop.run(2))[0] == 2


class StrangerEngine(CountingEngine):
    """Reports somebody who never was aboard."""

    def step(self) -> list[StepOutput[Any]]:
        return [StepOutput("nobody", 0), *super().step()]


@pytest.mark.timeout(20)
async def test_an_output_of_somebody_unknown_leaves_nobody_hanging() -> None:
    async with looping(StrangerEngine()) as loop:
        done, _ = await asyncio.wait(submit(loop, 1), timeout=5)
        assert len(done) == 1


async def test_requests_come_from_several_event_loops() -> None:
    async with looping(CountingEngine()) as loop:

        def in_a_loop_of_its_own(number: int) -> int:
            async def ask() -> int:
                return (await loop.run(number))[0]

            return asyncio.run(ask())

        asked: list[Awaitable[int]] = [asyncio.to_thread(in_a_loop_of_its_own, number) for number in (1, 2, 3)]
        assert await asyncio.gather(*asked) == [1, 2, 3]


async def test_an_engine_that_cannot_take_somebody_out_serves_the_others() -> None:
    class Clinging(CountingEngine):
        def abort(self, request_id: str) -> None:
            super().abort(request_id)
            raise RuntimeError("the engine broke")

    engine = Clinging(is_gated=True)
    async with looping(engine) as loop:
        (leaving,) = submit(loop, 5)
        await until(lambda: len(engine.aboard) == 1)
        staying, failing = submit(loop, 3, -1)
        await settle()
        engine.allow.release()
        await until(lambda: len(engine.aboard) == 3)
        leaving.cancel()
        await settle()
        engine.allow.release(10)
        for task in (staying, failing):  # the step fails, and both are taken out
            with pytest.raises(ModelUnavailable):
                await task
        assert (await loop.run(2))[0] == 2
        assert engine.aborted == ["0", "1", "2"]


async def test_a_stopped_loop_is_not_alive() -> None:
    async with looping(CountingEngine()) as loop:
        assert loop.is_healthy
    assert not loop.is_healthy


# Answers in pieces


@dataclass
class WritingEngine:
    """A request is what it answers, one after the other, one per step: values, an `AudioServerError` that gives it
    up, or another exception, at which the step fails. None is a step without news."""

    is_gated: bool = False
    allow: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    aboard: dict[str, list[Any]] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)
    num_steps: int = 0

    def add(self, request_id: str, *answers: Any) -> None:
        self.aboard[request_id] = list(answers)

    def step(self) -> list[StepOutput[Any]]:
        if self.is_gated:
            assert self.allow.acquire(timeout=60)
        self.num_steps += 1
        outputs = []
        for request_id, answers in self.aboard.items():
            answer = answers.pop(0)
            if isinstance(answer, Exception) and not isinstance(answer, AudioServerError):
                raise answer
            if answer is not None:
                outputs.append(StepOutput(request_id, answer, is_last=not answers))
        self.aboard = {id: answers for id, answers in self.aboard.items() if answers}
        return outputs

    def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)
        self.aboard.pop(request_id, None)


async def streamed(loop: EngineLoop[Any], *answers: Any) -> list[Any]:
    """Everything that comes, and at its end the error if there is one."""
    found: list[Any] = []
    try:
        async for results, _ in loop.stream(*answers):
            assert results
            found += results
    except AudioServerError as error:
        found.append(error)
    return found


async def test_pieces_come_in_order() -> None:
    async with looping(WritingEngine()) as loop:
        requests = [list(range(number, 2 * number)) for number in range(1, 20)]
        assert await asyncio.gather(*(streamed(loop, *request) for request in requests)) == requests


async def test_a_piece_comes_before_the_next_is_written() -> None:
    engine = WritingEngine(is_gated=True)
    async with looping(engine) as loop, aclosing(loop.stream("a", "b")) as answers:
        engine.allow.release()
        assert (await anext(answers))[0] == ["a"]
        assert engine.num_steps == 1
        engine.allow.release()
        assert (await anext(answers))[0] == ["b"]
        with pytest.raises(StopAsyncIteration):
            await anext(answers)


async def test_steps_without_news_wake_nobody() -> None:
    async with looping(WritingEngine()) as loop:
        assert await streamed(loop, None, "a", None, None, "b") == ["a", "b"]


async def test_what_a_slow_consumer_missed_comes_at_once() -> None:
    engine = WritingEngine(is_gated=True)
    async with looping(engine) as loop, aclosing(loop.stream(*"abcdef")) as answers:
        engine.allow.release()
        assert (await anext(answers))[0] == ["a"]
        engine.allow.release(100)
        await until(lambda: not engine.aboard)  # nobody holds the engine up
        assert (await loop.run("other"))[0] == "other"
        assert (await anext(answers))[0] == list("bcdef")


async def test_run_gives_the_last_piece() -> None:
    async with looping(WritingEngine()) as loop:
        assert (await loop.run("a", "b", "c"))[0] == "c"


async def test_work_grows_with_the_pieces() -> None:
    async with looping(WritingEngine()) as loop:
        works = [work async for _, work in loop.stream(*"abcdef")]
    assert [work.model_s for work in works] == sorted(work.model_s for work in works)
    assert len({work.queue_s for work in works}) == 1
    assert {work.mean_batch_size for work in works} == {1.0}


async def test_pieces_come_before_the_error_that_ends_them() -> None:
    """CHT-33"""
    engine = WritingEngine(is_gated=True)
    async with looping(engine) as loop:
        failing = asyncio.create_task(streamed(loop, "a", "b", RuntimeError("the model broke"), "c"))
        await until(lambda: bool(engine.aboard))
        engine.allow.release(3)
        found = await failing
        assert found[:2] == ["a", "b"]
        assert isinstance(found[2], ModelUnavailable)
        assert len(found) == 3


async def test_who_is_given_up_is_given_up_alone() -> None:
    engine = WritingEngine(is_gated=True)
    async with looping(engine) as loop:
        tasks = [
            asyncio.create_task(streamed(loop, *request)) for request in (list("abc"), ["a", Overloaded("no room")])
        ]
        await settle()
        engine.allow.release(100)
        good, given_up = await asyncio.gather(*tasks)
    assert good == list("abc")
    assert given_up[0] == "a"
    assert isinstance(given_up[1], Overloaded)
    assert engine.aborted == []


async def test_a_step_that_does_not_end_is_no_health() -> None:
    engine = CountingEngine(is_gated=True)
    async with looping(engine, max_step_s=0.05) as loop:
        (hanging,) = submit(loop, 1)
        await until(lambda: not loop.is_healthy)
        engine.allow.release(100)
        await hanging
        assert loop.is_healthy  # it was only slow
        await asyncio.sleep(0.1)
        assert loop.is_healthy


async def test_giving_up_is_no_failed_step() -> None:
    async with looping(WritingEngine()) as loop:
        for _ in range(2 * MAX_FAILED_STEPS):
            with pytest.raises(Overloaded):
                await loop.run(Overloaded("no room"))
        assert loop.is_healthy
        for _ in range(MAX_FAILED_STEPS):
            with pytest.raises(ModelUnavailable):
                await loop.run(RuntimeError("the model broke"))
        assert not loop.is_healthy
        assert (await loop.run("a"))[0] == "a"
        assert loop.is_healthy


async def test_closing_takes_a_request_out_within_a_step() -> None:
    engine = WritingEngine(is_gated=True)
    async with looping(engine) as loop:
        staying = asyncio.create_task(streamed(loop, *"abcdef"))
        await until(lambda: bool(engine.aboard))
        leaving = loop.stream(*"x" * 1_000)
        waiting = asyncio.create_task(anext(leaving))
        await settle()  # it waits to board
        engine.allow.release()  # the step that is under way
        await until(lambda: len(engine.aboard) == 2)
        engine.allow.release()
        await waiting
        await leaving.aclose()
        engine.allow.release()
        await until(lambda: engine.aborted == ["1"])
        assert list(engine.aboard) == ["0"]
        engine.allow.release(100)
        assert await staying == list("abcdef")


async def test_cancelling_who_reads_takes_the_request_out() -> None:
    engine = WritingEngine(is_gated=True)
    async with looping(engine) as loop:
        task = asyncio.create_task(streamed(loop, *"x" * 1_000))
        await until(lambda: bool(engine.aboard))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        engine.allow.release(2)
        await until(lambda: engine.aborted == ["0"])
        engine.allow.release(10)
        assert (await loop.run("a"))[0] == "a"


async def test_closing_behind_the_end_takes_nobody_out() -> None:
    engine = WritingEngine()
    async with looping(engine) as loop:
        answers = loop.stream("a")
        assert (await anext(answers))[0] == ["a"]
        await answers.aclose()
        assert (await loop.run("b"))[0] == "b"
    assert engine.aborted == []


async def test_streams_are_read_in_several_event_loops() -> None:
    async with looping(WritingEngine()) as loop:

        def in_a_loop_of_its_own(number: int) -> list[Any]:
            return asyncio.run(streamed(loop, *range(number)))

        asked = [asyncio.to_thread(in_a_loop_of_its_own, number) for number in (2, 5, 9)]
        assert await asyncio.gather(*asked) == [list(range(number)) for number in (2, 5, 9)]


class CountedLoop(asyncio.SelectorEventLoop):
    num_wakes = 0

    def call_soon_threadsafe(self, *args: Any, **options: Any) -> asyncio.Handle:
        self.num_wakes += 1
        return super().call_soon_threadsafe(*args, **options)


async def test_an_event_loop_is_woken_once_per_step_however_many_read() -> None:
    engine = WritingEngine(is_gated=True)
    async with looping(engine, max_batch_size=8) as loop:

        async def read() -> int:
            reading = [asyncio.create_task(streamed(loop, *range(20))) for _ in range(8)]
            await settle()  # all wait to board
            engine.allow.release(1_000)
            assert await asyncio.gather(*reading) == [list(range(20))] * 8
            own = asyncio.get_running_loop()
            assert isinstance(own, CountedLoop)
            return own.num_wakes

        def in_a_counted_loop() -> int:
            with asyncio.Runner(loop_factory=CountedLoop) as runner:
                return runner.run(read())

        num_wakes = await asyncio.to_thread(in_a_counted_loop)
    assert num_wakes == engine.num_steps
