"""How much audio a replica has to work off, and how fast it says that it does."""

import pytest

from deployments.backlog import ARRIVING, AUDIO, LENGTH, MEMORY_S, SPEED, WINDOW_S, Backlog
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backlog(clock: Clock) -> Backlog:
    return Backlog(clock)


def work(backlog: Backlog, clock: Clock, audio_s: float, seconds: float) -> None:
    with backlog.holding(audio_s):
        clock.now += seconds


def test_nothing_is_known_before_something_is_done(backlog: Backlog, clock: Clock) -> None:
    assert backlog.stats() == {AUDIO: 0, ARRIVING: 0}
    with backlog.holding(30):
        clock.now += 5
        assert backlog.stats().keys() == {AUDIO, ARRIVING}


def test_it_is_idle_from_when_the_last_call_ends(backlog: Backlog, clock: Clock) -> None:
    clock.now += 7
    assert backlog.idle_s == 7
    with backlog.holding(30):
        work(backlog, clock, 30, 5)
        assert backlog.idle_s == 0
        clock.now += 2
    clock.now += 3
    assert backlog.idle_s == 3


def test_who_asks_and_makes_no_work_tells_nothing_of_speed(backlog: Backlog, clock: Clock) -> None:
    work(backlog, clock, 30, 3)
    clock.now += 7
    before = backlog.stats()
    backlog.touch()
    assert backlog.stats() == before
    clock.now += 2
    assert backlog.idle_s == 2


def test_what_is_held_is_counted_until_it_ends(backlog: Backlog) -> None:
    with backlog.holding(0.1), backlog.holding(0.2), backlog.holding(600):
        assert backlog.stats()[AUDIO] == pytest.approx(600.3)
    assert backlog.stats()[AUDIO] == 0  # exactly: the least bit would keep a replica awake


def test_speed_is_of_the_replica_and_of_the_time_in_which_it_had_work(backlog: Backlog, clock: Clock) -> None:
    clock.now += 1000
    with backlog.holding(30):
        work(backlog, clock, 10, 4)  # two share a batch
    clock.now += 1000
    stats = backlog.stats()
    assert (stats[SPEED], stats[LENGTH]) == pytest.approx((10, 20))


def test_a_long_call_does_not_look_slower_while_it_lasts(backlog: Backlog, clock: Clock) -> None:
    work(backlog, clock, 600, 300)
    with backlog.holding(600):
        clock.now += 299
        assert backlog.stats()[SPEED] == pytest.approx(2)
        clock.now += 1
    assert backlog.stats()[SPEED] == pytest.approx(2)


def test_what_fails_is_neither_held_nor_done(backlog: Backlog, clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError), backlog.holding(500):
        raise ZeroDivisionError
    assert backlog.stats().keys() == {AUDIO, ARRIVING}
    assert backlog.stats()[AUDIO] == 0
    work(backlog, clock, 30, 3)
    assert backlog.stats()[SPEED] == pytest.approx(10)


def test_a_new_speed_takes_the_old_one_s_place(backlog: Backlog, clock: Clock) -> None:
    for _ in range(100):
        work(backlog, clock, 10, 1)
    assert backlog.stats()[SPEED] == pytest.approx(10)
    for _ in range(round(5 * MEMORY_S)):
        work(backlog, clock, 40, 1)
    assert backlog.stats()[SPEED] == pytest.approx(40, rel=0.02)
    assert backlog.stats()[LENGTH] == pytest.approx(40, rel=0.02)


def test_what_comes_is_told_by_the_second_and_forgotten_when_nothing_comes(backlog: Backlog, clock: Clock) -> None:
    for _ in range(round(WINDOW_S)):
        work(backlog, clock, 10, 0.25)
        clock.now += 1.75
    assert backlog.stats()[ARRIVING] == pytest.approx(5, rel=0.05)
    clock.now += WINDOW_S
    assert backlog.stats()[ARRIVING] == 0  # exactly, so that the last replica may go
    assert backlog.stats()[SPEED] == pytest.approx(40)  # of what it did when it worked
