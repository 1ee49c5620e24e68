"""Does the server fetch what it must not?

    AURICLE_ALLOWED_MEDIA_HOSTS=127.0.0.1 python -m deployments configs/embedded.yaml &
    python -m benchmarks.reliability.addresses

A canary listens on every address of this machine. Each forbidden address, in every spelling, names it or a place that
no server should ask (metadata services, private networks, other schemes), directly and as where 127.0.0.1, which
alone is allowed, redirects to. Every one must be a 400 in OpenAI's envelope, by `url` of transcriptions and
translations and by `audio_url` of chats, and the canary must hear nothing but the redirects that were asked of it.
"""

import argparse
import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, quote, urlsplit

import httpx

from benchmarks.reliability.local_graph import Verdict

LOOPBACK = """
localhost LOCALHOST localhost. localhost.localdomain 127.1 127.0.1 127.000.000.001 0177.0.0.1 0x7f.0.0.1 0x7f000001
2130706433 017700000001 127.0.0.2 127.255.255.254 0 0.0.0.0 00.00.00.00 ①②⑦.⓪.⓪.② 127。0。0。2 127.0.0.2.
[::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:0:127.0.0.1] [::127.0.0.1] [64:ff9b::7f00:1]
[64:ff9b:1::7f00:1] [2002:7f00:1::] [2001:0:7f00:1::] [fe80::1] [fe80::1%25lo] user@localhost 127.0.0.1@localhost
""".split()
"""Spellings of this machine but the one that is allowed; the canary's port goes behind them."""

ELSEWHERE = """
http://10.0.0.1/ http://172.16.0.1/ http://172.31.255.255/ http://192.168.1.1/ http://100.64.0.1/ http://169.254.169.254/
http://169.254.170.2/ http://0xa9fea9fe/ http://2852039166/ http://[fd00:ec2::254]/ http://metadata.google.internal/
http://168.63.129.16/ http://192.0.0.192/ http://198.18.0.1/ http://192.0.2.1/ http://203.0.113.1/ http://224.0.0.1/
http://240.0.0.1/ http://255.255.255.255/ http://[fc00::1]/ http://[ff02::1]/ http://[2001:db8::1]/ http://[3fff::1]/
file:///etc/passwd file://localhost/etc/passwd ftp://127.0.0.1/x gopher://127.0.0.1/x dict://127.0.0.1/x
ldap://127.0.0.1/x jar:http://127.0.0.1!/x s3://bucket/key hf://model/file /etc/passwd //127.0.0.1/x javascript:1
""".split()


class Canary(BaseHTTPRequestHandler):
    heard: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        if "to" in asked:
            self.send_response(302)
            self.send_header("Location", asked["to"][0])
        else:
            self.heard.append(f"{self.headers.get('Host')} {self.path}")
            self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Listener(ThreadingHTTPServer):
    """On IPv6 and, by the same socket, IPv4."""

    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def addresses(port: int) -> list[str]:
    """Forbidden ones, and redirects of the allowed host to each that can stand in a header and does not lead back."""
    direct = [*(f"http://{host}:{port}/x.wav" for host in LOOPBACK), *ELSEWHERE]
    return [
        *direct,
        *(
            f"http://127.0.0.1:{port}/?to={quote(url, safe='')}"
            for url in direct
            if url.isascii() and urlsplit(url).scheme
        ),
    ]


def questions(url: str, chat_model: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Endpoint and arguments of each way to name an address."""
    for endpoint in ("transcriptions", "translations"):
        yield f"/v1/audio/{endpoint}", {"files": {"model": (None, "whisper-1"), "url": (None, url)}}
    part = {"type": "audio_url", "audio_url": {"url": url}}
    body = {"model": chat_model, "max_tokens": 1, "messages": [{"role": "user", "content": [part]}]}
    yield "/v1/chat/completions", {"json": body}


async def is_refused(client: httpx.AsyncClient, endpoint: str, arguments: dict[str, object]) -> str | None:
    """None, or what was answered instead."""
    response = await client.post(endpoint, **arguments)  # type: ignore[arg-type]
    is_ours = response.status_code == 400 and set(response.json().get("error", {})) >= {"message", "type", "param"}
    return None if is_ours else f"{response.status_code} {response.text[:80]}"


async def ask_all(server: str, key: str, port: int) -> tuple[int, list[str]]:
    """How many questions were asked, and which were not refused."""
    wrong = []
    async with httpx.AsyncClient(base_url=server, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        models = (await client.get("/v1/models")).json()["data"]
        asked = [(url, question) for url in addresses(port) for question in questions(url, models[0]["id"])]
        for url, question in asked:
            if answer := await is_refused(client, *question):
                wrong.append(f"{question[0]} {url}: {answer}")
    return len(asked), wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--key", default="unused", help="where the server wants one")
    arguments = parser.parse_args()
    listener = Listener(("::", 0), Canary)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    num_asked, wrong = asyncio.run(ask_all(arguments.server, arguments.key, listener.server_address[1]))
    for line in (*wrong, *(f"heard: {one}" for one in Canary.heard)):
        print(line)
    verdict = Verdict()
    verdict.add("refused", f"{num_asked - len(wrong)} of {num_asked}", "all", not wrong)
    verdict.add("requests that reached the canary", str(len(Canary.heard)), "0", not Canary.heard)
    verdict.finish()


if __name__ == "__main__":
    main()
