"""An hour's use, by a clock of the test's own."""

import pickle

import pytest

from deployments.ingress.ledger import SLOT_S, WINDOW_S, Account, Ledger, Report
from tests.support.clock import Clock

ANNA: Account = ("anna", "requests")
HER_AUDIO: Account = ("anna", "audio_s")
BEN: Account = ("ben", "requests")
BEGIN_S = 1_000 * SLOT_S


@pytest.fixture
def clock() -> Clock:
    return Clock(BEGIN_S)


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    return Ledger(clock)


def exchange(*ledgers: Ledger, since_slot: int = 0) -> None:
    """Each hears what all of them tell, itself as well, through the wire."""
    reports: list[Report] = pickle.loads(pickle.dumps([ledger.report(since_slot) for ledger in ledgers]))
    for ledger in ledgers:
        ledger.hear(reports)


def test_nothing_is_used(ledger: Ledger) -> None:
    assert ledger.used(ANNA) == 0
    assert ledger.until_below_s(ANNA, 1) == 0


def test_accounts_are_apart(ledger: Ledger) -> None:
    ledger.add(ANNA, 1)
    ledger.add(ANNA, 1)
    ledger.add(HER_AUDIO, 7.5)
    assert (ledger.used(ANNA), ledger.used(HER_AUDIO), ledger.used(BEN)) == (2, 7.5, 0)


def test_what_is_an_hour_old_is_free(clock: Clock, ledger: Ledger) -> None:
    clock.now += 30
    ledger.add(ANNA, 1)
    wait_s = ledger.until_below_s(ANNA, 1)
    assert wait_s == SLOT_S - 30 + WINDOW_S
    clock.now += wait_s - 0.5
    assert ledger.used(ANNA) == 1
    clock.now += 0.5
    assert ledger.used(ANNA) == 0
    assert ledger.until_below_s(ANNA, 1) == 0


def test_enough_must_be_free_and_no_more(clock: Clock, ledger: Ledger) -> None:
    for _ in range(3):
        ledger.add(ANNA, 2)
        clock.now += 600
    now = clock.now
    assert ledger.until_below_s(ANNA, 7) == 0
    assert ledger.until_below_s(ANNA, 6) == BEGIN_S + SLOT_S + WINDOW_S - now
    assert ledger.until_below_s(ANNA, 5) == BEGIN_S + SLOT_S + WINDOW_S - now
    assert ledger.until_below_s(ANNA, 4) == BEGIN_S + 600 + SLOT_S + WINDOW_S - now
    assert ledger.until_below_s(ANNA, 1) == BEGIN_S + 1_200 + SLOT_S + WINDOW_S - now


def test_no_hour_holds_more_than_the_limit(clock: Clock, ledger: Ledger) -> None:
    """Somebody asks every 7 s for five hours, and is let in when there is room."""
    admitted = []
    for _ in range(5 * WINDOW_S // 7):
        if ledger.until_below_s(ANNA, 20) == 0:
            ledger.add(ANNA, 1)
            admitted.append(clock.now)
        clock.now += 7
    assert len(admitted) >= 5 * 20 - 20  # the price of counting by minutes is one of 61
    for first in admitted:
        assert len([at for at in admitted if first <= at < first + WINDOW_S]) <= 20


def test_replicas_add_up_however_often_they_tell(clock: Clock) -> None:
    ledgers = [Ledger(clock) for _ in range(3)]
    for number, ledger in enumerate(ledgers):
        ledger.add(ANNA, number + 1)
    for _ in range(3):
        exchange(*ledgers)
        assert [ledger.used(ANNA) for ledger in ledgers] == [6, 6, 6]
    clock.now += 120
    ledgers[0].add(ANNA, 10)
    exchange(*ledgers, since_slot=ledgers[0].current_slot - 1)
    assert [ledger.used(ANNA) for ledger in ledgers] == [16, 16, 16]
    assert ledgers[2].until_below_s(ANNA, 16) == BEGIN_S + SLOT_S + WINDOW_S - clock.now


def test_only_what_is_new_is_told(clock: Clock, ledger: Ledger) -> None:
    ledger.add(ANNA, 1)
    clock.now += 60
    ledger.add(BEN, 1)
    assert ledger.report(0).amounts.keys() == {ANNA, BEN}
    assert ledger.report(ledger.current_slot).amounts == {BEN: {ledger.current_slot: 1}}
    assert ledger.report(ledger.current_slot + 1).amounts == {}


def test_a_replica_that_is_gone_counts_for_an_hour_and_is_forgotten(clock: Clock, ledger: Ledger) -> None:
    gone = Ledger(clock)
    gone.add(ANNA, 5)
    exchange(ledger, gone)
    del gone
    exchange(ledger)
    assert ledger.used(ANNA) == 5
    clock.now += WINDOW_S + SLOT_S
    ledger.add(BEN, 1)
    assert ledger.used(ANNA) == 0
    assert len(ledger._amounts) == 1


def test_what_is_kept_does_not_grow(clock: Clock, ledger: Ledger) -> None:
    for _ in range(600):
        ledger.add(ANNA, 1)
        clock.now += 60
    assert len(ledger.report(0).amounts[ANNA]) <= 62
