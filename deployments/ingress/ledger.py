"""What keys have used in the last hour, by minutes: at this ingress replica, and at its peers as they last told.

Minutes are those of the wall clock, so all replicas mean the same ones. One that has passed is never written again: a
replica tells only what is new, and to hear it twice changes nothing.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import uuid4

Unit = Literal["requests", "audio_s"]
Account = tuple[str, Unit]
"""A key's name, and what is counted of it."""

SLOT_S = 60
WINDOW_S = 3_600


@dataclass(frozen=True, slots=True)
class Report:
    """origin: the replica that tells. amounts: of each account, by minutes since 1970."""

    origin: str
    amounts: Mapping[Account, Mapping[int, float]]


class Ledger:
    """A minute counts until an hour after its end, so that no hour at all holds more than a limit."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since 1970."""
        self._clock = clock
        self._origin = uuid4().hex
        self._amounts: dict[str, dict[Account, dict[int, float]]] = {self._origin: {}}
        self._tidied_in = self.current_slot

    @property
    def current_slot(self) -> int:
        return int(self._clock() // SLOT_S)

    def add(self, account: Account, amount: float) -> None:
        self._tidy()
        slots = self._amounts[self._origin].setdefault(account, {})
        slots[self.current_slot] = slots.get(self.current_slot, 0.0) + amount

    def used(self, account: Account) -> float:
        return sum(amount for _, amount in self._slots(account))

    def until_below_s(self, account: Account, limit: float) -> float:
        """Seconds until less than `limit` is in use, if nothing is added."""
        now = free_at = self._clock()
        left = self.used(account)
        for slot, amount in self._slots(account):
            if left < limit:
                break
            left -= amount
            free_at = (slot + 1) * SLOT_S + WINDOW_S
        return free_at - now

    def report(self, since_slot: int) -> Report:
        """What was used here in that minute and later."""
        return Report(self._origin, _since(since_slot, self._amounts[self._origin]))

    def hear(self, reports: Iterable[Report]) -> None:
        for report in reports:
            if report.origin != self._origin:
                known = self._amounts.setdefault(report.origin, {})
                for account, slots in report.amounts.items():
                    known.setdefault(account, {}).update(slots)
        self._tidy()

    def _slots(self, account: Account) -> list[tuple[int, float]]:
        """Those that count, the oldest first; a minute may be there for each replica."""
        told = (amounts.get(account, {}) for amounts in self._amounts.values())
        return sorted((slot, amount) for slots in told for slot, amount in slots.items() if slot >= self._oldest)

    @property
    def _oldest(self) -> int:
        return int((self._clock() - WINDOW_S) // SLOT_S)

    def _tidy(self) -> None:
        """Once a minute: what counts no more, and with it replicas that are gone."""
        if self.current_slot == self._tidied_in:
            return
        self._tidied_in = self.current_slot
        kept = {origin: _since(self._oldest, amounts) for origin, amounts in self._amounts.items()}
        self._amounts = {origin: amounts for origin, amounts in kept.items() if amounts or origin == self._origin}


def _since(first: int, amounts: Mapping[Account, Mapping[int, float]]) -> dict[Account, dict[int, float]]:
    recent = {
        account: {slot: amount for slot, amount in slots.items() if slot >= first} for account, slots in amounts.items()
    }
    return {account: slots for account, slots in recent.items() if slots}
