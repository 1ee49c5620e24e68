import tracemalloc
from base64 import b64decode, b64encode
from urllib.parse import quote

import pytest

from deployments.ingress.media.data_url import decode_base64, parse_data_url
from pipelines.errors import InvalidRequest

DATA = bytes(range(256))
ENCODED = b64encode(DATA).decode()


@pytest.mark.parametrize(
    "head",
    [
        "data:audio/wav;base64,",
        "data:;base64,",
        "data:application/octet-stream;base64,",
        "data:audio/ogg;codecs=opus;base64,",
        "data:text/plain;charset=utf-8;name=a.wav;base64,",
        "DATA:audio/wav;BASE64,",
        "data:nonsense;base64,",
    ],
)
def test_whatever_type_it_claims(head: str) -> None:
    assert parse_data_url(head + ENCODED, "x") == DATA


def test_white_space_is_no_data() -> None:
    lines = "\r\n".join(ENCODED[start : start + 76] for start in range(0, len(ENCODED), 76))
    assert parse_data_url(f"  data:audio/wav;base64, {lines}\n", "x") == DATA


@pytest.mark.parametrize("num_bytes", [1, 2, 3, 4])
def test_every_padding(num_bytes: int) -> None:
    assert parse_data_url(f"data:;base64,{b64encode(DATA[:num_bytes]).decode()}", "x") == DATA[:num_bytes]


@pytest.mark.parametrize("num_bytes", [254, 255, 256])
def test_what_a_url_may_not_hold_may_be_quoted(num_bytes: int) -> None:
    """`+`, `/` and `=`, as some programs do with all of a URL."""
    encoded = b64encode(DATA[:num_bytes]).decode()
    assert "+" in encoded
    assert "/" in encoded
    for name in (quote(encoded, safe=""), quote(encoded, safe="").replace("%2F", "%2f"), quote(f"{encoded}\n")):
        assert "%" in name
        assert parse_data_url(f"data:audio/wav;base64,{name}", "x") == DATA[:num_bytes]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "agent.wav",
        ENCODED,
        "http://127.0.0.1/agent.wav",
        "https://example.com/data:audio/wav;base64,AAAA",
        "file:///etc/passwd",
        "data:audio/wav",
        "data:audio/wav;base64",
        "data:audio/wav,RIFF",
        "data:audio/wav;base32,AAAA",
        "data:audio/wav;base64;AAAA",
        "data:audio/wav;base64,",
        "data:audio/wav;base64,   ",
        "data:audio/wav;base64,A",
        "data:audio/wav;base64,AAA",
        "data:audio/wav;base64,AA==AAAA",
        "data:audio/wav;base64,AAAA!AAA",
        "data:audio/wav;base64,AAAA,AAAA",
        "data:audio/wav;base64,ÄÄÄÄ",
        "data:audio/wav;base64,\ud800AAA",
        "data:audio/wav;base64,%41\ud800AAA",
        "data:audio/wav;base64,%C3%84AAA",
        "data:audio/wav;base64,%",
        "data:audio/wav;base64,AAA%3",
        "data:audio/wav;base64,AAA%3D%3D",
        "xdata:audio/wav;base64,AAAA",
    ],
)
def test_what_is_no_base64_data_url(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_data_url(url, "known_speaker_references")
    assert (caught.value.param, caught.value.code) == ("known_speaker_references", "invalid_value")
    assert caught.value.message.startswith("known_speaker_references ")
    assert len(caught.value.message) < 200  # the data itself is not repeated


@pytest.mark.parametrize("encoded", [ENCODED, f"\n{ENCODED[:8]} \t{ENCODED[8:]}\r\n"])
def test_base64_alone(encoded: str) -> None:
    assert decode_base64(encoded, "x") == DATA


@pytest.mark.parametrize(
    "encoded", ["", " ", "A", "AAA", "AA=A", "AAAA%3D", "-_-_", "data:;base64,AAAA", "ÄAAA", "\ud800"]
)
def test_what_is_no_base64(encoded: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_base64(encoded, "messages[0].content[1].input_audio.data")
    assert caught.value.param == "messages[0].content[1].input_audio.data"
    assert caught.value.message.startswith("messages[0].content[1].input_audio.data holds ")


def test_what_is_quoted_takes_hardly_more_memory_than_what_is_not() -> None:
    """A body of 40 MB must not become gigabytes."""
    url = "data:;base64," + "%2B" * 400_000
    tracemalloc.start()
    try:
        assert parse_data_url(url, "x") == b64decode(b"+" * 400_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(url)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("piece", [";", ";base64", ";a=b", " ", ","])
@pytest.mark.parametrize("end", ["", ";base64,"])
def test_no_url_takes_long(piece: str, end: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_data_url("data:audio/wav" + piece * 200_000 + end, "x")
