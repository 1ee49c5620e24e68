"""Requests as plain clients send them, and streams read line by line."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.sse import events_of

TIMEOUT_S = 120.0

ENVELOPE_KEYS = {"message", "type", "param", "code"}


@dataclass(frozen=True)
class Api:
    """The server's HTTP surface. A field's value may be a list: the field is then repeated."""

    url: str
    client: httpx.Client

    def transcribe(self, upload: bytes | None, **fields: Any) -> httpx.Response:
        return self._post("transcriptions", upload, fields)

    def translate(self, upload: bytes | None, **fields: Any) -> httpx.Response:
        return self._post("translations", upload, fields)

    @contextmanager
    def open_stream(self, upload: bytes, **fields: Any) -> Iterator[httpx.Response]:
        """A transcription of which only the headers were read."""
        data = _form({"stream": "true", **fields})
        with self.client.stream("POST", "/v1/audio/transcriptions", files={"file": upload}, data=data) as response:
            yield response

    def stream(self, upload: bytes, **fields: Any) -> "Stream":
        """A whole streamed transcription."""
        response = self.transcribe(upload, stream="true", **fields)
        assert response.status_code == 200, response.text
        return Stream(response.content)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def _post(self, endpoint: str, upload: bytes | None, fields: dict[str, Any]) -> httpx.Response:
        # Without a file part httpx would send the fields as application/x-www-form-urlencoded.
        files: dict[str, Any] = {"ignored": (None, "")} if upload is None else {"file": ("a.flac", upload)}
        return self.client.post(f"/v1/audio/{endpoint}", files=files, data=_form(fields))


def _form(fields: dict[str, Any]) -> dict[str, Any]:
    """A value of None leaves even the model out."""
    return {name: value for name, value in {"model": "whisper-1", **fields}.items() if value is not None}


class Stream:
    """The lines of an event stream's body."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.data_lines = [line for line in body.split(b"\n") if line]
        self.events = events_of(body)

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("type") == "transcript.text.delta"]

    @property
    def done(self) -> dict[str, Any]:
        (done,) = [event for event in self.events if event.get("type") == "transcript.text.done"]
        return done


def assert_refused(response: httpx.Response, status: int, *params: str | None, code: str | None = None) -> None:
    """OpenAI's envelope with one of `params`; `code` where the contract names one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    assert error["param"] in params
    if code is not None:
        assert error["code"] == code


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == ENVELOPE_KEYS
    assert isinstance(error["message"], str)
    assert error["message"]
    assert "Traceback" not in error["message"]
    assert isinstance(error["type"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    return error
