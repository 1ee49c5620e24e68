"""GEN-02 with keys configured: who may ask what."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from tests.support.api import MODEL, api_client

KEYS = frozenset({"sk-first", "sk-second"})


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with api_client(api_keys=KEYS) as client:
        yield client


@dataclass(frozen=True)
class Route:
    method: str
    path: str


PROTECTED = [
    Route("GET", "/v1/models"),
    Route("GET", f"/v1/models/{MODEL}"),
    Route("POST", "/v1/audio/transcriptions"),
    Route("POST", "/v1/audio/translations"),
]
OPEN = ["/health", "/metrics", "/version", "/is_sleeping"]


async def ask(client: httpx.AsyncClient, route: Route, authorization: str | None) -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    if route.method == "GET":
        return await client.get(route.path, headers=headers)
    return await client.post(route.path, headers=headers, files={"file": b"audio"}, data={"model": MODEL})


@pytest.mark.parametrize("route", PROTECTED, ids=lambda route: route.path)
@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer sk-wrong",
        "Bearer sk-firs",
        "Bearer sk-first2",
        "Bearer SK-FIRST",
        "Basic sk-first",
        "sk-first",
        "Bearer ü",
    ],
)
async def test_gen_02_wrong_key(client: httpx.AsyncClient, route: Route, authorization: str) -> None:
    headers = [(b"Authorization", authorization.encode())]
    response = await client.request(route.method, route.path, headers=headers)
    assert response.status_code == 401
    error = response.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "invalid_api_key")
    assert authorization.split()[-1] not in error["message"]


@pytest.mark.parametrize("route", PROTECTED, ids=lambda route: route.path)
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer "])
async def test_gen_02_missing_key(client: httpx.AsyncClient, route: Route, authorization: str | None) -> None:
    response = await ask(client, route, authorization)
    assert response.status_code == 401
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["code"] in {None, "invalid_api_key"}


@pytest.mark.parametrize("route", PROTECTED, ids=lambda route: route.path)
@pytest.mark.parametrize("authorization", ["Bearer sk-first", "Bearer sk-second", "bearer sk-first"])
async def test_gen_02_right_key(client: httpx.AsyncClient, route: Route, authorization: str) -> None:
    assert (await ask(client, route, authorization)).status_code == 200


async def test_gen_02_the_key_is_asked_for_before_the_body_is_looked_at(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/audio/transcriptions", content=b"no form")).status_code == 401


@pytest.mark.parametrize("path", OPEN)
async def test_gen_02_operations_need_no_key(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("route", PROTECTED, ids=lambda route: route.path)
@pytest.mark.parametrize("authorization", [None, "", "Bearer anything"])
async def test_gen_02_without_keys_anybody_may_ask(route: Route, authorization: str | None) -> None:
    async with api_client() as client:
        assert (await ask(client, route, authorization)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions/", "/v1/audio/translations/", "/v1/chat/completions/"])
async def test_gen_04_a_slash_behind_a_path_is_an_unknown_url(client: httpx.AsyncClient, path: str) -> None:
    """Not a redirect, which would send a key and an upload twice, and which tells without a key what there is."""
    response = await client.post(path, files={"file": b"audio"}, data={"model": MODEL})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_url")


async def test_gen_04_a_slash_behind_the_models_is_no_model(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/models/", headers={"Authorization": "Bearer sk-first"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_url")
