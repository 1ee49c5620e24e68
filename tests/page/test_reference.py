"""The reference of the API: all of it is there, and a browser asks nobody else for it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from starlette.testclient import TestClient

from deployments.ingress.page.reference import reference_page, type_of
from deployments.ingress.page.route import HEADERS
from tests.page.conftest import Visit, assert_accessible
from tests.scripted.server import scripted_api, served


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(scripted_api()) as client:
        yield client


def test_it_tells_every_operation_and_field(client: TestClient) -> None:
    answer = client.get("/docs")
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    paths = client.get("/openapi.json").json()["paths"]
    assert len(paths) > 8
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert f"<code>{method.upper()} {path}</code>" in answer.text
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for name in content["schema"]["properties"]:
                    assert f"<code>{name}</code>" in answer.text


def test_what_a_browser_has_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/docs").headers["etag"]
    assert client.get("/docs", headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"type": "string", "format": "binary"}, "binary"),
        ({"type": "number", "minimum": 0, "maximum": 1.0}, "number ≥ 0 ≤ 1"),
        ({"type": "integer", "exclusiveMinimum": 0}, "integer > 0"),
        ({"type": "string", "enum": ["json", "text"]}, "json, text"),
        ({"anyOf": [{"const": "auto"}, {"type": "null"}]}, "auto"),
        ({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}, "string or list of string"),
        ({"type": "object", "properties": {"a": {}, "b": {}}}, "{a, b}"),
        ({}, "anything"),
    ],
)
def test_types_in_words(schema: dict[str, object], words: str) -> None:
    assert type_of(schema) == words


def test_no_text_becomes_markup() -> None:
    field = {"type": "string", "description": "<b>", "default": "<i>"}
    body = {"content": {"application/json": {"schema": {"properties": {"<u>": field}}}}}
    document = {
        "info": {"title": "<h1>", "version": "1", "description": "<p>"},
        "paths": {"/<s>": {"post": {"summary": "<em>", "requestBody": body}}},
    }
    page = reference_page(document)
    for text in ("h1", "p", "s", "em", "u", "b", "i"):
        assert f"&lt;{text}&gt;" in page
    assert "<s>" not in page
    assert "<em>" not in page


def test_in_a_browser(visit: Visit) -> None:
    with served(scripted_api()) as running:
        page = visit(f"{running.url}/docs")
        expect(page.get_by_role("heading", name="POST /v1/audio/transcriptions")).to_be_visible()
        assert_accessible(page)
        assert page.evaluate("getComputedStyle(document.querySelector('.card')).borderTopStyle") == "solid"
        page.get_by_role("link", name="the page").click()
        expect(page.get_by_role("heading", name="Recording")).to_be_visible()
        page.close()
