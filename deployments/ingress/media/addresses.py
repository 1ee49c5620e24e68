"""Where a file may be fetched from: the rules on URLs and on addresses. Nobody is asked here."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

MAX_URL_CHARS = 8192
DEFAULT_PORTS = {"http": 80, "https": 443}

HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
MAX_HOST_CHARS = 253

# What `ipaddress` of some Python calls global although nobody on the internet is there.
NOT_PUBLIC_V4 = (
    IPv4Network("168.63.129.16/32"),  # Azure's metadata and DNS
    IPv4Network("192.0.0.0/24"),  # protocol assignments, and Oracle's metadata
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
)
GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")  # the rest is local, multicast, translated or of no use yet
NOT_PUBLIC_V6 = (
    IPv6Network("2001::/32"),  # Teredo and …
    IPv6Network("2002::/16"),  # … 6to4: tunnels, which end at an IPv4 address of the sender's choice
    IPv6Network("3fff::/20"),  # documentation
)
NAT64 = IPv6Network("64:ff9b::/96")


class Unfetchable(Exception):
    """`Unfetchable(reason, host)`: `reason` says of `host` what is wrong; `host` is "" where a URL names none."""

    def __init__(self, reason: str, host: str) -> None:
        super().__init__(reason, host)
        self.reason = reason
        self.host = host


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for a file. `host` is the URL's, as ASCII in lower case, without a final dot and brackets."""

    url: httpx.URL
    host: str
    port: int


def parse_target(text: str, base: httpx.URL | None = None) -> Target:
    """Relative to `base` where there is one.

    The parser is the HTTP client's own, so that what is checked is what is connected to. It forgives much, hence the
    narrow rules before and after it.

    Raises:
        Unfetchable
    """
    if len(text) > MAX_URL_CHARS:
        raise Unfetchable("the URL is too long", "")
    if any(not char.isprintable() or char.isspace() or char == "\\" for char in text):
        raise Unfetchable("the URL holds white space, control characters or backslashes", "")
    try:
        url = httpx.URL(text) if base is None else base.join(text)
        host = canonical_host(url)
        url = url.copy_with(host=host)
    except (httpx.InvalidURL, ValueError):  # ValueError: join is by urllib
        raise Unfetchable("the URL is not valid", "") from None
    if url.scheme not in DEFAULT_PORTS:
        raise Unfetchable("the URL must begin with http:// or https://", host)
    if not host:
        raise Unfetchable("the URL has no valid host", "")
    if url.userinfo:
        raise Unfetchable("the URL must not hold a user or password", host)
    port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    if not 0 < port <= 65535:
        raise Unfetchable("the URL's port is not valid", host)
    return Target(url, host, port)


def canonical_host(url: httpx.URL) -> str:
    """The one way to write it; "" for none, or one that is neither a name nor an address."""
    host = url.raw_host.decode("ascii").lower().removesuffix(".")
    if ":" in host:  # an IPv6 address, as the parser has seen to; its zone would be one of this machine's
        return "" if "%" in host else host
    return host if len(host) <= MAX_HOST_CHARS and HOST_NAME.fullmatch(host) else ""


def is_public(address: str) -> bool:
    """Whether it is one of the internet's, and not of this machine, its networks or its cloud."""
    ip = _translated(ip_address(address))
    if not ip.is_global or ip.is_multicast:
        return False
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in NOT_PUBLIC_V4)
    return ip in GLOBAL_UNICAST_V6 and not any(ip in network for network in NOT_PUBLIC_V6)


def _translated(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address behind an IPv6 address that only stands for it."""
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in NAT64:
            return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip
