"""A key's limits over three ingress replicas, which share what they count."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import psutil

from tests.conftest import Server
from tests.serve.conftest import FREE_KEY, LIMITED_KEY, OTHER_LIMITED_KEY, REQUESTS_PER_HOUR
from tests.serve.tools import TIMEOUT_S, assert_refusal, replica_pids, total, wait_until

NUM_INGRESSES = 3
NUM_CLIENTS = 4
NUM_REQUESTS = 60
PACE_S = 0.5
PATIENCE_S = 5.0

# what comes within three seconds, in which the replicas do not know of each other's
OVERSHOT = (NUM_INGRESSES - 1) / NUM_INGRESSES * 3 * NUM_CLIENTS / PACE_S


def ask(server: Server, key: str, sentence: bytes, timeout_s: float = TIMEOUT_S) -> httpx.Response | None:
    """By a client that connects anew each time, so that all are asked. None: no answer in time."""
    time.sleep(PACE_S)
    try:
        return httpx.post(
            f"{server.url}/v1/audio/transcriptions",
            files={"file": ("audio", sentence)},
            data={"model": "nap"},
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout_s,
        )
    except httpx.TimeoutException:
        return None


def until_all_are_there(server: Server) -> set[int]:
    wait_until(lambda: len(replica_pids(server, "ingress")) == NUM_INGRESSES, "all ingresses")
    return replica_pids(server, "ingress")


def test_a_limit_holds_for_all_together(napping: Server, sentence: bytes) -> None:
    until_all_are_there(napping)
    with ThreadPoolExecutor(NUM_CLIENTS) as clients:
        asked = clients.map(lambda _: ask(napping, LIMITED_KEY, sentence), range(NUM_REQUESTS))
        answers = [answer for answer in asked if answer is not None]
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() == {200, 429}
    assert REQUESTS_PER_HOUR <= statuses[200] <= REQUESTS_PER_HOUR + OVERSHOT
    assert answers[-1].headers["x-ratelimit-limit-requests"] == str(REQUESTS_PER_HOUR)
    assert answers[-1].headers["x-ratelimit-remaining-requests"] == "0"
    assert_refusal(answers[-1], 429, "rate_limit_exceeded")

    def all_are_counted() -> bool:  # an ingress that is late with its numbers is left out of them
        refusals = total(napping, "auricle_key_refusals_total", key="limited", limit="requests")
        return (total(napping, "auricle_key_requests_total", key="limited"), refusals) == (statuses[200], statuses[429])

    wait_until(all_are_counted, "the numbers of all ingresses", 20)


def test_the_others_hear_each_other_while_one_hangs(napping: Server, sentence: bytes) -> None:
    hanging = psutil.Process(until_all_are_there(napping).pop())
    assert ask(napping, FREE_KEY, sentence) is not None  # the model is loaded, if it was not
    hanging.suspend()
    try:
        with ThreadPoolExecutor(NUM_CLIENTS) as clients:
            asked = clients.map(lambda _: ask(napping, OTHER_LIMITED_KEY, sentence, PATIENCE_S), range(NUM_REQUESTS))
            statuses = Counter(answer.status_code for answer in asked if answer is not None)
    finally:
        with suppress(psutil.NoSuchProcess):  # Serve may have replaced it
            hanging.resume()
    assert statuses.keys() == {200, 429}
    # each of the two alone would let through what the limit is
    assert REQUESTS_PER_HOUR <= statuses[200] <= REQUESTS_PER_HOUR + OVERSHOT
