"""GEN-09 and GEN-10: probes that send HEAD, and web pages of other origins."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn

from tests.support.api import MODEL, api, api_client
from tests.support.fakes import FakeReader

ORIGIN = "https://app.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, x-request-id, x-stainless-lang",
}
SDK_HEADERS = {"authorization", "content-type", "x-request-id", "x-stainless-lang"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """With keys."""
    async with api_client(api_keys=frozenset({"sk"}), cors_origins=frozenset({ORIGIN})) as client:
        yield client


PATHS = ["/health", "/metrics", "/version", "/v1/models", f"/v1/models/{MODEL}", "/v1/models/x"]


@pytest.mark.parametrize("path", PATHS)
async def test_gen_09_head_is_get_without_a_body(client: httpx.AsyncClient, path: str) -> None:
    headers = {"Authorization": "Bearer sk"}
    head, get = await client.head(path, headers=headers), await client.get(path, headers=headers)
    assert head.status_code == get.status_code
    assert head.content == b""
    assert get.content
    assert head.headers["content-type"] == get.headers["content-type"]


async def test_gen_09_head_where_uvicorn_serves_itself(caplog: pytest.LogCaptureFixture) -> None:
    """As it does behind HAProxy. The connection is kept."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(api(), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=address) as client:
            for _ in range(2):
                assert (await client.head("/health")).status_code == 200
                assert (await client.get("/health")).content
        server.should_exit = True
        await serving
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_gen_09_what_has_no_get_has_no_head(client: httpx.AsyncClient) -> None:
    answer = await client.head("/v1/audio/transcriptions", headers={"Authorization": "Bearer sk"})
    assert answer.status_code == 405


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/chat/completions", "/v1/models"])
async def test_gen_10_a_preflight_needs_no_key(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.options(path, headers=PREFLIGHT)
    assert answer.status_code in (200, 204)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}
    assert allowed >= SDK_HEADERS


async def test_gen_10_every_answer_says_who_may_read_it(client: httpx.AsyncClient) -> None:
    key = {"Authorization": "Bearer sk"}
    answers = [
        await client.get("/v1/models", headers={"Origin": ORIGIN, **key}),
        await client.get("/v1/models", headers={"Origin": ORIGIN}),
        await client.get("/v1/nothing", headers={"Origin": ORIGIN, **key}),
        await client.post("/v1/audio/transcriptions", headers={"Origin": ORIGIN, **key}),
        await client.post("/v1/audio/transcriptions", headers={"Origin": ORIGIN, "Content-Length": "9" * 12, **key}),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 404, 400, 413]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        exposed = answer.headers["access-control-expose-headers"].replace(" ", "").lower().split(",")
        assert {"x-request-id", "retry-after"} <= set(exposed)


async def test_gen_10_an_error_that_nobody_expected_as_well() -> None:
    reader = FakeReader(error=RuntimeError("a secret"))
    async with api_client(reader, cors_origins=frozenset({"*"})) as client:
        answer = await client.post(
            "/v1/audio/transcriptions", headers={"Origin": ORIGIN}, files={"file": b"audio"}, data={"model": MODEL}
        )
    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_gen_10_other_origins_are_not_allowed(client: httpx.AsyncClient) -> None:
    for origin in ("https://other.example", "https://app.example.evil", "null"):
        answer = await client.get("/health", headers={"Origin": origin})
        assert "access-control-allow-origin" not in answer.headers
        refused = await client.options("/v1/models", headers={**PREFLIGHT, "Origin": origin})
        assert "access-control-allow-origin" not in refused.headers


async def test_gen_10_by_default_nobody_is_told_anything() -> None:
    async with api_client() as client:
        answer = await client.get("/health", headers={"Origin": ORIGIN})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert (await client.options("/v1/models", headers=PREFLIGHT)).status_code == 405
