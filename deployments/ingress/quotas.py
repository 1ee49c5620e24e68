"""How much a key may ask for in an hour, over all ingress replicas together.

Each replica counts what passes it, and learns what its peers have counted while it is asked itself, at most once in
`EXCHANGE_S`. No request waits for that: a limit may be overshot by what the peers admit meanwhile.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from math import ceil

from starlette.requests import Request

from deployments.ingress.http.keys import ApiKey
from deployments.ingress.http.rate_headers import RateLimit
from deployments.ingress.ledger import Account, Ledger, Report
from deployments.ingress.metrics import IngressMetrics
from pipelines.errors import Overloaded

EXCHANGE_S = 1.0
AskPeers = Callable[[int], Awaitable[Collection[Report | None]]]
"""What the replicas have counted since a minute of the ledger's; None of each that does not answer."""

CLOCKS_DIFFER_SLOTS = 1


class Quotas:
    """Whoever needs no key, None, is neither limited nor counted."""

    def __init__(
        self, metrics: IngressMetrics, ledger: Ledger | None = None, ask_peers: AskPeers | None = None
    ) -> None:
        self._metrics = metrics
        self._ledger = ledger or Ledger()
        self._ask_peers = ask_peers
        self._heard_up_to = 0
        self._exchanged_at = float("-inf")
        self._exchange: asyncio.Task[None] | None = None

    def take_request(self, key: ApiKey | None) -> None:
        """
        Raises:
            Overloaded: the key has none left in this hour; this one is not counted.
        """
        if key is None:
            return
        if key.requests_per_hour is not None:
            self._exchange_soon()
            wait_s = self._ledger.until_below_s((key.name, "requests"), key.requests_per_hour)
            if wait_s > 0:
                raise self._refusal(key, "requests", f"{key.requests_per_hour} requests", wait_s)
            self._ledger.add((key.name, "requests"), 1)
        self._metrics.key_requests.labels(key.name).inc()

    def give_back_request(self, key: ApiKey | None) -> None:
        """It was refused for want of room, and will come again. This minute has one less: peers may have heard of that
        in which it was taken, and would not ask for it again."""
        if key is not None and key.requests_per_hour is not None:
            self._ledger.add((key.name, "requests"), -1)

    def check_audio(self, key: ApiKey | None) -> None:
        """
        Raises:
            Overloaded: the key has used up its minutes of this hour.
        """
        if key is None or key.audio_minutes_per_hour is None:
            return
        self._exchange_soon()
        wait_s = self._ledger.until_below_s((key.name, "audio_s"), key.audio_minutes_per_hour * 60)
        if wait_s > 0:
            raise self._refusal(key, "audio", f"{key.audio_minutes_per_hour:g} minutes of audio", wait_s)

    def charge_audio(self, key: ApiKey | None, seconds: float) -> None:
        """For what was heard, also where it is more than was left: how long audio is shows when it is decoded."""
        if key is None:
            return
        if key.audio_minutes_per_hour is not None:
            self._ledger.add((key.name, "audio_s"), seconds)
        self._metrics.key_audio_seconds.labels(key.name).inc(seconds)

    def give_back_audio(self, key: ApiKey | None, seconds: float) -> None:
        """So many were charged, and nothing of them was heard."""
        if key is not None and key.audio_minutes_per_hour is not None:
            self._ledger.add((key.name, "audio_s"), -seconds)

    def count_refusal(self, key: ApiKey | None, limit: str) -> None:
        if key is not None:
            self._metrics.key_refusals.labels(key.name, limit).inc()

    def rate_limit(self, key: ApiKey | None) -> RateLimit | None:
        if key is None or key.requests_per_hour is None:
            return None
        account: Account = (key.name, "requests")
        left = key.requests_per_hour - round(self._ledger.used(account))
        return RateLimit(key.requests_per_hour, max(left, 0), self._ledger.until_below_s(account, 1))

    def report(self, since_slot: int) -> Report:
        return self._ledger.report(since_slot)

    def _refusal(self, key: ApiKey, limit: str, what: str, wait_s: float) -> Overloaded:
        self.count_refusal(key, limit)
        message = f"The API key '{key.name}' has used up its {what} in an hour. Try again in {ceil(wait_s)} s."
        return Overloaded(message, wait_s)

    def _exchange_soon(self) -> None:
        is_running = self._exchange is not None and not self._exchange.done()
        now = asyncio.get_running_loop().time()
        if self._ask_peers is not None and not is_running and now - self._exchanged_at >= EXCHANGE_S:
            self._exchanged_at = now
            self._exchange = asyncio.create_task(self._hear_peers(self._ask_peers))

    async def _hear_peers(self, ask_peers: AskPeers) -> None:
        """What peers counted before the question is in their answers, so the next one begins with its minute; but where
        one is silent, with the same as this: it may come back and tell what it had counted."""
        asked_in = self._ledger.current_slot
        reports = await ask_peers(self._heard_up_to - CLOCKS_DIFFER_SLOTS)
        self._ledger.hear(report for report in reports if report is not None)
        if None not in reports:
            self._heard_up_to = asked_in


def counted(quotas: Quotas, hears: bool) -> Callable[[Request], AsyncGenerator[None, None]]:
    """A dependency of routes behind `require_key`: the request is counted, or refused, before its body is read. One for
    which the route then finds no room has used up nothing. (What goes wrong behind the head of a stream is told in it,
    and never comes here.)

    Args:
        hears: it is always about audio, so who has no minutes left is refused as well.
    """

    async def count(request: Request) -> AsyncGenerator[None, None]:
        key = request.state.api_key
        try:
            if hears:
                quotas.check_audio(key)
            quotas.take_request(key)
        finally:
            request.state.rate_limit = quotas.rate_limit(key)
        try:
            yield
        except Overloaded:
            quotas.give_back_request(key)
            request.state.rate_limit = quotas.rate_limit(key)
            raise

    return count
