"""Files that a request names by URL, downloaded by a guarded client (CHT-06).

Whoever sends a request chooses where this server connects to. So every host is resolved once, every address of the
answer must be public, and the connection is made to an address that was checked; redirects are requests like the first.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import httpx

from deployments.ingress.http.body_limit import hold
from deployments.ingress.media.addresses import Target, Unfetchable, canonical_host, is_public, parse_target
from pipelines.errors import ConfigurationError, InvalidRequest

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_ADDRESSES = 4  # how many of a host's addresses are tried
MAX_LOOKUPS = 16  # at a time
# In how many pieces a file may come: of a packet, or of a chunk of audio, each is some hundred bytes and more.
# Chunks of one byte would keep this process busy for minutes.
MIN_MEAN_PIECE_BYTES = 256
NUM_SMALL_PIECES = 1000

# (host, port) → addresses; OSError when there are none
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """`max_bytes` of one file; `max_s` for everything: names, connections, redirects and the file."""

    max_bytes: int
    max_s: float = 10.0
    max_redirects: int = 5


class SystemResolver:
    """Asks the operating system, in threads of its own: a name server that never answers would hold, longer than any
    limit of ours, the event loop's threads that uploads go through."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_LOOKUPS, "resolver")

    async def __call__(self, host: str, port: int) -> list[str]:
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [str(sockaddr[0]) for *_, sockaddr in answer]


class MediaFetcher:
    """Downloads over http and https from public addresses, and from `allowed_hosts` wherever they are.

    `allowed_hosts` are names and IP addresses as they stand in URLs, without port and brackets. Nothing but the check
    of their addresses is skipped. `resolve` and `tls` replace the operating system's resolver and certifi's
    certificates.

    Raises:
        ConfigurationError: an allowed host is none.
    """

    def __init__(
        self,
        allowed_hosts: frozenset[str],
        limits: FetchLimits,
        *,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed_hosts = frozenset(map(allowed_host, allowed_hosts))
        self._limits = limits
        self._resolve = resolve or SystemResolver()
        self._tls = tls or httpx.create_ssl_context(trust_env=False)
        self._user_agent = f"auricle/{version('auricle')}"

    async def fetch(self, url: str, param: str, max_bytes: int | None = None) -> bytes:
        """The file at `url`, never empty, of at most `max_bytes` where they are fewer than the limit.

        Raises:
            InvalidRequest: naming `param` and the host at which it failed.
            Overloaded: too much is held for other requests.
        """
        max_bytes = self._limits.max_bytes if max_bytes is None else min(max_bytes, self._limits.max_bytes)
        try:
            return await self._follow(url, max_bytes)
        except Unfetchable as failure:
            place = f" from {failure.host}" if failure.host else ""
            raise InvalidRequest(f"{param} could not be fetched{place}: {failure.reason}.", param) from None

    async def _follow(self, url: str, max_bytes: int) -> bytes:
        deadline_s = asyncio.get_running_loop().time() + self._limits.max_s
        target = parse_target(url)
        for _ in range(1 + self._limits.max_redirects):
            answer = await self._ask(target, deadline_s, max_bytes)
            if isinstance(answer, bytes):
                return answer
            target = answer
        raise Unfetchable("there are too many redirects", target.host)

    async def _ask(self, target: Target, deadline_s: float, max_bytes: int) -> bytes | Target:
        """The file, or where it is said to be. Every error on the way becomes an `Unfetchable` of this host."""
        try:
            async with asyncio.timeout_at(deadline_s):
                addresses = await self._addresses(target)
                async with self._answer(target, addresses) as response:
                    if response.status_code in REDIRECTS:
                        return _redirect_target(target, response)
                    return await _read(target, response, max_bytes)
        except TimeoutError:
            raise Unfetchable(f"it took longer than {self._limits.max_s:g} s", target.host) from None
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise Unfetchable("it cannot be connected to", target.host) from None
        except (httpx.HTTPError, OSError):  # OSError: a damaged TLS record passes through httpx as it is
            raise Unfetchable("its answer is not HTTP, or broke off", target.host) from None

    async def _addresses(self, target: Target) -> Sequence[str]:
        """Those to connect to. One that is not public spoils all: such an answer is no honest host's."""
        try:
            addresses = await self._resolve(target.host, target.port)
        except OSError:
            addresses = ()
        if target.host not in self._allowed_hosts and not all(map(is_public, addresses)):
            addresses = ()
        if not addresses:  # one message for both, which tells nobody what names the network inside has
            raise Unfetchable("it does not resolve to addresses that are allowed", target.host)
        return addresses[:MAX_ADDRESSES]

    @asynccontextmanager
    async def _answer(self, target: Target, addresses: Sequence[str]) -> AsyncIterator[httpx.Response]:
        """Its head is here, its body is yet to come. No connection outlives it, to be used after another check."""
        async with AsyncExitStack() as opened:

            async def on_event(event: str, info: dict[str, Any]) -> None:
                # httpcore forgets a connection whose TLS handshake is cancelled, and does not close it
                if event == "connection.connect_tcp.complete":
                    opened.push_async_callback(info["return_value"].aclose)

            transport = await opened.enter_async_context(httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False))
            extensions = {"trace": on_event, "timeout": {"connect": self._limits.max_s / len(addresses)}}
            requests = [self._request(target, address, extensions) for address in addresses]
            yield await opened.enter_async_context(aclosing(await _send_first(transport, requests)))

    def _request(self, target: Target, address: str, extensions: dict[str, Any]) -> httpx.Request:
        """To the address; the URL's host is in the Host header, and the one that the certificate is checked for."""
        headers = {
            "Host": target.url.netloc.decode("ascii"),
            "User-Agent": self._user_agent,
            "Accept": "*/*",
            "Accept-Encoding": "identity",  # a small answer must not unpack to a large one
            "Connection": "close",
        }
        url = target.url.copy_with(host=address)
        return httpx.Request("GET", url, headers=headers, extensions={**extensions, "sni_hostname": target.host})


async def _send_first(transport: httpx.AsyncHTTPTransport, requests: Sequence[httpx.Request]) -> httpx.Response:
    """The answer to the first request whose address lets itself be connected to."""
    *others, last = requests
    for request in others:
        with suppress(httpx.ConnectError, httpx.ConnectTimeout):
            return await transport.handle_async_request(request)
    return await transport.handle_async_request(last)


def _redirect_target(target: Target, response: httpx.Response) -> Target:
    location = response.headers.get("location")
    if not location:
        raise Unfetchable("it redirects to nowhere", target.host)
    try:
        return parse_target(location, base=target.url)
    except Unfetchable as failure:  # the one that sends there is the one to name
        raise Unfetchable(f"it redirects, and {failure.reason}", target.host) from None


async def _read(target: Target, response: httpx.Response, max_bytes: int) -> bytes:
    """The body as it was sent, not unpacked."""
    if response.status_code != 200:
        raise Unfetchable(f"it answered {response.status_code}", target.host)
    too_large = Unfetchable(f"its file is larger than {max_bytes} bytes", target.host)
    if int(response.headers.get("content-length", 0)) > max_bytes:
        raise too_large
    body = bytearray()
    num_pieces_left = NUM_SMALL_PIECES + max_bytes // MIN_MEAN_PIECE_BYTES
    async for piece in response.aiter_raw():
        hold(len(piece))
        body += piece
        num_pieces_left -= 1
        if len(body) > max_bytes:
            raise too_large
        if num_pieces_left < 0:
            raise Unfetchable("its file comes in too many pieces", target.host)
        await asyncio.sleep(0)  # thousands of pieces may have come at once: let others have their turn
    if not body:
        raise Unfetchable("its file is empty", target.host)
    return bytes(body)


def allowed_host(host: str) -> str:
    """As it stands in `Target`.

    Raises:
        ConfigurationError: it is none; neither a port nor a network belongs to it.
    """
    with suppress(httpx.InvalidURL):
        if canonical := canonical_host(httpx.URL(scheme="http", host=host)):
            return canonical
    raise ConfigurationError(f"{host!r} is no host that files could be fetched from.")
