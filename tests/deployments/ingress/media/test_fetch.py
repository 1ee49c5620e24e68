"""The guarded client against a real server on 127.0.0.1, which counts whoever connects."""

import asyncio
import gzip
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from deployments.ingress.http.body_limit import BodyLimit
from deployments.ingress.media.fetch import NUM_SMALL_PIECES, FetchLimits, MediaFetcher, Resolve
from pipelines.errors import ConfigurationError, InvalidRequest, Overloaded

PARAM = "messages[0].content[1].audio_url.url"
FILE = bytes(range(256)) * 256  # 64 KiB
NOBODY = "2d00::1"  # a public address, of a block that was never given to anybody

SHORT = FetchLimits(len(FILE), max_s=0.5)
LONG = FetchLimits(len(FILE), max_s=20.0)  # so that a refusal is not the time's

TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # certifi's authorities take a tenth of a second to load

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(status: str = "200 OK", body: bytes = b"", **headers: str) -> bytes:
    fields = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return answer(status, b"this way", Location=location)


def then(head: bytes, piece: bytes, pause_s: float = 0.0, times: int = 1_000_000) -> Script:
    """Writes the head, and the piece again and again."""

    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _number in range(times):
            await writer.drain()
            await asyncio.sleep(pause_s)
            writer.write(piece)
        await writer.drain()

    return write


async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


