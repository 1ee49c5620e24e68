from base64 import b64encode

import pytest

from deployments.ingress.data_url import parse_data_url
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
        "xdata:audio/wav;base64,AAAA",
    ],
)
def test_what_is_no_base64_data_url(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_data_url(url, "known_speaker_references")
    assert (caught.value.param, caught.value.code) == ("known_speaker_references", "invalid_value")
    assert caught.value.message.startswith("known_speaker_references ")
    assert len(caught.value.message) < 200  # the data itself is not repeated


@pytest.mark.timeout(10)
@pytest.mark.parametrize("piece", [";", ";base64", ";a=b", " ", ","])
@pytest.mark.parametrize("end", ["", ";base64,"])
def test_no_url_takes_long(piece: str, end: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_data_url("data:audio/wav" + piece * 200_000 + end, "x")
