from collections.abc import AsyncIterator

import pytest
from starlette.datastructures import FormData
from starlette.requests import Request

from deployments.ingress.http.errors import RequestTooLarge
from deployments.ingress.transcription.form import check_file_size, collect_fields, parse_request, read_file, read_form
from pipelines.errors import InvalidRequest

BOUNDARY = "----auricle"


def request_of(body: bytes, content_type: str = f"multipart/form-data; boundary={BOUNDARY}") -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def multipart(*parts: tuple[str, str | bytes]) -> bytes:
    """Text is a field, bytes a file."""
    lines = []
    for name, value in parts:
        is_file = isinstance(value, bytes)
        disposition = f'form-data; name="{name}"' + ('; filename="x.bin"' if is_file else "")
        lines.append(f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode())
        lines.append(value if isinstance(value, bytes) else value.encode())
        lines.append(b"\r\n")
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode()


@pytest.fixture
async def forms() -> AsyncIterator[list[FormData]]:
    opened: list[FormData] = []
    yield opened
    for form in opened:
        await form.close()


def fields(*parts: tuple[str, str]) -> dict[str, object]:
    return collect_fields(parts)


def test_plain_fields() -> None:
    assert fields(("model", "whisper-1"), ("prompt", " x ")) == {"model": "whisper-1", "prompt": " x "}


@pytest.mark.parametrize(
    "parts",
    [
        [("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment")],
        [("timestamp_granularities", "word"), ("timestamp_granularities", "segment")],
        [("timestamp_granularities[0]", "word"), ("timestamp_granularities[1]", "segment")],
        [("timestamp_granularities", '["word", "segment"]')],
        [("timestamp_granularities[]", ' ["word","segment"]')],
    ],
)
def test_every_spelling_of_an_array(parts: list[tuple[str, str]]) -> None:
    assert collect_fields(parts) == {"timestamp_granularities": ["word", "segment"]}


def test_one_value_is_an_array_too() -> None:
    assert fields(("include", "logprobs")) == {"include": ["logprobs"]}
    assert fields(("keywords[]", "Auricle")) == {"keywords": ["Auricle"]}


def test_broken_json_is_text() -> None:
    assert fields(("keywords", "[draft")) == {"keywords": ["[draft"]}
    assert fields(("chunking_strategy", "{type")) == {"chunking_strategy": "{type"}


def test_deeply_nested_json_is_text() -> None:
    deep = "[" * 200_000
    assert fields(("keywords", deep)) == {"keywords": [deep]}


@pytest.mark.parametrize(
    "parts",
    [
        [("chunking_strategy", '{"type": "server_vad", "threshold": "0.4"}')],
        [("chunking_strategy[type]", "server_vad"), ("chunking_strategy[threshold]", "0.4")],
    ],
)
def test_every_spelling_of_an_object(parts: list[tuple[str, str]]) -> None:
    assert collect_fields(parts) == {"chunking_strategy": {"type": "server_vad", "threshold": "0.4"}}


def test_an_object_may_be_a_word() -> None:
    assert fields(("chunking_strategy", "auto")) == {"chunking_strategy": "auto"}


def test_empty_text_counts_as_not_given() -> None:
    assert fields(("language", ""), ("include[]", ""), ("prompt", "x"), ("prompt", "")) == {"prompt": "x"}


def test_of_a_plain_field_given_twice_the_last_counts() -> None:
    assert fields(("model", "a"), ("model", "b")) == {"model": "b"}


def test_a_field_that_is_text_and_object_at_once_does_not_crash() -> None:
    assert "chunking_strategy" in fields(("chunking_strategy", "auto"), ("chunking_strategy[type]", "server_vad"))
    assert "model" in fields(("model[a]", "x"), ("model", "y"))


@pytest.mark.parametrize("name", ["", "[]", "[a]", "a[", "a]", "a[b][c]", "a[[b]]"])
def test_odd_names_are_fields_like_any_other(name: str) -> None:
    assert list(fields((name, "x")).values()) in (["x"], [{"b": "x"}])


def parse(*parts: tuple[str, str]) -> object:
    return parse_request(FormData(list(parts)))


