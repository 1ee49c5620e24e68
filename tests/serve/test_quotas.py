"""A key's limits over two ingress replicas, which share what they count."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.conftest import Server
from tests.serve.conftest import LIMITED_KEY, REQUESTS_PER_HOUR
from tests.serve.tools import TIMEOUT_S, assert_refusal, replica_pids, total, wait_until

NUM_CLIENTS = 4
NUM_REQUESTS = 60
PACE_S = 0.5


def test_a_limit_holds_for_both_together(napping: Server, sentence: bytes) -> None:
    """Clients that connect anew each time, so that both are asked."""
    wait_until(lambda: len(replica_pids(napping, "ingress")) == 2, "two ingresses")

    def ask(number: int) -> httpx.Response:
        time.sleep(PACE_S)
        return httpx.post(
            f"{napping.url}/v1/audio/transcriptions",
            files={"file": ("audio", sentence)},
            data={"model": "nap"},
            headers={"Authorization": f"Bearer {LIMITED_KEY}"},
            timeout=TIMEOUT_S,
        )

    with ThreadPoolExecutor(NUM_CLIENTS) as clients:
        answers = list(clients.map(ask, range(NUM_REQUESTS)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() == {200, 429}
    # what comes within a second or two while the replicas do not know of each other's
    assert REQUESTS_PER_HOUR <= statuses[200] <= REQUESTS_PER_HOUR + 3 * NUM_CLIENTS / PACE_S / 2
    assert answers[-1].headers["x-ratelimit-limit-requests"] == str(REQUESTS_PER_HOUR)
    assert answers[-1].headers["x-ratelimit-remaining-requests"] == "0"
    assert_refusal(answers[-1], 429, "rate_limit_exceeded")
    assert total(napping, "auricle_key_requests_total", key="limited") == statuses[200]
    assert total(napping, "auricle_key_refusals_total", key="limited", limit="requests") == statuses[429]
