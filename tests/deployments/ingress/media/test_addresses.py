import httpx
import pytest

from deployments.ingress.media.addresses import MAX_URL_CHARS, Unfetchable, is_public, parse_target

BASE = httpx.URL("https://files.example:8443/a/b.wav?c=d")


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.167.255.255",
        "192.169.0.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001:800::200e",
        "2003::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_cht_06_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.100.100.200",  # Alibaba's metadata
        "100.127.255.255",
        "127.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "168.63.129.16",  # Azure's
        "169.254.0.0",
        "169.254.169.254",  # most clouds' metadata
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.0.192",  # Oracle's metadata
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:0.0.0.0",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:100.64.0.1",
        "::ffff:168.63.129.16",
        "::ffff:169.254.169.254",
        "::ffff:224.0.0.1",
        "::ffff:0:127.0.0.1",  # SIIT
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::127.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2001::1",
        "2001:0:808:808:0:0:80ff:fffe",  # Teredo, both ends of 127.0.0.1 and 8.8.8.8
        "2001:db8::1",
        "2001:10::1",
        "2002:7f00:1::",
        "2002:a00:1::",
        "2002:808:808::",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",  # Amazon's metadata
        "fd00:c1::a9fe:a9fe",  # Oracle's
        "fe80::1",
        "fe80::1%eth0",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_cht_06_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://example.com", "example.com", 80),
        ("https://example.com/a.wav", "example.com", 443),
        ("HTTPS://EXAMPLE.com./a.wav", "example.com", 443),
        ("http://example.com:8080/a@b:c", "example.com", 8080),
        ("https://example.com:80", "example.com", 80),
        ("http://media_server.internal:65535/", "media_server.internal", 65535),
        ("http://bücher.example/ä", "xn--bcher-kva.example", 80),
        ("http://xn--bcher-kva.example/", "xn--bcher-kva.example", 80),
        ("http://xn--999999999.example/", "xn--999999999.example", 80),  # no valid punycode, but a name
        ("http://127。0。0。1/", "127.0.0.1", 80),
        ("http://127.0.0.1./", "127.0.0.1", 80),
        ("http://[2606:4700::1]:81/", "2606:4700::1", 81),
        ("http://[FE80::1]/", "fe80::1", 80),
        ("http://2130706433/", "2130706433", 80),
        ("http://evil.example#@127.0.0.1/", "evil.example", 80),
        ("http://evil.example?@127.0.0.1/", "evil.example", 80),
    ],
)
def test_the_host_that_is_connected_to(url: str, host: str, port: int) -> None:
    target = parse_target(url)
    assert (target.host, target.port) == (host, port)
    assert target.url.raw_host == host.encode()


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://other.example/x", "https://other.example/x"),
        ("http://other.example", "http://other.example"),
        ("//other.example/x", "https://other.example/x"),
        ("/x", "https://files.example:8443/x"),
        ("x", "https://files.example:8443/a/x"),
        ("../x", "https://files.example:8443/x"),
        ("?x=y", "https://files.example:8443/a/b.wav?x=y"),
        ("#x", "https://files.example:8443/a/b.wav?c=d#x"),
    ],
)
def test_cht_06_relative(location: str, url: str) -> None:
    assert str(parse_target(location, base=BASE).url) == url


@pytest.mark.parametrize(
    ("url", "host", "reason"),
    [
        ("ftp://example.com/a.wav", "example.com", "the URL must begin with http:// or https://"),
        ("//example.com/a.wav", "example.com", "the URL must begin with http:// or https://"),
        ("http://user@example.com/", "example.com", "the URL must not hold a user or password"),
        ("http://:@example.com/", "example.com", "the URL must not hold a user or password"),
        ("http://example.com:0/", "example.com", "the URL's port is not valid"),
        ("http://example.com:-1/", "example.com", "the URL's port is not valid"),
        ("http://example.com:65536/", "example.com", "the URL's port is not valid"),
        ("http://example.com:http/", "", "the URL is not valid"),
        ("http://example.com:" + "9" * 5000, "", "the URL is not valid"),
        ("http://example.com:80:80/", "", "the URL is not valid"),
        ("", "", "the URL must begin with http:// or https://"),
        ("a.wav", "", "the URL must begin with http:// or https://"),
        ("file:///etc/passwd", "", "the URL must begin with http:// or https://"),
        ("javascript:alert(1)", "", "the URL must begin with http:// or https://"),
        ("http:", "", "the URL has no valid host"),
        ("http:///a.wav", "", "the URL has no valid host"),
        ("http://./", "", "the URL has no valid host"),
        ("http://a..b/", "", "the URL has no valid host"),
        ("http://a.b../", "", "the URL has no valid host"),
        ("http://a%2eb/", "", "the URL has no valid host"),
        ("http://a%00b/", "", "the URL has no valid host"),
        ("http://[::1/", "", "the URL is not valid"),
        ("http://[::1%25lo]/", "", "the URL has no valid host"),
        ("http://[v1.fe80]/", "", "the URL is not valid"),
        ("http://1.2.3.256/", "", "the URL is not valid"),
        ("http://0177.0.0.1/", "", "the URL is not valid"),
        ("http://0177.0.0.1./", "", "the URL is not valid"),
        ("http://①②⑦.⓪.⓪.①/", "", "the URL is not valid"),
        (f"http://{'a' * 64}.example/", "", "the URL has no valid host"),
        (f"http://{'a.' * 127}a/", "", "the URL has no valid host"),
        ("http://example.com\\@127.0.0.1/", "", "the URL holds white space, control characters or backslashes"),
        ("http://example.com/a\tb", "", "the URL holds white space, control characters or backslashes"),
        ("http://example.com/a\u2028b", "", "the URL holds white space, control characters or backslashes"),
        (" http://example.com/", "", "the URL holds white space, control characters or backslashes"),
        ("http://example.com/\ud800", "", "the URL holds white space, control characters or backslashes"),
        ("http://example.com/" + "a" * MAX_URL_CHARS, "", "the URL is too long"),
    ],
)
def test_cht_06_what_is_no_url_of_a_file(url: str, host: str, reason: str) -> None:
    with pytest.raises(Unfetchable) as caught:
        parse_target(url)
    assert (caught.value.host, caught.value.reason) == (host, reason)


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "\\\\127.0.0.1\\x", "http:///x", "//[::1", "//a\u2100b/", "http://a:b@c/"]
)
def test_cht_06_what_is_no_url_of_a_file_after_a_redirect(location: str) -> None:
    with pytest.raises(Unfetchable):
        parse_target(location, base=BASE)


def test_the_longest_url() -> None:
    start = "http://example.com/"
    assert parse_target(start + "a" * (MAX_URL_CHARS - len(start))).host == "example.com"
