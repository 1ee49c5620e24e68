"""A raw socket that clocks an answer: seconds from the request's last byte to whatever comes (GEN-11)."""

import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

BOUNDARY = "a-boundary"
TIMEOUT_S = 60.0

MAX_STATUS_S = 3.0
MAX_GAP_S = 2.0
MARGIN_S = 1.0
"""For a machine that does other things, too; clients give up after 5 s."""


@dataclass
class Clocked:
    """times_s: of each piece that came. text: what stands in the answer, without the lengths of its chunks."""

    times_s: list[float] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(b"".join(self.pieces).split(b" ", 2)[1])

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = b"".join(self.pieces).decode().splitlines()
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        assert data[-1:] == ["[DONE]"]
        return [json.loads(line) for line in data[:-1]]

    @property
    def error(self) -> dict[str, Any]:
        """The one of an answer that is nothing else."""
        *_, body = b"".join(self.pieces).decode().partition("\r\n\r\n")
        error: dict[str, Any] = json.loads(body[body.index("{") : body.rindex("}") + 1])["error"]
        return error

    @property
    def longest_gap_s(self) -> float:
        return max(after - before for before, after in zip(self.times_s, self.times_s[1:], strict=False))

    def check(self, min_s: float, margin_s: float = MARGIN_S) -> None:
        """It took `min_s` at least, and nobody who waits for it could have thought that the server is gone."""
        assert self.status == 200
        assert self.times_s[-1] >= min_s
        assert self.times_s[0] <= MAX_STATUS_S + margin_s
        assert self.longest_gap_s <= MAX_GAP_S + margin_s


def clocked(url: str, body: bytes, content_type: str) -> Clocked:
    """POST and read up to the end of the connection."""
    address = urlsplit(url)
    head = (
        f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    answer = Clocked()
    with socket.create_connection((address.hostname, address.port), TIMEOUT_S) as connection:
        connection.sendall((head.encode() + body)[:-1])
        sent_at = time.monotonic()
        connection.sendall(body[-1:])
        while piece := connection.recv(65_536):
            answer.times_s.append(time.monotonic() - sent_at)
            answer.pieces.append(piece)
    return answer


def clocked_form(url: str, upload: bytes, **fields: str) -> Clocked:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
    body = b"".join([*parts, head, upload, f"\r\n--{BOUNDARY}--\r\n".encode()])
    return clocked(url, body, f"multipart/form-data; boundary={BOUNDARY}")


def clocked_json(url: str, **body: Any) -> Clocked:
    return clocked(url, json.dumps(body).encode(), "application/json")
