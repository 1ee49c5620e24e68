"""multipart/form-data to fields and a file, in every spelling that OpenAI's SDKs, curl and others use."""

import json
import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from deployments.compat.starlette import FileFormParser
from deployments.ingress.http.errors import RequestTooLarge
from deployments.ingress.transcription.schema import ARRAYS, OBJECTS, TranscriptionRequest
from pipelines.errors import InvalidRequest

MAX_FILES = 16
MAX_FIELDS = 1_000
MAX_FIELD_BYTES = 17 * 1_048_576
"""Room for the references of four known speakers in one JSON array, each 10 s of uncompressed sound in base64. The body
as a whole is bounded, too."""
PARALLEL_ARRAYS = frozenset({"known_speaker_names", "known_speaker_references"})
"""Their elements belong together by place, so none of them may be left out silently."""
BRACKETED = re.compile(r"(?P<name>[^\[\]]+)\[(?P<key>[^\[\]]*)\]")


async def read_form(request: Request) -> FormData:
    """Parse the body; the caller closes it, which removes its temporary files.

    Raises:
        InvalidRequest: not a multipart form.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise InvalidRequest("The body must be multipart/form-data.", None)
    try:
        limits = {"max_files": MAX_FILES, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES}
        return await FileFormParser(request.headers, request.stream(), **limits).parse()
    except MultiPartException as error:
        raise InvalidRequest(error.message, None) from None
    except ValueError:  # such as a charset that no codec can have
        raise InvalidRequest("The multipart form could not be parsed.") from None


def check_file_size(form: FormData, max_bytes: int) -> None:
    """
    Raises:
        RequestTooLarge: before the file is read into memory.
    """
    if any((upload.size or 0) > max_bytes for upload in _uploads(form)):
        raise RequestTooLarge(f"The file is larger than {max_bytes} bytes.")


async def read_file(form: FormData, url: str | None) -> bytes | None:
    """The upload's bytes; the name and type that the client gave are only hints and not looked at. None where a URL
    stands in its place."""
    uploads = _uploads(form)
    if uploads and url is not None:
        raise InvalidRequest("Give either a file or a url, not both.", "url")
    if url is not None:
        return None
    if not uploads:
        raise InvalidRequest("A file is required, as a file part of the form.", "file", "missing_required_parameter")
    if len(uploads) > 1:
        raise InvalidRequest("Only one file can be given.", "file")
    return await uploads[0].read()


def _uploads(form: FormData) -> list[UploadFile]:
    uploads = [value for value in form.getlist("file") if isinstance(value, UploadFile)]
    # a web page's form sends a part without name and content where nothing was chosen
    return [upload for upload in uploads if upload.filename or upload.size]


def parse_request(form: FormData) -> TranscriptionRequest:
    """Validate every field.

    Raises:
        InvalidRequest: naming the first field that is wrong.
    """
    fields = collect_fields((name, value) for name, value in form.multi_items() if isinstance(value, str))
    try:
        return TranscriptionRequest.model_validate(fields)
    except ValidationError as error:
        raise _invalid(error) from None


def collect_fields(parts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """`a[]=x`, `a[0]=x` and repeated `a=x` make arrays, `a[key]=x` objects; JSON text may stand for either.

    Empty text counts as not given, and of a plain field given twice the last one counts.
    """
    fields: dict[str, Any] = {}
    arrays: dict[str, list[tuple[int, str]]] = {}
    for name, value in parts:
        match = BRACKETED.fullmatch(name)
        field, key = (match["name"], match["key"]) if match else (name, "")
        if value == "" and field not in PARALLEL_ARRAYS:
            continue
        if field in ARRAYS:
            arrays.setdefault(field, []).append((int(key) if key.isdecimal() else 0, value))
        elif match and key:
            nested = fields.setdefault(field, {})
            if isinstance(nested, dict):
                nested[key] = value
        else:
            fields[field] = _object(value) if field in OBJECTS else value
    for name, items in arrays.items():
        values = [value for _, value in sorted(items, key=lambda item: item[0])]
        if any(values):
            fields[name] = _array(values)
    return fields


def _array(values: list[str]) -> Any:
    if len(values) == 1 and values[0].lstrip().startswith("["):
        parsed = _json(values[0])
        return parsed if isinstance(parsed, list) else values
    return values


def _object(value: str) -> Any:
    return _json(value) if value.lstrip().startswith("{") else value


def _json(text: str) -> Any:
    """What `text` stands for; `text` itself when it is no JSON, or JSON that no answer could repeat as UTF-8."""
    try:
        parsed = json.loads(text)
        json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return text
    return parsed


def _invalid(error: ValidationError) -> InvalidRequest:
    mistake = error.errors()[0]
    param = str(mistake["loc"][0])
    if mistake["type"] == "missing":
        return InvalidRequest(f"The parameter '{param}' is required.", param, "missing_required_parameter")
    message = mistake["msg"].removeprefix("Value error, ")
    code = "invalid_language_format" if param == "language" else "invalid_value"
    return InvalidRequest(f"Invalid value for '{param}': {message}.", param, code)
