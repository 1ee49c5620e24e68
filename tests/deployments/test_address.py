import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from ray.serve.schema import ServeDeploySchema

from deployments.address import address_of, check_port, health_of
from pipelines.errors import ConfigurationError
from tests.conftest import free_port

APPLICATION = {"import_path": "deployments.app:build", "args": {}}


def config(**options: Any) -> ServeDeploySchema:
    return ServeDeploySchema.model_validate({"applications": [APPLICATION], "http_options": options})


@contextmanager
def listening(reuse: bool) -> Iterator[int]:
    with socket.socket() as listener:
        if reuse:  # as Serve's proxy does
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_port_where_somebody_listens_is_refused(host: str, reuse: bool) -> None:
    with listening(reuse) as port, pytest.raises(ConfigurationError) as caught:
        check_port(config(host=host, port=port))
    assert caught.value.message.startswith(f"It cannot listen on {host}, port {port}: Address already in use. ")


def test_a_port_that_is_free_is_not_taken() -> None:
    port = free_port()
    for _ in range(2):
        check_port(config(host="127.0.0.1", port=port))


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ({"host": "0.0.0.0", "port": 80}, "http://127.0.0.1:80"),
        ({"host": "::", "port": 80}, "http://[::1]:80"),
        ({"host": "fd00::7", "port": 8000}, "http://[fd00::7]:8000"),
        ({"host": "asr.example", "port": 8443, "ssl_certfile": "c", "ssl_keyfile": "k"}, "https://asr.example:8443"),
    ],
)
def test_an_address_is_a_url(options: dict[str, Any], address: str) -> None:
    assert address_of(config(**options)) == address


class Answer(BaseHTTPRequestHandler):
    status, body = 200, b"{}"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    handler = type("Answer", (Answer,), {"status": status, "body": body})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(200, b"{}") as address:
        assert health_of(address).is_up


@pytest.mark.parametrize(
    ("status", "body", "failed"),
    [
        (503, b'{"failed": {"asr-a": "no such model"}}', {"asr-a": "no such model"}),
        (503, b'{"failed": []}', {}),
        (503, b"[]", {}),
        (404, b"Path '/health' not found.", {}),
    ],
)
def test_what_is_not_up_may_say_why(status: int, body: bytes, failed: dict[str, str]) -> None:
    with answering(status, body) as address:
        health = health_of(address)
    assert not health.is_up
    assert health.failed == failed


def test_nobody_is_not_up() -> None:
    assert not health_of(f"http://127.0.0.1:{free_port()}").is_up