@dataclass
class FileServer:
    """Answers every path by its bytes or its script."""

    port: int = 0
    answers: dict[str, bytes | Script] = field(default_factory=dict)
    num_connections: int = 0
    requests: list[str] = field(default_factory=list)
    num_open: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [request.split(" ")[1] for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        self.num_open += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self.num_open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        script = self.answers.get(self.paths[-1], answer("404 Not Found"))
        if isinstance(script, bytes):
            writer.write(script)
            if writer.can_write_eof():  # TLS cannot
                writer.write_eof()
            await reader.read()  # until the client closes
        else:
            await script(reader, writer)

    async def closed(self) -> None:
        async with asyncio.timeout(5):
            while self.num_open:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(tls: ssl.SSLContext | None = None) -> AsyncIterator[FileServer]:
    """Also checks that no connection is left open."""
    server = FileServer()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield server
        await server.closed()


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    async with running() as server:
        server.answers["/a.wav"] = answer(body=FILE)
        yield server


class Names:
    """A name server: host → addresses, or one such answer after the other."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers = {name.replace("_", "."): addresses for name, addresses in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.answers[host]


def fetcher(
    limits: FetchLimits = LONG,
    *more_hosts: str,
    resolve: Resolve | None = None,
    tls: ssl.SSLContext = TRUSTS_NOBODY,
) -> MediaFetcher:
    """One that may fetch from the server of a test."""
    return MediaFetcher(frozenset({"127.0.0.1", *more_hosts}), limits, resolve=resolve, tls=tls)


def fetcher_from(*hosts: str, limits: FetchLimits = LONG, resolve: Resolve | None = None) -> MediaFetcher:
    """One that may fetch from these hosts, and else only from public addresses."""
    return MediaFetcher(frozenset(hosts), limits, resolve=resolve, tls=TRUSTS_NOBODY)


async def refusal(fetcher: MediaFetcher, url: str, max_bytes: int | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        await fetcher.fetch(url, PARAM, max_bytes)
    assert (caught.value.param, caught.value.code) == (PARAM, "invalid_value")
    message = caught.value.message
    assert message.startswith(f"{PARAM} could not be fetched")
    assert len(message) < 400
    return message.removeprefix(f"{PARAM} could not be fetched").lstrip()


# --- What is fetched


async def test_cht_06_a_file(server: FileServer) -> None:
    by_default = MediaFetcher(frozenset({"127.0.0.1"}), LONG)
    assert await by_default.fetch(f"{server.url}/a.wav", PARAM) == FILE


async def test_cht_06_what_is_asked(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither proxies nor credentials of the environment, and nothing about who asks but the program's name."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a-user password a-secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with running() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        server.answers["/a%20b?c=d%26&e"] = answer(body=FILE)
        assert await fetcher().fetch(f"{server.url}/a%20b?c=d%26&e#f", PARAM) == FILE
        assert proxy.num_connections == 0
    assert server.requests == [
        "GET /a%20b?c=d%26&e HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{server.port}\r\n"
        f"User-Agent: auricle/{version('auricle')}\r\n"
        "Accept: */*\r\n"
        "Accept-Encoding: identity\r\n"
        "Connection: close\r\n"
        "\r\n"
    ]


async def test_cht_06_many_at_a_time(server: FileServer) -> None:
    files = {f"/{number}": FILE[number:] for number in range(20)}
    server.answers |= {path: answer(body=file) for path, file in files.items()}
    one = fetcher()
    assert await asyncio.gather(*(one.fetch(server.url + path, PARAM) for path in files)) == list(files.values())


async def test_what_is_fetched_counts_until_its_request_is_answered(server: FileServer) -> None:
    """Like what is uploaded: of two files there is room for one, unless nobody else is there."""
    one, fetched, gate = fetcher(), asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await one.fetch(f"{server.url}/a.wav", PARAM)
        fetched.set()
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    limited = BodyLimit(app, max_bytes=1_000, max_bytes_in_flight=len(FILE) + 1_000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(limited), base_url="http://auricle") as client:
        first = asyncio.create_task(client.post("/"))
        await fetched.wait()
        with pytest.raises(Overloaded):  # the API's handlers make an answer of it
            await client.post("/")
        gate.set()
        assert (await first).status_code == 200
        assert (await client.post("/")).status_code == 200


async def test_cht_06_chunks(server: FileServer) -> None:
    server.answers["/"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert await fetcher().fetch(server.url, PARAM) == b"abcde"


async def test_cht_06_until_the_connection_closes(server: FileServer) -> None:
    server.answers["/"] = b"HTTP/1.0 200 OK\r\n\r\n" + FILE
    assert await fetcher().fetch(server.url, PARAM) == FILE


async def test_cht_06_nothing_is_unpacked(server: FileServer) -> None:
    packed = gzip.compress(bytes(10 * len(FILE)))
    server.answers["/"] = answer(body=packed, Content_Encoding="gzip")
    assert await fetcher().fetch(server.url, PARAM) == packed


async def test_cht_06_no_more_than_was_announced(server: FileServer) -> None:
    server.answers["/"] = answer(body=b"abcdef", Content_Length="3")
    assert await fetcher().fetch(server.url, PARAM) == b"abc"


# --- What goes wrong


@pytest.mark.parametrize(
    "status",
    [
        "201 Created",
        "204 No Content",
        "206 Partial Content",
        "300 Multiple Choices",
        "304 Not Modified",
        "401 Unauthorized",
        "404 Not Found",
        "500 Oh",
    ],
)
async def test_cht_06_any_other_status(server: FileServer, status: str) -> None:
    server.answers["/"] = answer(status, Location="/a.wav")
    assert await refusal(fetcher(), server.url) == f"from 127.0.0.1: it answered {status[:3]}."


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"",
        b"\r\n\r\n",
        b"\0" * 1000,
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"ICY 200 OK\r\n\r\nabc",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"\x16\x03\x01\0\x05hello",
        b"HTTP/1.1 200 OK\r\nContent-Type",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\nabc",
        answer(body=b"abc", Content_Length="4"),
        answer(body=b"abc", Content_Length="-3"),
        answer(body=b"abc", Content_Length="3, 4"),
        answer(body=b"abc", Content_Length="3.0"),
        answer(body=b"abc", Content_Length="0x3"),
        answer(body=b"abc", Content_Length="9" * 5000),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
async def test_cht_06_what_is_no_whole_answer(server: FileServer, bytes_sent: bytes) -> None:
    server.answers["/"] = bytes_sent
    assert await refusal(fetcher(), server.url) == "from 127.0.0.1: its answer is not HTTP, or broke off."


@pytest.mark.parametrize(
    "script",
    [
        then(b"HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n" * 1000),
        then(b"HTTP/1.1 200 OK\r\nX-Header: ", b"x" * 10_000),
        then(b"", b"x" * 10_000),
    ],
    ids=["headers", "header", "status"],
)
async def test_cht_06_a_head_without_end(server: FileServer, script: Script) -> None:
    server.answers["/"] = script
    assert await refusal(fetcher(), server.url) == "from 127.0.0.1: its answer is not HTTP, or broke off."


@pytest.mark.parametrize(
    "empty", [answer(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"]
)
async def test_cht_06_an_empty_file(server: FileServer, empty: bytes) -> None:
    server.answers["/"] = empty
    assert await refusal(fetcher(), server.url) == "from 127.0.0.1: its file is empty."


async def test_cht_06_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        assert await refusal(fetcher(), url) == "from 127.0.0.1: it cannot be connected to."


async def test_cht_06_tls_with_one_who_does_not_speak_it(server: FileServer) -> None:
    server.answers["/"] = answer(body=FILE)
    message = await refusal(fetcher(SHORT), f"https://127.0.0.1:{server.port}/")
    assert message.startswith("from 127.0.0.1: it ")


# --- Size


async def test_cht_06_the_largest_file(server: FileServer) -> None:
    exact = fetcher(FetchLimits(len(FILE)))
    assert await exact.fetch(f"{server.url}/a.wav", PARAM) == FILE
    assert await exact.fetch(f"{server.url}/a.wav", PARAM, max_bytes=10**9) == FILE  # lowers, never raises
    assert await exact.fetch(f"{server.url}/a.wav", PARAM, max_bytes=len(FILE)) == FILE


@pytest.mark.parametrize(("max_bytes", "limit"), [(None, len(FILE)), (10**9, len(FILE)), (1000, 1000), (0, 0)])
async def test_cht_06_too_large_by_its_own_account(server: FileServer, max_bytes: int | None, limit: int) -> None:
    """Nothing of the body is waited for."""
    server.answers["/"] = then(answer(Content_Length=str(limit + 1)), b"x", pause_s=0.1)
    message = await refusal(fetcher(), server.url, max_bytes)
    assert message == f"from 127.0.0.1: its file is larger than {limit} bytes."


@pytest.mark.parametrize(("max_bytes", "limit"), [(None, len(FILE)), (1000, 1000)])
@pytest.mark.parametrize("head", ["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"])
async def test_cht_06_a_body_without_end(server: FileServer, head: str, max_bytes: int | None, limit: int) -> None:
    server.answers["/"] = then(head.encode(), b"1000\r\n" + bytes(0x1000) + b"\r\n")
    message = await refusal(fetcher(), server.url, max_bytes)
    assert message == f"from 127.0.0.1: its file is larger than {limit} bytes."


async def test_cht_06_one_byte_too_many(server: FileServer) -> None:
    server.answers["/"] = b"HTTP/1.0 200 OK\r\n\r\n" + FILE + b"\0"
    assert "larger than" in await refusal(fetcher(), server.url)


async def test_cht_06_a_file_in_crumbs(server: FileServer) -> None:
    """Each costs as much time as a packet of an honest file: a small file may come so, a large one may not."""
    head, crumb = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"
    server.answers |= {"/small": head + crumb * NUM_SMALL_PIECES + b"0\r\n\r\n", "/large": then(head, crumb * 1000)}
    assert await fetcher().fetch(f"{server.url}/small", PARAM) == b"a" * NUM_SMALL_PIECES
    assert await refusal(fetcher(), f"{server.url}/large") == "from 127.0.0.1: its file comes in too many pieces."


# --- Time


@pytest.mark.parametrize(
    "script",
    [
        say_nothing,
        then(b"HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n", pause_s=0.05),
        then(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", pause_s=0.05),
        then(answer(Content_Length="1000"), b"x", pause_s=0.05),
        then(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", pause_s=0.05),
    ],
    ids=["silence", "headers", "hints", "body", "chunks"],
)
async def test_cht_06_too_slow(server: FileServer, script: Script) -> None:
    server.answers["/"] = script
    assert await refusal(fetcher(SHORT), server.url) == "from 127.0.0.1: it took longer than 0.5 s."


async def test_cht_06_a_name_server_that_is_too_slow(server: FileServer) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return ["127.0.0.1"]

    url = f"http://files.example:{server.port}/a.wav"
    message = await refusal(fetcher(SHORT, "files.example", resolve=resolve), url)
    assert message == "from files.example: it took longer than 0.5 s."
    assert server.num_connections == 0


async def test_cht_06_the_time_is_for_all_redirects_together(server: FileServer) -> None:
    def slowly(location: str) -> Script:
        return then(b"", redirect(location), pause_s=0.2, times=1)

    server.answers |= {f"/{number}": slowly(f"http://files.example:{server.port}/{number + 1}") for number in range(5)}
    files = fetcher(
        SHORT, "files.example", resolve=Names(**{"127_0_0_1": ["127.0.0.1"], "files_example": ["127.0.0.1"]})
    )
    assert await refusal(files, f"{server.url}/0") == "from files.example: it took longer than 0.5 s."
    assert server.paths[0] == "/0"
    assert len(server.paths) < 5


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "https://127.0.0.1:{port}/"])
async def test_cancellation_closes_the_connection(server: FileServer, url: str) -> None:
    """Also one in the middle of its TLS handshake, which this server leaves unanswered."""
    server.answers["/"] = then(answer(Content_Length="1000"), b"x", pause_s=0.01)
    task = asyncio.create_task(fetcher().fetch(url.format(port=server.port), PARAM))
    async with asyncio.timeout(5):
        while not server.num_open:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.closed()


# --- Redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("location", ["{url}/a.wav", "//127.0.0.1:{port}/a.wav", "/a.wav", "a.wav", "../x/../a.wav#x"])
async def test_cht_06_a_redirect(server: FileServer, status: str, location: str) -> None:
    server.answers["/here"] = redirect(location.format(url=server.url, port=server.port), status)
    assert await fetcher().fetch(f"{server.url}/here", PARAM) == FILE
    assert server.paths == ["/here", "/a.wav"]


async def test_cht_06_a_redirect_tells_nothing_of_the_request_before(server: FileServer) -> None:
    server.answers["/here"] = answer("302 Found", Location="/a.wav", Set_Cookie="a=secret; Path=/")
    one = fetcher()
    for _ in range(2):
        assert await one.fetch(f"{server.url}/here", PARAM) == FILE
    assert server.paths == ["/here", "/a.wav"] * 2
    heads = {request.partition("\r\n")[2] for request in server.requests}
    assert len(heads) == 1  # all four alike, so nothing is carried on


async def test_cht_06_as_many_redirects_as_allowed(server: FileServer) -> None:
    server.answers |= {f"/{number}": redirect(f"/{number + 1}") for number in range(5)} | {"/5": answer(body=FILE)}
    assert await fetcher().fetch(f"{server.url}/0", PARAM) == FILE
    few = fetcher(FetchLimits(len(FILE), max_redirects=4))
    assert await refusal(few, f"{server.url}/0") == "from 127.0.0.1: there are too many redirects."
    none = fetcher(FetchLimits(len(FILE), max_redirects=0))
    assert await refusal(none, f"{server.url}/4") == "from 127.0.0.1: there are too many redirects."
    assert await none.fetch(f"{server.url}/5", PARAM) == FILE


async def test_cht_06_redirects_in_a_circle(server: FileServer) -> None:
    server.answers |= {"/": redirect("/back"), "/back": redirect("/")}
    assert await refusal(fetcher(), server.url) == "from 127.0.0.1: there are too many redirects."
    assert server.paths == ["/", "/back"] * 3


async def test_cht_06_the_body_of_a_redirect_is_not_read(server: FileServer) -> None:
    server.answers["/"] = then(answer("302 Found", Location="/a.wav", Content_Length="999999999"), bytes(1000))
    assert await fetcher().fetch(server.url, PARAM) == FILE


async def test_cht_06_a_redirect_to_nowhere(server: FileServer) -> None:
    server.answers |= {"/": answer("302 Found"), "/empty": redirect("")}
    assert await refusal(fetcher(), server.url) == "from 127.0.0.1: it redirects to nowhere."
    assert await refusal(fetcher(), f"{server.url}/empty") == "from 127.0.0.1: it redirects to nowhere."


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/a.wav",
        "gopher://127.0.0.1:{port}/_GET",
        "data:audio/wav;base64,AAAA",
        "javascript:alert(1)",
        "http://user:password@127.0.0.1:{port}/a.wav",
        "http://127.0.0.1:{port}\\@files.example/a.wav",
        "\\\\127.0.0.1:{port}\\a.wav",
        "http://[::1/",
        "https:///a.wav",
        "http://127.0.0.1:99999/",
        "/a b.wav",
        "/" + "a" * 10_000,
    ],
)
async def test_cht_06_a_redirect_to_what_is_no_file(server: FileServer, location: str) -> None:
    server.answers["/"] = redirect(location.format(port=server.port))
    assert (await refusal(fetcher(), server.url)).startswith("from 127.0.0.1: it redirects, and the URL")
    assert server.num_connections == 1


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("http://localhost:{port}/a.wav", "localhost"),
        ("//LOCALHOST.:{port}/a.wav", "localhost"),
        ("http://2130706433:{port}/a.wav", "2130706433"),
        ("http://127.1:{port}/a.wav", "127.1"),
        ("http://127.0.0.2:{port}/a.wav", "127.0.0.2"),
        ("http://[::ffff:127.0.0.1]:{port}/a.wav", "::ffff:127.0.0.1"),
        ("http://0.0.0.0:{port}/a.wav", "0.0.0.0"),
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254"),
    ],
)
async def test_cht_06_a_redirect_inside(server: FileServer, location: str, host: str) -> None:
    """From an allowed host to one that is not, though it be the same machine."""
    server.answers["/"] = redirect(location.format(port=server.port))
    message = await refusal(fetcher(), server.url)
    assert message == f"from {host}: it does not resolve to addresses that are allowed."
    assert server.num_connections == 1


# --- Names and addresses

# all are 127.0.0.1 to the operating system
SPELLINGS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0X7F.0.0.1",
    "017700000001",
    "0177.1",
    "localhost",
    "LOCALHOST.",
    "127。0。0。1",
    "127\uff0e0\uff0e0\uff0e1",
    "0.0.0.0",
    "0",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:FFFF:7F00:0001]",
]

HOSTILE = [
    *(f"http://{host}:{{port}}/a.wav" for host in SPELLINGS),
    "https://127.0.0.1:{port}/a.wav",
    "HTTP://127.0.0.1:{port}/a.wav",
    "http://0177.0.0.1:{port}/a.wav",
    "http://127.0.0.01:{port}/a.wav",
    "http://127.0.0.1%2f:{port}/a.wav",
    "http://127%2e0%2e0%2e1:{port}/a.wav",
    "http://%31%32%37.0.0.1:{port}/a.wav",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127.0.0.1:{port}",
    "http://127.0.0.2:{port}/a.wav",
    "http://127.255.255.254:{port}/a.wav",
    "http://[::]:{port}/a.wav",
    "http://[::1]:{port}/a.wav",
    "http://[0000::1]:{port}/a.wav",
    "http://[::1%25lo]:{port}/a.wav",
    "http://[::127.0.0.1]:{port}/a.wav",
    "http://[::ffff:0:127.0.0.1]:{port}/a.wav",
    "http://[64:ff9b::7f00:1]:{port}/a.wav",
    "http://[64:ff9b:1::7f00:1]:{port}/a.wav",
    "http://[2002:7f00:1::]:{port}/a.wav",
    "http://[2001:0:7f00:1::]:{port}/a.wav",
    "http://[fe80::1%25eth0]:{port}/a.wav",
    "http://[fe80::1]:{port}/a.wav",
    "http://[fec0::1]:{port}/a.wav",
    "http://[fd00:ec2::254]:{port}/latest/meta-data/",
    "http://[ff02::1]:{port}/a.wav",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/latest/meta-data/",
    "http://100.100.100.200/latest/meta-data/",
    "http://168.63.129.16/metadata",
    "http://192.0.0.192/opc/v2/",
    "http://10.0.0.1:{port}/a.wav",
    "http://172.16.0.1:{port}/a.wav",
    "http://192.168.0.1:{port}/a.wav",
    "http://100.64.0.1:{port}/a.wav",
    "http://224.0.0.1:{port}/a.wav",
    "http://255.255.255.255:{port}/a.wav",
    "http://240.0.0.1:{port}/a.wav",
    "http://user@127.0.0.1:{port}/a.wav",
    "http://user:password@127.0.0.1:{port}/a.wav",
    "http://example.com@127.0.0.1:{port}/a.wav",
    "http://example.com:80@127.0.0.1:{port}/a.wav",
    "http://@127.0.0.1:{port}/a.wav",
    "http://127.0.0.1:{port}@example.com/a.wav",
    "http://127.0.0.1:{port}\\@example.com/a.wav",
    "http://example.com\\@127.0.0.1:{port}/a.wav",
    "http:\\\\127.0.0.1:{port}\\a.wav",
    "http:/127.0.0.1:{port}/a.wav",
    "http:127.0.0.1:{port}/a.wav",
    "//127.0.0.1:{port}/a.wav",
    "127.0.0.1:{port}/a.wav",
    "http:///127.0.0.1:{port}/a.wav",
    "http:///x",
    "http://",
    "http://:{port}/a.wav",
    "http://.:{port}/a.wav",
    "http://127.0.0.1..:{port}/a.wav",
    "http://127.0.0.1:99999/a.wav",
    "http://127.0.0.1:0/a.wav",
    "http://127.0.0.1:-1/a.wav",
    "http://127.0.0.1:{port}:{port}/a.wav",
    "http://127.0.0.1:{port}/a\n.wav",
    "http://127.0.0.1:{port}/a\r\nHost: example.com",
    "http://127.0.0.1\t:{port}/a.wav",
    "http://127.0.0.1\0:{port}/a.wav",
    "http://127.0.0.1 :{port}/a.wav",
    "\nhttp://127.0.0.1:{port}/a.wav",
    " http://127.0.0.1:{port}/a.wav",
    "http://127.0.0.1\u00ad:{port}/a.wav",
    "http://localhost\u200b:{port}/a.wav",
    "http://[::1:{port}/a.wav",
    "http://[127.0.0.1]:{port}/a.wav",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "FILE:/etc/passwd",
    "/etc/passwd",
    "gopher://127.0.0.1:{port}/_GET%20/",
    "ftp://127.0.0.1:{port}/a.wav",
    "dict://127.0.0.1:{port}/d",
    "ldap://127.0.0.1:{port}/",
    "ws://127.0.0.1:{port}/a.wav",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "javascript:alert(1)",
    "jar:http://127.0.0.1:{port}!/a.wav",
    "url:http://127.0.0.1:{port}/a.wav",
    "data:audio/wav;base64,AAAA",
    "",
    "http://127.0.0.1:{port}/" + "a" * 100_000,
]


@pytest.mark.parametrize("url", HOSTILE, ids=lambda url: ascii(url)[1:50])
async def test_cht_06_hostile_urls(server: FileServer, url: str) -> None:
    await refusal(fetcher_from(), url.format(port=server.port))
    await asyncio.sleep(0.01)  # for a connection on its way
    assert server.num_connections == 0


@pytest.mark.parametrize("host", SPELLINGS)
async def test_an_allowed_host_is_reached_by_any_spelling(server: FileServer, host: str) -> None:
    """What shows that the URLs of the table do lead somewhere."""
    assert await fetcher_from(host).fetch(f"http://{host}:{server.port}/a.wav", PARAM) == FILE


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("localhost", "http://LocalHost.:{port}/a.wav"),
        ("LocalHost.", "http://localhost:{port}/a.wav"),
        ("[::FFFF:127.0.0.1]", "http://[::ffff:127.0.0.1]:{port}/a.wav"),
        ("::ffff:127.0.0.1", "http://[::FFFF:127.0.0.1]:{port}/a.wav"),
    ],
)
async def test_cht_06_an_allowed_host_by_its_name(server: FileServer, allowed: str, url: str) -> None:
    assert await fetcher_from(allowed).fetch(url.format(port=server.port), PARAM) == FILE


@pytest.mark.parametrize(
    "url", ["file://127.0.0.1/etc/passwd", "http://a:b@127.0.0.1:{port}/", "ftp://127.0.0.1:{port}/"]
)
async def test_cht_06_an_allowed_host_is_not_asked_for_everything(server: FileServer, url: str) -> None:
    assert (await refusal(fetcher(), url.format(port=server.port))).startswith("from 127.0.0.1: the URL must ")
    assert server.num_connections == 0


@pytest.mark.parametrize("host", ["", "127.0.0.1:8000", "http://127.0.0.1", "10.0.0.0/8", "*.example", "a b", "a@b"])
def test_an_allowed_host_that_is_none(host: str) -> None:
    with pytest.raises(ConfigurationError, match="is no host"):
        MediaFetcher(frozenset({host}), LONG)


async def test_cht_06_a_name_in_another_script(server: FileServer) -> None:
    names = Names(**{"xn--bcher-kva_example": ["127.0.0.1"]})
    books = fetcher_from("Bücher.example", resolve=names)
    assert await books.fetch(f"http://bücher.example:{server.port}/a.wav", PARAM) == FILE
    assert f"Host: xn--bcher-kva.example:{server.port}\r\n" in server.requests[0]
    assert names.asked == ["xn--bcher-kva.example"]


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        [NOBODY, "127.0.0.1"],
        ["127.0.0.1", NOBODY],
        [*[NOBODY] * 20, "127.0.0.1"],
        [],
    ],
)
async def test_cht_06_a_name_inside(server: FileServer, addresses: list[str]) -> None:
    """One private address among public ones is enough; the message tells none of them."""
    files = fetcher_from(resolve=Names(files_example=addresses))
    message = await refusal(files, f"http://files.example:{server.port}/a.wav")
    assert message == "from files.example: it does not resolve to addresses that are allowed."
    assert server.num_connections == 0


async def test_cht_06_a_name_that_nobody_has() -> None:
    message = await refusal(fetcher_from(resolve=Names()), "http://files.example/a.wav")
    assert message == "from files.example: it does not resolve to addresses that are allowed."


class Rebinding(Names):
    """Public when it is checked, and inside ever after."""

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return [NOBODY] if len(self.asked) == 1 else ["127.0.0.1"]


async def test_cht_06_a_name_that_changes_its_address(server: FileServer) -> None:
    names = Rebinding()
    files = fetcher_from(limits=SHORT, resolve=names)
    assert (await refusal(files, f"http://files.example:{server.port}/a.wav")).startswith("from files.example: it ")
    assert names.asked == ["files.example"]  # not again to connect
    message = await refusal(files, f"http://files.example:{server.port}/a.wav")  # again by another request, and checked
    assert message == "from files.example: it does not resolve to addresses that are allowed."
    assert server.num_connections == 0


async def test_cht_06_every_redirect_is_resolved_and_checked(server: FileServer) -> None:
    names = Names(**{"127_0_0_1": ["127.0.0.1"], "files_example": [NOBODY, "127.0.0.1"]})
    server.answers["/"] = redirect(f"http://files.example:{server.port}/a.wav")
    message = await refusal(fetcher(resolve=names), server.url)
    assert message == "from files.example: it does not resolve to addresses that are allowed."
    assert names.asked == ["127.0.0.1", "files.example"]
    assert server.paths == ["/"]


async def test_the_next_address_when_one_cannot_be_connected_to(server: FileServer) -> None:
    names = Names(files_example=[NOBODY, "127.0.0.2", "127.0.0.1"])
    files = fetcher(FetchLimits(len(FILE), max_s=6.0), "files.example", resolve=names)
    assert await files.fetch(f"http://files.example:{server.port}/a.wav", PARAM) == FILE
    assert f"Host: files.example:{server.port}\r\n" in server.requests[0]


# --- TLS


@dataclass(frozen=True)
class Certificate:
    """Of files.example, by an authority that only `client` trusts."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    names: list[str | None]  # those that clients asked for


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "files.example")])
    today = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("files.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public = signed.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(private + public)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "server.pem")
    names: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    return Certificate(server, ssl.create_default_context(cadata=public.decode()), names)


@pytest.fixture
async def tls_server(certificate: Certificate) -> AsyncIterator[FileServer]:
    async with running(certificate.server) as server:
        server.answers["/a.wav"] = answer(body=FILE)
        yield server


NAMES = Names(files_example=["127.0.0.1"], other_example=["127.0.0.1"], **{"127_0_0_1": ["127.0.0.1"]})
HOSTS = ("files.example", "other.example")


async def test_cht_06_tls_is_with_the_name_though_the_connection_is_with_the_address(
    tls_server: FileServer, certificate: Certificate
) -> None:
    files = fetcher(LONG, *HOSTS, resolve=NAMES, tls=certificate.client)
    assert await files.fetch(f"https://FILES.example.:{tls_server.port}/a.wav", PARAM) == FILE
    assert certificate.names == ["files.example"]
    assert f"Host: files.example:{tls_server.port}\r\n" in tls_server.requests[0]


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1"])
async def test_cht_06_a_certificate_of_somebody_else(
    tls_server: FileServer, certificate: Certificate, host: str
) -> None:
    files = fetcher(LONG, *HOSTS, resolve=NAMES, tls=certificate.client)
    message = await refusal(files, f"https://{host}:{tls_server.port}/a.wav")
    assert message == f"from {host}: it cannot be connected to."
    assert tls_server.requests == []


async def test_cht_06_a_certificate_that_nobody_trusts(tls_server: FileServer) -> None:
    files = MediaFetcher(frozenset(HOSTS), LONG, resolve=NAMES)  # with certifi's authorities
    message = await refusal(files, f"https://files.example:{tls_server.port}/a.wav")
    assert message == "from files.example: it cannot be connected to."
    assert tls_server.requests == []


async def test_cht_06_no_tls_with_one_who_wants_it(tls_server: FileServer) -> None:
    message = await refusal(fetcher(), f"http://127.0.0.1:{tls_server.port}/a.wav")
    assert message == "from 127.0.0.1: its answer is not HTTP, or broke off."


async def test_cht_06_a_damaged_tls_record(tls_server: FileServer, certificate: Certificate) -> None:
    async def damage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(Content_Length="100"))
        await writer.drain()
        os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))

    tls_server.answers["/"] = damage
    files = fetcher(LONG, *HOSTS, resolve=NAMES, tls=certificate.client)
    message = await refusal(files, f"https://files.example:{tls_server.port}/")
    assert message == "from files.example: its answer is not HTTP, or broke off."


async def test_cht_06_from_https_to_http(server: FileServer, tls_server: FileServer, certificate: Certificate) -> None:
    tls_server.answers["/"] = redirect(f"{server.url}/a.wav")
    files = fetcher(LONG, *HOSTS, resolve=NAMES, tls=certificate.client)
    assert await files.fetch(f"https://files.example:{tls_server.port}/", PARAM) == FILE
