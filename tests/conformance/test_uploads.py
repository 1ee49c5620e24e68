"""TRP-01 and section 8: what may be uploaded, and how much of it."""

import io
import socket
from collections.abc import Iterator

import av
import httpx
import numpy as np
import pytest

from tests.conformance.audio import SAMPLE_RATE_HZ, encode, mux, padded_to, samples_of, silence
from tests.conformance.scoring import word_error_rate
from tests.conformance.wire import Api, assert_refused
from tests.conftest import Clip

MAX_UPLOAD_BYTES = 26_214_400

# A sentence in 8 bits or from a lossy codec may lose a word.
MAX_WORD_ERROR_RATE = 0.35


def assert_heard(api: Api, upload: bytes, clip: Clip) -> None:
    response = api.transcribe(upload, response_format="verbose_json")
    assert response.status_code == 200, response.text
    answer = response.json()
    assert word_error_rate([clip.text], [answer["text"]]) <= MAX_WORD_ERROR_RATE
    # Encoders pad their first and last frames.
    assert answer["duration"] == pytest.approx(len(samples_of(clip)) / SAMPLE_RATE_HZ, abs=0.15)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "PCM_32"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAV", "ULAW"),
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_trp_01_formats_and_bit_depths(api: Api, clip: Clip, container: str, subtype: str) -> None:
    assert_heard(api, encode(samples_of(clip), SAMPLE_RATE_HZ, container, subtype), clip)


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "aac"), ("ipod", "aac"), ("webm", "libopus"), ("mpeg", "mp2"), ("mp3", "libmp3lame")],
    ids=["mp4", "m4a", "webm", "mpeg", "mpga"],
)
def test_trp_01_containers(api: Api, clip: Clip, container: str, codec: str) -> None:
    assert_heard(api, mux(samples_of(clip), container, codec), clip)


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("mpeg", "mp2")])
def test_trp_01_video_is_ignored(api: Api, clip: Clip, container: str, codec: str) -> None:
    assert_heard(api, mux(samples_of(clip), container, codec, with_video=True), clip)


def test_trp_01_video_without_sound_is_refused(api: Api, clip: Clip) -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        output.mux(stream.encode(None))
    assert_refused(api.transcribe(buffer.getvalue()), 400, "file", None)


@pytest.mark.parametrize("factor", [3, 6])
def test_trp_01_higher_sample_rates(api: Api, clip: Clip, factor: int) -> None:
    samples = samples_of(clip)
    positions = np.arange(len(samples) * factor) / factor
    upsampled = np.interp(positions, np.arange(len(samples)), samples).astype(np.float32)
    assert_heard(api, encode(upsampled, SAMPLE_RATE_HZ * factor), clip)


@pytest.mark.parametrize("num_channels", [2, 6])
def test_trp_01_channels(api: Api, clip: Clip, num_channels: int) -> None:
    assert_heard(api, encode(np.repeat(samples_of(clip)[:, np.newaxis], num_channels, axis=1)), clip)


def test_trp_01_a_file_cut_off_is_heard_as_far_as_it_goes(api: Api, clips: list[Clip]) -> None:
    upload = encode(np.concatenate([samples_of(clip) for clip in clips[:2]]))
    response = api.transcribe(upload[: len(upload) // 2], response_format="verbose_json")
    assert response.status_code == 200, response.text
    assert 0 < response.json()["duration"] < 0.6 * sum(len(samples_of(clip)) / SAMPLE_RATE_HZ for clip in clips[:2])


@pytest.mark.also_real
def test_sec_8_a_file_of_exactly_the_limit_is_taken(api: Api) -> None:
    response = api.transcribe(padded_to(encode(silence(1)), MAX_UPLOAD_BYTES))
    assert (response.status_code, response.json()["text"]) == (200, "")


def test_sec_8_one_byte_more_is_not(api: Api) -> None:
    assert_refused(api.transcribe(padded_to(encode(silence(1)), MAX_UPLOAD_BYTES + 1)), 413, None, "file")


@pytest.mark.also_real
def test_trp_01_413_while_reading_a_body_of_unknown_length(api: Api) -> None:
    boundary = "a-boundary"

    def body() -> Iterator[bytes]:
        yield f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
        for _ in range(40):
            yield bytes(1_048_576)
        yield f"\r\n--{boundary}--\r\n".encode()

    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    try:
        response = api.client.post("/v1/audio/transcriptions", content=body(), headers=headers)
    except httpx.WriteError:
        pytest.fail("The connection was closed before the answer could be read.")
    assert_refused(response, 413, None, "file")


@pytest.mark.also_real
def test_trp_01_413_by_content_length_alone(api: Api) -> None:
    """Refused before the body was sent."""
    url = httpx.URL(api.url)
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: 100000000\r\n"
        "Content-Type: multipart/form-data; boundary=a-boundary\r\n\r\n--a-boundary\r\n"
    )
    with socket.create_connection((url.host, url.port or 80), timeout=20) as connection:
        connection.sendall(head.encode())
        status_line = connection.makefile("rb").readline()
    assert status_line.split()[1] == b"413"
