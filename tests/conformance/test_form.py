"""The form on the wire (contract 2.1): every spelling that clients use means the same."""

import io
import json
from typing import Any

import httpx
import pytest

from tests.conformance.scoring import word_error_rate
from tests.conformance.wire import Api, assert_refused, error_of
from tests.conftest import Clip, Server

BOUNDARY = "a-boundary"


def raw_form(parts: list[tuple[str, bytes]]) -> bytes:
    """Parts with their headers written out, so that a test decides all of them."""
    written = [f"--{BOUNDARY}\r\n{headers}\r\n\r\n".encode() + data + b"\r\n" for headers, data in parts]
    return b"".join(written) + f"--{BOUNDARY}--\r\n".encode()


def post_raw(api: Api, parts: list[tuple[str, bytes]]) -> httpx.Response:
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return api.client.post("/v1/audio/transcriptions", content=raw_form(parts), headers=headers)


def text_part(name: str, value: str) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"', value.encode()


@pytest.mark.also_real
@pytest.mark.parametrize(
    "fields",
    [
        {"timestamp_granularities[]": ["word", "segment"]},
        {"timestamp_granularities": ["word", "segment"]},
        {"timestamp_granularities[0]": "word", "timestamp_granularities[1]": "segment"},
        {"timestamp_granularities": '["word", "segment"]'},
        {"timestamp_granularities[]": '["word", "segment"]'},
    ],
    ids=["brackets", "repeated", "indexed", "json", "json-in-brackets"],
)
def test_form_arrays_in_every_spelling(api: Api, clip: Clip, fields: dict[str, Any]) -> None:
    answer = api.transcribe(clip.data, response_format="verbose_json", **fields).json()
    assert answer["words"]
    assert answer["segments"]


@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities", "timestamp_granularities[0]"])
def test_form_array_of_one(api: Api, clip: Clip, name: str) -> None:
    answer = api.transcribe(clip.data, response_format="verbose_json", **{name: "word"}).json()
    assert answer["words"]
    assert not answer.get("segments")


@pytest.mark.parametrize("name", ["include", "timestamp_granularities", "keywords", "languages"])
@pytest.mark.parametrize("suffix", ["", "[]"])
def test_form_empty_array_is_not_given(api: Api, quiet: bytes, name: str, suffix: str) -> None:
    assert api.transcribe(quiet, **{name + suffix: ""}).status_code == 200


@pytest.mark.parametrize("threshold", ["0.4", "7"])
@pytest.mark.parametrize("spelling", ["brackets", "json"])
def test_form_chunking_strategy_in_brackets_and_as_json(api: Api, quiet: bytes, spelling: str, threshold: str) -> None:
    strategy = {"type": "server_vad", "threshold": threshold}
    if spelling == "json":
        response = api.transcribe(quiet, chunking_strategy=json.dumps({**strategy, "threshold": float(threshold)}))
    else:
        response = api.transcribe(quiet, **{f"chunking_strategy[{key}]": value for key, value in strategy.items()})
    assert response.status_code == (200 if threshold == "0.4" else 400), response.text


def test_form_sdk_sends_nested_chunking_strategy(server: Server, clip: Clip) -> None:
    answer = server.client.audio.transcriptions.create(
        model="gpt-4o-transcribe",
        file=clip.path,
        chunking_strategy={
            "type": "server_vad",
            "threshold": 0.4,
            "prefix_padding_ms": 200,
            "silence_duration_ms": 300,
        },
    )
    assert word_error_rate([clip.text], [answer.text]) < 0.35


@pytest.mark.also_real
def test_form_parts_in_any_order(api: Api, clip: Clip) -> None:
    file = ('Content-Disposition: form-data; name="file"; filename="a.flac"\r\nContent-Type: audio/flac', clip.data)
    model, response_format = text_part("model", "whisper-1"), text_part("response_format", "text")
    answers = {
        post_raw(api, parts).text
        for parts in ([file, model, response_format], [model, file, response_format], [response_format, model, file])
    }
    assert len(answers) == 1
    assert word_error_rate([clip.text], [answers.pop()]) < 0.35


