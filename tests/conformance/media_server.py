"""A web server for audio URLs, with everything that such servers do wrong."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Page:
    """What is sent. Without `Content-Length` among the headers the end of the connection is the end of the file."""

    pieces: Iterable[bytes]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class MediaServer:
    """On a free port of a loopback address. `asked` are the paths that were asked for, in order."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.asked: list[str] = []
        self.is_closing = threading.Event()
        self._pages: dict[str, Page] = {}
        pages, asked = self._pages, self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.close_connection = True
                asked.append(self.path)
                page = pages.get(self.path, Page([b"There is no such file."], 404))
                with suppress(ConnectionError):  # whoever asked had enough
                    self.send_response(page.status)
                    for name, value in page.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    for piece in page.pieces:
                        self.wfile.write(piece)
                        self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="media")

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> "MediaServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, path: str, page: Page) -> str:
        """The URL of `page` from now on."""
        self._pages[path] = page
        return self.url + path

    def add_file(self, path: str, data: bytes, media_type: str = "application/octet-stream") -> str:
        return self.add(path, Page([data], headers={"Content-Type": media_type, "Content-Length": str(len(data))}))

    def add_redirects(self, path: str, count: int, to: str) -> str:
        """`count` of them, one after the other, of which the last leads `to`."""
        for number in range(count, 0, -1):
            to = self.add(f"{path}-{number}", Page([], 302, {"Location": to, "Content-Length": "0"}))
        return to

    def drip(self, data: bytes, pause_s: float = 0.2) -> Iterator[bytes]:
        """One byte after each pause."""
        for byte in data:
            if self.is_closing.wait(pause_s):
                return
            yield bytes([byte])

    def silence(self) -> Iterator[bytes]:
        """Nothing, for as long as this server lives."""
        self.is_closing.wait()
        yield b""


def endless() -> Iterator[bytes]:
    while True:
        yield bytes(65_536)