def mistake(*parts: tuple[str, str]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(*parts)
    return caught.value


def test_a_request_with_everything_default() -> None:
    request = parse_request(FormData([("model", "whisper-1")]))
    assert (request.model, request.language, request.response_format) == ("whisper-1", None, "json")
    assert (request.temperature, request.stream, request.timestamp_granularities) == (0.0, False, [])


def test_text_becomes_numbers_and_truths() -> None:
    request = parse_request(
        FormData([("model", "m"), ("temperature", "0.5"), ("stream", "true"), ("seed", "-7"), ("language", "EN")])
    )
    assert (request.temperature, request.stream, request.seed, request.language) == (0.5, True, -7, "en")


def test_unknown_fields_are_ignored() -> None:
    assert parse(("model", "m"), ("foo", "bar"), ("foo[x]", "1"))


def test_a_missing_field() -> None:
    error = mistake(("prompt", "x"))
    assert error.message == "The parameter 'model' is required."
    assert (error.param, error.code) == ("model", "missing_required_parameter")


def test_an_empty_model_is_a_missing_one() -> None:
    assert mistake(("model", "")).code == "missing_required_parameter"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "2"),
        ("temperature", "nan"),
        ("temperature", "warm"),
        ("temperature[a]", "1"),
        ("response_format", "xml"),
        ("stream", "perhaps"),
        ("timestamp_granularities[]", "sentence"),
        ("include[]", "tokens"),
        ("seed", "1.5"),
        ("seed", "99999999999999999999"),
        ("top_p", "0"),
        ("chunking_strategy", "manual"),
        ("chunking_strategy", '{"type": "server_vad", "threshold": 7}'),
        ("chunking_strategy[threshold]", "0.5"),
        ("max_completion_tokens", "0"),
        ("repetition_penalty", "inf"),
    ],
)
def test_a_wrong_value_names_its_parameter(name: str, value: str) -> None:
    error = mistake(("model", "m"), (name, value))
    assert error.param == name.split("[")[0]
    assert error.code == "invalid_value"
    assert error.message.startswith(f"Invalid value for '{error.param}': ")
    assert error.message.endswith(".")


def test_a_wrong_language_has_its_own_code() -> None:
    error = mistake(("model", "m"), ("language", "klingon"))
    assert (error.param, error.code) == ("language", "invalid_language_format")
    assert "Value error" not in error.message


async def test_a_form_with_a_file(forms: list[FormData]) -> None:
    forms.append(await read_form(request_of(multipart(("model", "m"), ("file", b"RIFF")))))
    assert await read_file(forms[0], None) == b"RIFF"
    assert parse_request(forms[0]).model == "m"


async def test_the_parameters_may_follow_the_file(forms: list[FormData]) -> None:
    forms.append(await read_form(request_of(multipart(("file", b"RIFF"), ("model", "m")))))
    assert parse_request(forms[0]).model == "m"


async def test_a_file_larger_than_memory_s_share(forms: list[FormData]) -> None:
    forms.append(await read_form(request_of(multipart(("file", bytes(3_000_000))))))
    assert len(await read_file(forms[0], None)) == 3_000_000


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/x-www-form-urlencoded", "", "multipart/mixed"]
)
async def test_only_multipart_forms_are_read(content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="multipart/form-data"):
        await read_form(request_of(b"{}", content_type))


async def test_no_file(forms: list[FormData]) -> None:
    forms.append(await read_form(request_of(multipart(("model", "m"), ("file", "text")))))
    with pytest.raises(InvalidRequest) as caught:
        await read_file(forms[0], None)
    assert (caught.value.param, caught.value.code) == ("file", "missing_required_parameter")


async def test_two_files(forms: list[FormData]) -> None:
    forms.append(await read_form(request_of(multipart(("file", b"a"), ("file", b"b")))))
    with pytest.raises(InvalidRequest, match="Only one file"):
        await read_file(forms[0], None)


async def test_a_file_beyond_the_limit_is_refused_before_it_is_read(forms: list[FormData]) -> None:
    forms.append(await read_form(request_of(multipart(("file", b"a" * 11)))))
    with pytest.raises(RequestTooLarge, match="10 bytes"):
        check_file_size(forms[0], 10)
    check_file_size(forms[0], 11)


def test_indices_order_an_array() -> None:
    parts = [("known_speaker_names[1]", "Bob"), ("known_speaker_names[0]", "Ann"), ("known_speaker_names[10]", "Cid")]
    assert collect_fields(parts) == {"known_speaker_names": ["Ann", "Bob", "Cid"]}


def test_an_empty_element_keeps_its_place_where_arrays_belong_together() -> None:
    assert collect_fields([("known_speaker_names[]", ""), ("known_speaker_names[]", "Bob")]) == {
        "known_speaker_names": ["", "Bob"]
    }
    assert collect_fields([("known_speaker_names[]", "")]) == {}
    assert collect_fields([("timestamp_granularities[]", ""), ("timestamp_granularities[]", "word")]) == {
        "timestamp_granularities": ["word"]
    }


def test_json_that_no_answer_could_repeat_stays_text() -> None:
    assert collect_fields([("known_speaker_names", r'["\ud800"]')]) == {"known_speaker_names": [r'["\ud800"]']}
