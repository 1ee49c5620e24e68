"""GEN: what holds for every answer, above all for those that refuse."""

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from tests.conformance.wire import Api, assert_refused, error_of
from tests.conftest import Server

NOT_FOUND = ["/v1", "/v1/", "/v1/nothing", "/v1/audio", "/v1/audio/speech", "/v1/audio/transcriptions/1", "/v2/models"]

Ask = Callable[[Api, bytes, dict[str, str]], httpx.Response]


def post(endpoint: str, **fields: str) -> Ask:
    def ask(api: Api, upload: bytes, headers: dict[str, str]) -> httpx.Response:
        return api.client.post(endpoint, files={"file": upload}, data=fields, headers=headers)

    return ask


def get(path: str, method: str = "GET") -> Ask:
    def ask(api: Api, _: bytes, headers: dict[str, str]) -> httpx.Response:
        return api.client.request(method, path, headers=headers)

    return ask


TRANSCRIPTIONS = "/v1/audio/transcriptions"

ANSWERS: dict[str, tuple[int, Ask]] = {
    "json": (200, post(TRANSCRIPTIONS, model="whisper-1")),
    "text": (200, post(TRANSCRIPTIONS, model="whisper-1", response_format="text")),
    "stream": (200, post(TRANSCRIPTIONS, model="whisper-1", stream="true")),
    "translation": (200, post("/v1/audio/translations", model="whisper-1")),
    "models": (200, get("/v1/models")),
    "model": (200, get("/v1/models/whisper-1")),
    "version": (200, get("/version")),
    "metrics": (200, get("/metrics")),
    "bad-parameter": (400, post(TRANSCRIPTIONS, model="whisper-1", temperature="9")),
    "no-form": (400, get(TRANSCRIPTIONS, "POST")),
    "bad-stream": (400, post(TRANSCRIPTIONS, model="whisper-1", stream="true", response_format="srt")),
    "unknown-model": (404, post(TRANSCRIPTIONS, model="nobody")),
    "unknown-path": (404, get("/v1/nothing")),
    "wrong-method": (405, get(TRANSCRIPTIONS, "PUT")),
}

WITH_REQUEST_ID = ("json", "stream", "metrics", "bad-parameter", "no-form", "unknown-path", "wrong-method")


@pytest.mark.real
@pytest.mark.parametrize("name", WITH_REQUEST_ID)
def test_gen_05_one_request_id(api: Api, quiet: bytes, name: str) -> None:
    """On the real server: Serve adds the header."""
    status, ask = ANSWERS[name]
    first, second = ask(api, quiet, {}), ask(api, quiet, {})
    assert first.status_code == second.status_code == status
    (first_id,), (second_id,) = (response.headers.get_list("x-request-id") for response in (first, second))
    assert first_id
    assert first_id != second_id


@pytest.mark.real
@pytest.mark.parametrize("name", WITH_REQUEST_ID)
def test_gen_05_request_id_is_echoed(api: Api, quiet: bytes, name: str) -> None:
    _, ask = ANSWERS[name]
    response = ask(api, quiet, {"X-Request-Id": "my-own-id.1"})
    assert response.headers.get_list("x-request-id") == ["my-own-id.1"]


@pytest.mark.real
def test_gen_05_the_sdk_knows_the_request_id(server: Server, quiet: bytes) -> None:
    answer = server.client.audio.transcriptions.create(model="whisper-1", file=quiet)
    assert answer._request_id
    with pytest.raises(openai.NotFoundError) as caught:
        server.client.audio.transcriptions.create(model="nobody", file=quiet)
    assert caught.value.request_id


@pytest.mark.also_real
@pytest.mark.parametrize("name", [name for name, (status, _) in ANSWERS.items() if status >= 400])
def test_gen_01_envelope(api: Api, quiet: bytes, name: str) -> None:
    status, ask = ANSWERS[name]
    response = ask(api, quiet, {})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert error_of(response)["type"] == "invalid_request_error"


@pytest.mark.also_real
@pytest.mark.parametrize("path", NOT_FOUND)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_gen_04_unknown_path(api: Api, method: str, path: str) -> None:
    assert_refused(api.client.request(method, path), 404, None, code="unknown_url")


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/audio/transcriptions"),
        ("PUT", "/v1/audio/transcriptions"),
        ("DELETE", "/v1/audio/transcriptions"),
        ("PATCH", "/v1/audio/translations"),
        ("GET", "/v1/audio/translations"),
        ("POST", "/v1/models"),
        ("DELETE", "/v1/models/whisper-1"),
    ],
)
def test_gen_04_wrong_method(api: Api, method: str, path: str) -> None:
    assert_refused(api.client.request(method, path), 405, None, code="method_not_supported")


@pytest.mark.also_real
@pytest.mark.parametrize("authorization", [None, "Bearer sk-anything", "Bearer", "Basic dXNlcjpwYXNz", "nonsense"])
def test_gen_02_without_keys_anybody_may_ask(api: Api, quiet: bytes, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for name in ("json", "models"):
        status, ask = ANSWERS[name]
        assert ask(api, quiet, headers).status_code == status


@pytest.mark.also_real
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "text/html", "*/*;q=0.1"])
def test_gen_07_accept_makes_no_difference(api: Api, quiet: bytes, accept: str) -> None:
    types = {
        name: ANSWERS[name][1](api, quiet, {"Accept": accept}).headers["content-type"].split(";")[0]
        for name in ("json", "text", "stream")
    }
    assert types == {"json": "application/json", "text": "text/plain", "stream": "text/event-stream"}


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"model": "nobody"}, openai.NotFoundError),
        ({"model": "whisper-1", "temperature": 7}, openai.BadRequestError),
        ({"model": "whisper-1", "response_format": "diarized_json"}, openai.BadRequestError),
        ({"model": "gpt-4o-transcribe", "response_format": "srt"}, openai.BadRequestError),
        ({"model": "whisper-1", "stream": True, "response_format": "vtt"}, openai.BadRequestError),
    ],
)
def test_gen_01_the_sdk_raises_typed_errors(
    server: Server, quiet: bytes, fields: dict[str, Any], error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error) as caught:
        server.client.audio.transcriptions.create(file=quiet, **fields)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param in {"model", "temperature", "response_format", "stream"}


@pytest.mark.also_real
def test_gen_03_422_is_never_sent(api: Api, quiet: bytes) -> None:
    """Every field of the form, each with a value of the wrong kind."""
    schema = api.get("/openapi.json").json()["paths"]["/v1/audio/transcriptions"]["post"]["requestBody"]["content"]
    names = [name for name in schema["multipart/form-data"]["schema"]["properties"] if name not in ("file", "model")]
    assert len(names) > 20
    statuses = {name: api.transcribe(quiet, **{name: "\x00{[wrong"}).status_code for name in names}
    assert set(statuses.values()) <= {200, 400}, statuses
    assert sum(status == 400 for status in statuses.values()) > 15
