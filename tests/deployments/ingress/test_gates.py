"""Who is let in to a model, and when the others shall come again."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import count, pairwise

import httpx
import pytest

from deployments.ingress.gates import MAX_ANSWERS, MAX_RETRY_AFTER_S, Gate, Gates
from pipelines.errors import Overloaded
from pipelines.transcript_types import Work
from tests.support.api import CHAT_MODEL, MODEL, api
from tests.support.clock import Clock

PLACES = 8
ANSWER_S = 1.0


def gate_at(clock: Clock, rows_per_s: float = 8.0, max_wait_s: float = 4.0) -> Gate:
    """That has seen so many rows a second, in full batches."""
    gate = Gate(max_wait_s, clock)
    with gate.enter(PLACES + 1):
        for _ in range(101):  # only the first answer tells how many places there are
            clock.now += 1 / rows_per_s
            gate.observe(Work(0.0, PLACES / rows_per_s, PLACES, PLACES))
    return gate


def fill(gate: Gate, held: ExitStack) -> int:
    """How many are let in."""
    for number in count():
        try:
            held.enter_context(gate.enter())
        except Overloaded:
            return number
    raise AssertionError


def test_who_would_wait_too_long_is_refused() -> None:
    gate = gate_at(Clock())
    with ExitStack() as held:
        assert fill(gate, held) == PLACES + 4 * 8
        assert gate.wait_s == pytest.approx(4, abs=0.2)
    assert gate.wait_s == 0


def test_a_batch_is_always_filled() -> None:
    with ExitStack() as held:
        assert fill(gate_at(Clock(), rows_per_s=0.01, max_wait_s=0), held) >= PLACES


def test_some_answers_time_may_be_waited_for_however_long_they_are() -> None:
    with ExitStack() as held:
        assert fill(gate_at(Clock(), rows_per_s=0.1), held) == (1 + MAX_ANSWERS) * PLACES


def test_a_request_counts_by_what_it_brings() -> None:
    gate = gate_at(Clock())
    with gate.enter() as visit:
        visit.expects(16)
        assert gate.wait_s == pytest.approx((16 + 1 - PLACES) / 8, rel=0.05)
        visit.expects(0)
        assert gate.wait_s == 0
    with gate.enter(20):
        assert gate.wait_s == pytest.approx((20 + 1 - PLACES) / 8, rel=0.05)


def test_nobody_is_refused_before_anything_is_known() -> None:
    gate = Gate(0.0)
    with ExitStack() as held:
        for _ in range(500):
            held.enter_context(gate.enter())


def test_who_leaves_by_an_error_makes_room() -> None:
    gate = gate_at(Clock())
    with pytest.raises(ZeroDivisionError), gate.enter(500):
        raise ZeroDivisionError
    assert gate.wait_s == 0


@pytest.mark.parametrize(
    "work",
    [Work(0.0, 1.0, 1.0, PLACES, is_urgent=True), Work(0.0, 0.0, 0.0)],
    ids=["of a realtime turn", "known to a cache"],
)
def test_what_goes_before_others_is_no_pace_of_theirs(work: Work) -> None:
    clock = Clock()
    gate = gate_at(clock)
    with gate.enter(PLACES + 7):
        for _ in range(1000):
            gate.observe(work)
        assert gate.wait_s == pytest.approx(1, rel=0.05)


def test_the_pace_of_few_is_not_that_of_a_batch() -> None:
    """One client has asked one after the other; then many come."""
    clock = Clock()
    gate = Gate(4.0, clock)
    for _ in range(20):
        with gate.enter():
            clock.now += 3.0
            gate.observe(Work(0.0, 3.0, 1.0, PLACES))
    with ExitStack() as held:
        assert fill(gate, held) == pytest.approx((1 + MAX_ANSWERS) * PLACES, abs=1)


def test_what_a_model_took_to_load_is_not_its_pace() -> None:
    clock = Clock()
    gate = gate_at(clock)
    with gate.enter(PLACES + 7):
        clock.now += 90.0
        gate.observe(Work(0.5, 1.0, PLACES, PLACES))
        assert gate.wait_s == pytest.approx(1, rel=0.3)


def test_many_who_come_at_once_are_not_taken_for_slow_ones() -> None:
    """A batch gathers row by row, and its first answer comes when nearly all of them are due."""
    clock = Clock()
    gate = Gate(8.0, clock)
    with gate.enter():
        clock.now += 0.9
        gate.observe(Work(0.0, 0.9, 1.0, PLACES))
    with gate.enter(2 * PLACES):
        clock.now += 6.6
        gate.observe(Work(2.2, 4.4, PLACES, PLACES))
        assert gate.wait_s < 8.0


def test_more_replicas_are_found_out() -> None:
    """Of four, each of which takes a second for a batch."""
    clock = Clock()
    gate = Gate(4.0, clock)
    with gate.enter(4 * PLACES):
        for _ in range(20 * 4 * PLACES):
            clock.now += 1 / (4 * PLACES)
            gate.observe(Work(0.0, 1.0, PLACES, PLACES))
    with ExitStack() as held:
        assert fill(gate, held) == pytest.approx(PLACES + 4 * 4 * PLACES, rel=0.05)


def test_everybody_who_is_refused_gets_a_time_of_its_own() -> None:
    gate = gate_at(Clock())
    with gate.enter(60):
        times = []
        for _ in range(300):
            with pytest.raises(Overloaded) as refused, gate.enter():
                pass
            times.append(refused.value.retry_after_s)
    apart = [later - sooner for sooner, later in pairwise(times)]
    assert apart[:50] == pytest.approx([1 / 8] * 50, rel=0.1)
    assert times[-1] == MAX_RETRY_AFTER_S


def test_each_model_has_a_gate_of_its_own() -> None:
    gates = Gates(4.0)
    assert gates["a"] is gates["a"]
    assert gates["a"] is not gates["b"]


async def refused_and_let_in(model: str, ask: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]) -> None:
    """While the model is full, and when it is not any more; whoever was in has left."""
    gates = Gates(0.0)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(api(gates=gates)), base_url="http://auricle")
    with gates[model].enter(500):
        await asyncio.sleep(0.01)
        gates[model].observe(Work(0.0, 0.01, 1.0, PLACES))
        refused = await ask(client)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= MAX_RETRY_AFTER_S
    answered = await ask(client)
    assert answered.status_code == 200
    assert gates[model].wait_s == 0
    with ExitStack() as held:
        for _ in range(PLACES):
            held.enter_context(gates[model].enter())


@pytest.mark.parametrize("stream", ["false", "true"])
async def test_transcriptions_are_refused_at_once(stream: str) -> None:
    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        fields = {"model": MODEL, "stream": stream}
        return await client.post("/v1/audio/transcriptions", files={"file": b"audio"}, data=fields)

    await refused_and_let_in(MODEL, ask)


@pytest.mark.parametrize("stream", [False, True])
async def test_chats_are_refused_at_once(stream: bool) -> None:
    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        chat = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
        return await client.post("/v1/chat/completions", json=chat)

    await refused_and_let_in(CHAT_MODEL, ask)


def test_under_ten_times_overload_answers_take_three_times_as_long_at_most() -> None:
    """A batch in which each row takes a second, in which 80 clients want a place; who is refused comes again when told
    to. Nobody who is let in waits longer than allowed, and no place stays empty."""
    clock = Clock()
    gate = gate_at(clock, PLACES / ANSWER_S, max_wait_s=0.0)
    events = [(clock.now, number, "come") for number in range(80)]
    numbers, waiting, taken, num_refused = count(80), list[tuple[float, ExitStack]](), list[float](), 0
    end_s = clock.now + 120

    aboard: dict[int, tuple[float, ExitStack]] = {}

    def happens(when: float, what: str) -> int:
        number = next(numbers)
        heapq.heappush(events, (when, number, what))
        return number

    def board() -> None:
        while waiting and len(aboard) < PLACES:
            aboard[happens(clock.now + ANSWER_S, "leave")] = waiting.pop(0)

    while events and events[0][0] < end_s:
        clock.now, number, what = heapq.heappop(events)
        if what == "come":
            held = ExitStack()
            try:
                held.enter_context(gate.enter())
            except Overloaded as refused:
                num_refused += 1
                happens(clock.now + max(refused.retry_after_s, 1.0), "come")
            else:
                waiting.append((clock.now, held))
        else:
            came_at, held = aboard.pop(number)
            gate.observe(Work(0.0, ANSWER_S, PLACES, PLACES))
            held.close()
            taken.append(clock.now - came_at)
            happens(clock.now, "come")
        board()
    assert max(taken) <= 3 * ANSWER_S + 0.1
    assert len(taken) >= 0.97 * 120 * PLACES / ANSWER_S
    assert 0 < num_refused < 3 * len(taken)
