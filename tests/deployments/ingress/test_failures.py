"""Failures behind the API, before the status line and after it: the table of section 1 and TRS-05."""

import json
from typing import Any

import pytest

from pipelines.errors import AudioServerError, ModelUnavailable, Overloaded, UndecodableAudio
from tests.deployments.ingress.fakes import MODEL, FakeReader, FakeRecognizer, api_client

FAILURES = [
    (Overloaded("The server is busy.", 2.5), 429, "rate_limit_error", "rate_limit_exceeded", "3"),
    (ModelUnavailable("The model is loading.", 0.1), 503, "server_error", "service_unavailable", "1"),
    (UndecodableAudio("Not audio."), 400, "invalid_request_error", "invalid_value", None),
    (AudioServerError("Something known."), 500, "server_error", "internal_error", None),
    (RuntimeError("a secret path"), 500, "server_error", "internal_error", None),
]


async def transcribe(reader: FakeReader, recognizer: FakeRecognizer, **fields: str) -> Any:
    async with api_client(reader, recognizer) as client:
        return await client.post("/v1/audio/transcriptions", files={"file": b"audio"}, data={"model": MODEL, **fields})


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize(("error", "status", "kind", "code", "retry_after"), FAILURES, ids=str)
async def test_a_failure_at_the_first_chunk_has_its_status(
    error: Exception, status: int, kind: str, code: str, retry_after: str | None, stream: str
) -> None:
    response = await transcribe(FakeReader(), FakeRecognizer([error]), stream=stream)
    assert response.status_code == status
    body = response.json()["error"]
    assert body.keys() == {"message", "type", "param", "code"}
    assert (body["type"], body["code"]) == (kind, code)
    assert "secret" not in response.text
    assert response.headers.get("retry-after") == retry_after
    assert response.headers.get("x-should-retry") == ("false" if status == 500 else None)


@pytest.mark.parametrize(
    ("error", "kind", "code"), [(error, kind, code) for error, _, kind, code, _ in FAILURES[1:]], ids=str
)
async def test_trs_05_a_failure_after_the_200_is_an_event(error: Exception, kind: str, code: str) -> None:
    response = await transcribe(FakeReader(3), FakeRecognizer([None, error]), stream="true", language="en")
    assert response.status_code == 200
    *lines, end = [line for line in response.text.split("\n") if line]
    assert end == "data: [DONE]"
    *deltas, failure = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [event["type"] for event in deltas] == ["transcript.text.delta"]
    assert failure.keys() == {"error"}
    assert failure["error"].keys() == {"message", "type", "param", "code"}
    assert (failure["error"]["type"], failure["error"]["code"]) == (kind, code)
    assert "secret" not in response.text


async def test_a_full_queue_only_delays_what_has_begun() -> None:
    """A retry after the first chunk, when the answer can no longer be a 429."""

    class OnceFull(FakeRecognizer):
        num_refused = 0

        async def transcribe(self, chunk: Any, options: Any) -> Any:
            if chunk.index == 1 and not self.num_refused:
                self.num_refused += 1
                raise Overloaded("The server is busy.", 0.01)
            return await super().transcribe(chunk, options)

    recognizer = OnceFull()
    response = await transcribe(FakeReader(3), recognizer)
    assert response.json()["text"] == "Hello. Hello. Hello."
    assert recognizer.num_refused == 1


async def test_finish_reason_and_texts_of_the_fakes() -> None:
    response = await transcribe(FakeReader(2), FakeRecognizer(), response_format="verbose_json")
    assert response.json()["text"] == "Hello. Hello."
    assert [segment["start"] for segment in response.json()["segments"]] == [0.0, 1.0]
