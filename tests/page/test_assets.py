"""What is served at `/` and under `/page/`, without a browser."""

import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from deployments.ingress.http.keys import unnamed
from deployments.ingress.page.assets import load_assets
from deployments.ingress.page.route import HEADERS
from deployments.settings import Settings
from pipelines.languages import LANGUAGES
from tests.conftest import embedded_config
from tests.scripted.server import scripted_api

NAMES = sorted(load_assets())
PATHS = ["/" if name == "index.html" else f"/page/{name}" for name in NAMES]
NAMESPACE = "http://www.w3.org/2000/svg"
"""A name, which nobody asks for."""

OTHER_HOST = re.compile(r"(?:https?|wss?)://\w|(?:src|href)=[\"']?//|url\(|@import")

LISTED = re.compile(r"[\"'](?:/page/|\./)([\w.-]+)[\"']")
"""How the page's files name each other."""


def texts() -> dict[str, str]:
    return {name: asset.content.decode() for name, asset in load_assets().items()}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(scripted_api()) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_the_headers(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert {name: response.headers.get(name) for name in HEADERS} == HEADERS


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    directives = [directive.split() for directive in HEADERS["Content-Security-Policy"].split(";")]
    assert {name for name, *_ in directives} >= {"default-src", "base-uri", "form-action", "frame-ancestors"}
    sources = {source for _, *sources in directives for source in sources}
    assert sources == {"'none'", "'self'", "blob:", "data:"}
    assert ["script-src", "'self'"] in directives


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page/main.js", "text/javascript; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
def test_media_types(client: TestClient, path: str, media_type: str) -> None:
    assert client.get(path).headers["content-type"] == media_type


def test_what_a_browser_has_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/").headers["etag"]
    again = client.get("/", headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get("/", headers={"If-None-Match": '"other"'}).status_code == 200


def test_head(client: TestClient) -> None:
    assert client.head("/").headers["etag"] == client.get("/").headers["etag"]


@pytest.mark.parametrize("path", ["/page/nothing.js", "/page/", "/page/route.py", "/page/..%2froute.py", "/index.html"])
def test_there_is_nothing_else(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_url")


def test_the_page_needs_no_key() -> None:
    with TestClient(scripted_api(api_keys=unnamed(["secret"]))) as client:
        assert {client.get(path).status_code for path in PATHS} == {200}
        assert client.get("/v1/models").status_code == 401


def test_it_can_be_switched_off() -> None:
    args = embedded_config()["applications"][0]["args"]
    assert Settings.model_validate(args).page
    settings = Settings.model_validate({**args, "page": False})
    with TestClient(scripted_api(page=settings.page)) as client:
        for path in PATHS:
            response = client.get(path)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_url")


def test_the_api_reference_is_without_it(client: TestClient) -> None:
    assert [path for path in client.get("/openapi.json").json()["paths"] if not path.startswith("/v1/")] == [
        "/health",
        "/metrics",
        "/version",
        "/is_sleeping",
    ]


def test_every_file_that_is_named_is_there_and_used() -> None:
    named = {name for text in texts().values() for name in LISTED.findall(text)}
    assert named == set(NAMES) - {"index.html"}


@pytest.mark.parametrize("name", NAMES)
def test_no_other_host_is_named(name: str) -> None:
    text = texts()[name].replace(NAMESPACE, "")
    assert OTHER_HOST.findall(text) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".js")])
def test_data_never_becomes_markup(name: str) -> None:
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|localStorage", texts()[name]) == []
    )


def test_nothing_is_inline_that_the_policy_forbids() -> None:
    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", texts()["index.html"]) == []


def test_the_languages_are_whisper_s() -> None:
    codes = "".join(re.findall(r'^  "([a-z ]+)"', texts()["languages.js"], re.M)).split()
    assert codes == list(LANGUAGES)


def test_every_module_is_asked_for_at_once() -> None:
    preloaded = set(re.findall(r'modulepreload" href="/page/([\w.-]+)"', texts()["index.html"]))
    assert preloaded == {name for name in NAMES if name.endswith(".js")} - {"main.js", "pcm-worklet.js"}
