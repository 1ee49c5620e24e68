"""How many bytes of bodies are held at once: by the budget alone, and by requests that wait for one another."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from deployments.ingress.http.body_limit import BodyLimit, ByteBudget
from deployments.settings import LimitsConfig
from pipelines.errors import Overloaded
from tests.support.api import MODEL, api_client
from tests.support.fakes import FakeReader


def test_a_budget_is_shared_and_given_back() -> None:
    budget = ByteBudget(100)
    budget.take(60, 0)
    with pytest.raises(Overloaded):
        budget.take(50, 0)
    budget.take(40, 0)
    budget.give_back(60)
    budget.take(60, 0)


def test_whoever_is_alone_gets_what_it_needs() -> None:
    budget = ByteBudget(100)
    budget.take(150, 0)
    budget.take(50, 150)
    with pytest.raises(Overloaded):
        budget.take(1, 0)
    budget.give_back(200)
    budget.take(1, 0)
    with pytest.raises(Overloaded):
        budget.take(100, 0)


class Holding:
    """An application that reads a body, and answers when it is told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.num_read = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        self.num_read += 1
        await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def unknown_length(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 10):
        yield bytes(10)


@pytest.mark.parametrize("is_length_known", [True, False])
async def test_a_body_beyond_the_budget_is_refused_until_others_are_answered(is_length_known: bool) -> None:
    app = Holding()
    limited = BodyLimit(app, max_bytes=1_000, max_bytes_in_flight=100)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(limited), base_url="http://auricle") as client:

        async def post(size: int) -> int:
            content = bytes(size) if is_length_known else unknown_length(size)
            return (await client.post("/", content=content)).status_code

        first = asyncio.create_task(post(80))
        while not app.num_read:
            await asyncio.sleep(0.001)
        with pytest.raises(Overloaded):  # the API's handlers make an answer of it
            await post(30)
        second = asyncio.create_task(post(20))
        await asyncio.sleep(0.01)
        app.gate.set()
        assert [await first, await second, await post(100)] == [200, 200, 200]


async def test_beyond_the_budget_it_is_a_429_that_says_when_to_come_again() -> None:
    limits = LimitsConfig(max_bytes_in_flight=100_000)
    async with api_client(FakeReader(slow_s=2), limits=limits) as client:

        async def post() -> httpx.Response:
            files = {"file": bytes(90_000)}
            return await client.post("/v1/audio/transcriptions", files=files, data={"model": MODEL})

        first = asyncio.create_task(post())
        await asyncio.sleep(0.2)
        refused = await post()
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(refused.headers["retry-after"]) >= 1
        assert (await first).status_code == 200
        assert (await post()).status_code == 200
