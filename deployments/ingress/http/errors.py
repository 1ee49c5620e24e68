"""Our errors in OpenAI's envelope: the one table."""

from http import HTTPStatus
from math import ceil
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from pipelines.errors import (
    AudioServerError,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    Overloaded,
    RetryableError,
)


class InvalidApiKey(AudioServerError):
    """No key, or one that the server does not know."""


class ForbiddenOrigin(AudioServerError):
    """A web page of somebody else asks where no key is needed."""


class RequestTooLarge(AudioServerError):
    """More bytes than `limits.max_upload_bytes`."""


# most special first: (status, type, code)
TABLE: dict[type[AudioServerError], tuple[int, str, str | None]] = {
    InvalidApiKey: (401, "invalid_request_error", "invalid_api_key"),
    ForbiddenOrigin: (403, "invalid_request_error", "forbidden_origin"),
    RequestTooLarge: (413, "invalid_request_error", "request_too_large"),
    ModelNotFound: (404, "invalid_request_error", "model_not_found"),
    InvalidRequest: (400, "invalid_request_error", None),
    Overloaded: (429, "rate_limit_error", "rate_limit_exceeded"),
    ModelUnavailable: (503, "server_error", "service_unavailable"),
    DeadlineExceeded: (503, "server_error", "deadline_exceeded"),
    AudioServerError: (500, "server_error", "internal_error"),
}

MAX_OBEYED_S = 60.0
"""OpenAI's SDKs wait for so long; some versions try again at once where they should wait for longer."""

MAX_MESSAGE_LENGTH = 1_000
"""Some repeat what was sent."""

UNEXPECTED = AudioServerError("The server had an error while processing your request.")


def status_of(error: AudioServerError) -> int:
    return _row(error)[0]


def envelope(error: AudioServerError) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}`, all four keys always (GEN-01)."""
    _, kind, code = _row(error)
    param = None
    if isinstance(error, InvalidRequest):
        param, code = error.param, error.code
    elif isinstance(error, ModelNotFound):
        param = "model"
    message = error.message
    if len(message) > MAX_MESSAGE_LENGTH:
        message = f"{message[:MAX_MESSAGE_LENGTH]}…"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(error: AudioServerError) -> JSONResponse:
    headers = {}
    if isinstance(error, RetryableError):
        headers["Retry-After"] = str(max(ceil(error.retry_after_s), 1))
        if error.retry_after_s > MAX_OBEYED_S:
            headers["x-should-retry"] = "false"
    elif status_of(error) >= 500:  # it would go wrong again: OpenAI's SDK does not retry then
        headers["x-should-retry"] = "false"
    if isinstance(error, DeadlineExceeded):
        headers["Retry-After"] = "60"
    if isinstance(error, InvalidApiKey):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(envelope(error), status_of(error), headers)


def install(app: FastAPI) -> None:
    app.add_exception_handler(AudioServerError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)


async def _on_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AudioServerError)
    return error_response(error)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    messages = {
        404: (f"Unknown URL: {request.method} {request.url.path}", "unknown_url"),
        405: (f"Method {request.method} is not supported for {request.url.path}.", "method_not_supported"),
    }
    message, code = messages.get(error.status_code, (str(error.detail), None))
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return JSONResponse(body, error.status_code, error.headers)


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    """FastAPI's own checks answer 400, never 422 (GEN-03)."""
    assert isinstance(error, RequestValidationError)
    return error_response(InvalidRequest(f"{HTTPStatus.BAD_REQUEST.phrase}: {error.errors()[0]['msg']}."))


def _row(error: AudioServerError) -> tuple[int, str, str | None]:
    return next(row for kind, row in TABLE.items() if isinstance(error, kind))
