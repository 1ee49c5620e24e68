"""What /health says of each model beside its status code (OPS-01)."""

from typing import Any

import httpx
import pytest

from tests.scripted.server import scripted_api


@pytest.mark.parametrize(
    ("unavailable", "status", "body"),
    [
        ({}, 200, {"status": "healthy"}),
        ({"asr-a": None}, 503, {"status": "unhealthy", "unavailable": ["asr-a"], "failed": {}}),
        (
            {"asr-a": None, "chat-b": "No such file."},
            503,
            {"status": "unhealthy", "unavailable": ["asr-a", "chat-b"], "failed": {"chat-b": "No such file."}},
        ),
    ],
)
async def test_health_tells_of_models(unavailable: dict[str, str | None], status: int, body: dict[str, Any]) -> None:
    """A model that is unloaded answers, if slowly: it is no reason for a 503."""
    models = {"a": "unloaded", "b": "failed"}

    async def now() -> dict[str, str | None]:
        return unavailable

    app = scripted_api(unavailable=now, model_states=lambda: models)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://auricle") as client:
        answer = await client.get("/health")
    told = answer.json()
    error = told.pop("error", None)
    assert (answer.status_code, told) == (status, {**body, "models": models})
    assert (error is None) == (status == 200)


async def test_gen_01_what_is_unhealthy_is_an_error_in_the_envelope() -> None:
    """`{"error": {message, type, param, code}}` of every answer under /v1 that is not 2xx."""

    async def now() -> dict[str, str | None]:
        return {"asr-a": None, "chat-b": "No such file."}

    app = scripted_api(unavailable=now)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://auricle") as client:
        answer = await client.get("/v1/health")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["error"] == {
        "message": "Not available at the moment: asr-a, chat-b.",
        "type": "server_error",
        "param": None,
        "code": "service_unavailable",
    }