@pytest.mark.parametrize(
    "headers",
    [
        'Content-Disposition: form-data; name="file"; filename="speech.flac"',
        'Content-Disposition: form-data; name="file"; filename="upload"\r\nContent-Type: application/octet-stream',
        'Content-Disposition: form-data; name="file"; filename="speech.mp3"\r\nContent-Type: audio/mpeg',
        'Content-Disposition: form-data; name="file"; filename="notes.txt"\r\nContent-Type: text/plain',
        'Content-Disposition: form-data; name="file"; filename="../../Größe 東京.bin"\r\nContent-Type: x/y',
        'content-disposition: form-data; filename="a"; name="file"',
        "Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.flac",
        "Content-Disposition: form-data; FileName* = UTF-8''a.flac; name=\"file\"",
        'Content-Disposition: form-data; name="file"; filename="a"; filename*=UTF-8\'\'b.flac',
    ],
    ids=["no-type", "bytes", "wrong-type", "text-type", "odd-name", "lower-case", "extended", "spaced", "both"],
)
def test_form_name_and_type_of_the_file_are_hints_only(api: Api, clip: Clip, headers: str) -> None:
    response = post_raw(api, [(headers, clip.data), text_part("model", "whisper-1")])
    assert response.status_code == 200, response.text
    assert word_error_rate([clip.text], [response.json()["text"]]) < 0.35


def test_form_text_parts_may_have_a_type_and_a_charset(api: Api, clip: Clip) -> None:
    typed = "\r\nContent-Type: text/plain; charset=utf-8"
    response = post_raw(
        api,
        [
            ('Content-Disposition: form-data; name="model"' + typed, b"whisper-1"),
            ('Content-Disposition: form-data; name="prompt"' + typed, "Grüße, 東京".encode()),
            ('Content-Disposition: form-data; name="file"; filename="a.flac"', clip.data),
        ],
    )
    assert response.status_code == 200, response.text


def test_form_sdk_uploads_bytesio_and_bytes(server: Server, clip: Clip) -> None:
    create = server.client.audio.transcriptions.create
    answers = {create(model="whisper-1", file=file).text for file in (io.BytesIO(clip.data), clip.data, clip.path)}
    assert len(answers) == 1
    assert word_error_rate([clip.text], [answers.pop()]) < 0.35


def test_form_sdk_sends_extra_body(server: Server, clip: Clip) -> None:
    answer = server.client.audio.transcriptions.create(
        model="whisper-1",
        file=clip.path,
        response_format="verbose_json",
        extra_body={"timestamp_granularities": ["word"], "seed": 7, "vllm_xargs": {"a": 1}, "vad_filter": True},
    )
    assert answer.words


@pytest.mark.parametrize(
    "name",
    [
        "language",
        "prompt",
        "response_format",
        "temperature",
        "stream",
        "chunking_strategy",
        "seed",
        "max_completion_tokens",
    ],
)
def test_form_empty_text_is_not_given(api: Api, quiet: bytes, name: str) -> None:
    assert api.transcribe(quiet, **{name: ""}).json() == {"text": "", "usage": {"type": "duration", "seconds": 1}}


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"model": "whisper-1"}'),
        ("application/x-www-form-urlencoded", b"model=whisper-1"),
        ("audio/flac", b"fLaC"),
        ("multipart/form-data", b"no boundary"),
        (f"multipart/form-data; boundary={BOUNDARY}", b"this is no multipart body"),
        (f"multipart/form-data; boundary={BOUNDARY}", raw_form([("X-No-Disposition: 1", b"x")])),
        (f"multipart/form-data; boundary={BOUNDARY}", b""),
    ],
    ids=["json", "urlencoded", "audio", "no-boundary", "garbage", "no-disposition", "empty"],
)
@pytest.mark.parametrize("endpoint", ["transcriptions", "translations"])
def test_gen_01_a_body_that_is_no_form(api: Api, endpoint: str, content_type: str, body: bytes) -> None:
    headers = {"Content-Type": content_type}
    response = api.client.post(f"/v1/audio/{endpoint}", content=body, headers=headers)
    assert response.status_code == 400, response.text
    assert error_of(response)["type"] == "invalid_request_error"


def test_gen_01_no_content_type(api: Api) -> None:
    response = api.client.post("/v1/audio/transcriptions", content=b"anything")
    assert response.status_code == 400
    error_of(response)


def test_gen_01_a_form_that_breaks_off(api: Api, clip: Clip) -> None:
    file = ('Content-Disposition: form-data; name="file"; filename="a.flac"', clip.data)
    body = raw_form([text_part("model", "whisper-1"), file])[:-2000]
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    response = api.client.post("/v1/audio/transcriptions", content=body, headers=headers)
    assert response.status_code == 400, response.text
    error_of(response)


def test_gen_01_thousands_of_fields(api: Api, quiet: bytes) -> None:
    response = api.transcribe(quiet, **{f"field_{number}": "x" for number in range(3_000)})
    assert response.status_code == 400
    error_of(response)


def test_trp_01_two_files(api: Api, quiet: bytes) -> None:
    files = [("file", ("a.wav", quiet)), ("file", ("b.wav", quiet))]
    response = api.client.post("/v1/audio/transcriptions", files=files, data={"model": "whisper-1"})
    assert_refused(response, 400, "file")
