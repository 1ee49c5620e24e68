"""CHT-04 to CHT-08: audio in messages, inside the request and behind URLs."""

import json
import socket
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from tests.conformance.audio import SAMPLE_RATE_HZ, encode, mux, padded_to, samples_of, silence
from tests.conformance.chat import (
    MODEL,
    PATH,
    TRANSCRIBE,
    Json,
    audio_url,
    body,
    chat,
    chunks,
    completion,
    data_url,
    input_audio,
    message,
    reply,
    texts,
    user,
)
from tests.conformance.media_server import MediaServer, Page, endless
from tests.conformance.scoring import word_error_rate
from tests.conformance.wire import Api, assert_refused, error_of
from tests.conftest import Clip, Server
from tests.scripted.server import NATIVE_CHAT_MODEL

MAX_FILE_BYTES = 26_214_400
MAX_FETCH_S = 10.0
MAX_AUDIOS = 8
MAX_AUDIO_S = 30.0
"""More `NATIVE_CHAT_MODEL` does not hear."""

DATA, URL = "messages[0].content[0].input_audio.data", "messages[0].content[0].audio_url.url"

# A lossy codec may cost a word.
MAX_WORD_ERROR_RATE = 0.35


def transcript(api: Api, audio: Json, **parameters: Any) -> str:
    return reply(api, user(audio, TRANSCRIBE), **parameters)


def assert_heard(api: Api, audio: Json, clip: Clip) -> None:
    answer = completion(api, user(audio, TRANSCRIBE))
    assert word_error_rate([clip.text], texts(answer)) <= MAX_WORD_ERROR_RATE
    assert answer["usage"]["prompt_tokens_details"]["audio_tokens"] > 0


def assert_audio_refused(api: Api, audio: Json, param: str, code: str | None = None) -> str:
    """Streamed or not; the error's message."""
    for stream in (False, True):
        response = chat(api, user(audio, TRANSCRIBE), stream=stream)
        assert_refused(response, 400, param, code=code)
    return str(error_of(response)["message"])


# CHT-04 ----------------------------------------------------------------------------------------------------------

FORMATS: dict[str, Callable[[Clip], bytes]] = {
    "wav": lambda clip: encode(samples_of(clip)),
    "mp3": lambda clip: encode(samples_of(clip), container="MP3"),
    "flac": lambda clip: clip.data,
    "ogg": lambda clip: encode(samples_of(clip), container="OGG", subtype="VORBIS"),
    "oga": lambda clip: encode(samples_of(clip), container="OGG", subtype="OPUS"),
    "webm": lambda clip: mux(samples_of(clip), "webm", "libopus"),
    "m4a": lambda clip: mux(samples_of(clip), "ipod", "aac"),
    "mp4": lambda clip: mux(samples_of(clip), "mp4", "aac"),
    "mpeg": lambda clip: mux(samples_of(clip), "mpeg", "mp2"),
    "mpga": lambda clip: mux(samples_of(clip), "mp3", "libmp3lame"),
}


@pytest.mark.parametrize("audio_format", FORMATS)
def test_cht_04_formats(api: Api, clip: Clip, audio_format: str) -> None:
    assert_heard(api, input_audio(FORMATS[audio_format](clip), audio_format), clip)


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "webm"])
def test_cht_04_the_format_is_only_a_hint(api: Api, clip: Clip, audio_format: str) -> None:
    assert_heard(api, input_audio(clip.data, audio_format), clip)


@pytest.mark.parametrize("audio_format", ["", "pcm16", "midi", "audio/wav", "wave sound", 7, []])
def test_cht_04_unknown_formats(api: Api, clip: Clip, audio_format: Any) -> None:
    assert_audio_refused(api, input_audio(clip.data, audio_format), "messages[0].content[0].input_audio.format")


@pytest.mark.also_real
@pytest.mark.parametrize(
    "data",
    [
        "",
        "=",
        "A",
        "AAAAA",
        "not base64!",
        "ZkxhQw==ZkxhQw==",
        "日本語",
        "\x00\x00\x00\x00",
        "ZkxhQ\u200bw==",
        urlsafe_b64encode(bytes(range(256))).decode(),
    ],
    ids=ascii,
)
def test_cht_04_bad_base64(api: Api, data: str) -> None:
    assert_audio_refused(api, {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}, DATA)


def test_cht_04_base64_in_lines(api: Api, clip: Clip) -> None:
    encoded = b64encode(clip.data).decode()
    lines = "\r\n".join(encoded[start : start + 76] for start in range(0, len(encoded), 76))
    assert_heard(api, {"type": "input_audio", "input_audio": {"data": lines, "format": "wav"}}, clip)


@pytest.mark.parametrize("head", ["data:audio/flac;base64,", " DATA:;base64,"])
def test_cht_04_a_data_url_in_the_place_of_base64(api: Api, clip: Clip, head: str) -> None:
    """As a browser's FileReader gives it."""
    data = head + b64encode(clip.data).decode()
    assert_heard(api, {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}, clip)


def test_cht_04_a_data_url_that_is_none(api: Api) -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "data:audio/flac,UklGRg==", "format": "wav"}}
    assert "data URLs such as" in assert_audio_refused(api, audio, DATA)


@pytest.mark.also_real
@pytest.mark.parametrize(
    "data",
    [
        b"This is no audio at all.",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(64),
        b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1/secret.wav\n",
        bytes(range(256)) * 40,
        encode(silence(1))[:44],
        encode(silence(1), container="FLAC")[:60],
    ],
    ids=["text", "png", "playlist", "bytes", "header-of-wav", "header-of-flac"],
)
def test_cht_04_what_is_no_audio(api: Api, data: bytes) -> None:
    assert_audio_refused(api, input_audio(data), DATA)


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_audio"}, "messages[0].content[0].input_audio"),
        ({"type": "input_audio", "input_audio": None}, "messages[0].content[0].input_audio"),
        ({"type": "input_audio", "input_audio": "AAAA"}, "messages[0].content[0].input_audio"),
        ({"type": "input_audio", "input_audio": {}}, DATA),
        ({"type": "input_audio", "input_audio": {"format": "wav"}}, DATA),
        ({"type": "input_audio", "input_audio": {"data": None, "format": "wav"}}, DATA),
        ({"type": "input_audio", "input_audio": {"data": 7, "format": "wav"}}, DATA),
        ({"type": "input_audio", "data": "AAAA", "format": "wav"}, "messages[0].content[0].input_audio"),
    ],
    ids=str,
)
def test_cht_04_malformed_parts(api: Api, part: Json, param: str) -> None:
    assert_audio_refused(api, part, param)


def test_cht_04_less_than_a_tenth_of_a_second_is_too_short(api: Api) -> None:
    assert_audio_refused(api, input_audio(encode(silence(0.05))), DATA, "audio_too_short")


def test_cht_04_a_tenth_of_a_second_is_enough(api: Api) -> None:
    answer = completion(api, user(input_audio(encode(silence(0.1))), TRANSCRIBE))
    assert answer["usage"]["prompt_tokens_details"]["audio_tokens"] > 0


@pytest.mark.parametrize("container", ["WAV", "MP3"])
def test_cht_04_as_long_as_the_model_hears(api: Api, container: str) -> None:
    """MP3 is a little longer than what was encoded."""
    upload = encode(silence(MAX_AUDIO_S), container=container)
    asked = chat(api, user(input_audio(upload), TRANSCRIBE), max_tokens=2, model=NATIVE_CHAT_MODEL)
    assert asked.status_code == 200


@pytest.mark.parametrize("duration_s", [31.0, 95.0])
def test_cht_04_longer_than_the_model_hears(api: Api, duration_s: float) -> None:
    """Refused, not cut: and both durations are told."""
    upload = encode(silence(duration_s), container="FLAC")
    response = chat(api, user(input_audio(upload), TRANSCRIBE), model=NATIVE_CHAT_MODEL)
    assert_refused(response, 400, DATA)
    error = error_of(response)["message"]
    assert f"{duration_s:.0f}" in error
    assert f"{MAX_AUDIO_S:.0f}" in error


def test_cht_04_an_error_tells_which_part(api: Api, clip: Clip) -> None:
    messages = [user("Hello"), message("assistant", "Hello!"), user("a", input_audio(clip.data), input_audio(b"none"))]
    assert_refused(chat(api, *messages), 400, "messages[2].content[2].input_audio.data")


def test_sec_8_a_file_of_exactly_the_limit_is_taken(api: Api) -> None:
    upload = padded_to(encode(silence(1)), MAX_FILE_BYTES)
    response = chat(api, user(input_audio(upload), TRANSCRIBE), max_tokens=2)
    assert response.status_code == 200, response.text


def test_sec_8_one_byte_more_is_not(api: Api) -> None:
    upload = padded_to(encode(silence(1)), MAX_FILE_BYTES + 1)
    response = chat(api, user(input_audio(upload), TRANSCRIBE))
    assert_refused(response, 413, None, "messages[0].content[0].input_audio.data", code="request_too_large")


# CHT-08, CHT-30: where audio may be, and how much of it ----------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
        {"type": "video_url", "video_url": {"url": "http://127.0.0.1/a.mp4"}},
        {"type": "refusal", "refusal": "No."},
        {"type": "thinking", "thinking": "Hm."},
        {"type": "AUDIO_URL", "audio_url": {"url": "http://127.0.0.1/a.wav"}},
    ],
    ids=lambda part: part["type"],
)
def test_cht_08_other_parts(api: Api, part: Json) -> None:
    response = chat(api, user("What is this?", part))
    assert_refused(response, 400, "messages[0].content[1].type")
    error = error_of(response)
    assert error["code"] in {"invalid_value", "unsupported_content_type"}
    assert part["type"] in error["message"]


@pytest.mark.parametrize("role", ["system", "developer", "assistant"])
def test_cht_08_audio_is_only_the_user_s(api: Api, quiet: bytes, role: str) -> None:
    response = chat(api, user("Hello"), message(role, "Listen:", input_audio(quiet)), user("Hello"))
    assert response.status_code == 400
    assert error_of(response)["param"].startswith("messages[1].content[1]")


def test_cht_08_as_many_audios_as_allowed(api: Api, quiet: bytes) -> None:
    part = input_audio(quiet)
    answer = completion(api, user(*[part] * (MAX_AUDIOS - 1)), message("assistant", "Hm."), user(part), max_tokens=2)
    one = completion(api, user(part), max_tokens=2)
    audio_tokens = [each["usage"]["prompt_tokens_details"]["audio_tokens"] for each in (answer, one)]
    assert audio_tokens[0] == MAX_AUDIOS * audio_tokens[1]


@pytest.mark.also_real
def test_cht_08_one_audio_more_is_refused(api: Api, quiet: bytes) -> None:
    part = input_audio(quiet)
    response = chat(api, user(*[part] * 5), message("assistant", "Hm."), user(*[part] * (MAX_AUDIOS - 4)))
    assert response.status_code == 400
    error = error_of(response)
    assert error["param"].startswith("messages")
    assert str(MAX_AUDIOS) in error["message"]


def test_cht_08_too_many_are_not_even_fetched(api: Api, media: MediaServer) -> None:
    url = media.add_file("/never-asked-for.wav", encode(silence(1)))
    assert chat(api, user(*[audio_url(url)] * (MAX_AUDIOS + 1))).status_code == 400
    assert "/never-asked-for.wav" not in media.asked


def test_cht_30_usage_counts_audio(api: Api, clip: Clip) -> None:
    usages = [
        completion(api, user(input_audio(encode(samples)), TRANSCRIBE), max_tokens=4)["usage"]
        for samples in (samples_of(clip), np.concatenate([samples_of(clip), samples_of(clip)]))
    ]
    short, long = (usage["prompt_tokens_details"]["audio_tokens"] for usage in usages)
    assert 0 < short < long <= 2 * short + 1
    for usage in usages:
        assert usage["prompt_tokens"] > usage["prompt_tokens_details"]["audio_tokens"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("order", ["audio-first", "text-first", "audio-only", "between"])
def test_cht_04_order_of_parts(api: Api, clip: Clip, order: str) -> None:
    audio = input_audio(clip.data)
    content: dict[str, list[str | Json]] = {
        "audio-first": [audio, TRANSCRIBE],
        "text-first": [TRANSCRIBE, audio],
        "audio-only": [audio],
        "between": ["Listen to this.", audio, TRANSCRIBE],
    }
    answer = completion(api, user(*content[order]))
    assert answer["usage"]["prompt_tokens_details"]["audio_tokens"] > 0
    if order in ("audio-first", "text-first"):
        assert word_error_rate([clip.text], texts(answer)) <= MAX_WORD_ERROR_RATE


def test_cht_04_several_audios_stay_in_order(api: Api, clips: list[Clip]) -> None:
    for one, other in (clips[:2], clips[1::-1]):
        heard = reply(api, user(input_audio(one.data), input_audio(other.data), TRANSCRIBE))
        assert heard == f"{one.text} {other.text}"


@pytest.mark.parametrize("opening", [[], [message("system", "You answer questions about audio.")]], ids=["", "system"])
def test_cht_04_a_second_turn_about_the_first_turn_s_audio(api: Api, clip: Clip, opening: list[Json]) -> None:
    first = [*opening, user(input_audio(clip.data), TRANSCRIBE)]
    heard = reply(api, *first)
    assert word_error_rate([clip.text], [heard]) <= MAX_WORD_ERROR_RATE
    second = completion(api, *first, message("assistant", heard), user("Once more."))
    assert texts(second) == [heard]
    assert second["usage"]["prompt_tokens_details"]["audio_tokens"] > 0


def test_cht_04_audio_in_a_later_turn(api: Api, clip: Clip) -> None:
    answer = reply(api, user("Hello"), message("assistant", "Hello!"), user(input_audio(clip.data), TRANSCRIBE))
    assert answer == clip.text


def test_cht_04_the_sdk_sends_audio(server: Server, clip: Clip) -> None:
    answer = server.client.chat.completions.create(
        model=MODEL,
        temperature=0,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": TRANSCRIBE},
                    {
                        "type": "input_audio",
                        "input_audio": {"data": b64encode(encode(samples_of(clip))).decode(), "format": "wav"},
                    },
                ],
            }
        ],
    )
    assert word_error_rate([clip.text], [answer.choices[0].message.content or ""]) <= MAX_WORD_ERROR_RATE
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.audio_tokens


def test_cht_04_stereo_at_another_rate(api: Api, clip: Clip) -> None:
    samples = np.repeat(samples_of(clip), 3)
    assert_heard(api, input_audio(encode(np.stack([samples, samples], 1), 3 * SAMPLE_RATE_HZ)), clip)


# CHT-05, CHT-07 --------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "audio_url"}, "messages[0].content[0].audio_url"),
        ({"type": "audio_url", "audio_url": None}, "messages[0].content[0].audio_url"),
        ({"type": "audio_url", "audio_url": "http://127.0.0.1/a.wav"}, "messages[0].content[0].audio_url"),
        ({"type": "audio_url", "audio_url": []}, "messages[0].content[0].audio_url"),
        ({"type": "audio_url", "audio_url": {}}, URL),
        ({"type": "audio_url", "audio_url": {"url": None}}, URL),
        ({"type": "audio_url", "audio_url": {"url": ["http://127.0.0.1/a.wav"]}}, URL),
        ({"type": "audio_url", "url": "http://127.0.0.1/a.wav"}, "messages[0].content[0].audio_url"),
    ],
    ids=str,
)
def test_cht_05_malformed_parts(api: Api, part: Json, param: str) -> None:
    assert_audio_refused(api, part, param)


@pytest.mark.parametrize(
    "media_type",
    ["audio/ogg", "audio/flac", "", "text/plain", "application/octet-stream", "audio/wav;codecs=1", "x", "AUDIO/WAV"],
)
def test_cht_07_any_media_type(api: Api, clip: Clip, media_type: str) -> None:
    assert_heard(api, audio_url(data_url(clip.data, media_type)), clip)


@pytest.mark.parametrize("scheme", ["DATA:audio/wav;BASE64,", "data:;base64,", " data:audio/wav;base64,"])
def test_cht_07_spellings(api: Api, clip: Clip, scheme: str) -> None:
    assert_heard(api, audio_url(scheme + b64encode(clip.data).decode()), clip)


def test_cht_07_escaped_characters(api: Api, clip: Clip) -> None:
    assert_heard(api, audio_url(f"data:audio/flac;base64,{quote(b64encode(clip.data), safe='')}"), clip)


@pytest.mark.also_real
@pytest.mark.parametrize(
    "url",
    [
        "data:",
        "data:audio/wav",
        "data:audio/wav;base64",
        "data:audio/wav;base64,",
        "data:audio/wav;base64,not base64!",
        "data:audio/wav,RIFF",
        "data:audio/wav;base32,AAAA",
        "data:audio/wav;base64;AAAA",
        "data:audio/wav;base64,VGhpcyBpcyBubyBhdWRpby4=",
    ],
)
def test_cht_07_bad_data_urls(api: Api, url: str) -> None:
    assert_audio_refused(api, audio_url(url), URL)


# CHT-06 ----------------------------------------------------------------------------------------------------------


def test_cht_06_a_file_on_the_web(api: Api, speech_url: str, clip: Clip) -> None:
    assert_heard(api, audio_url(speech_url), clip)
    assert transcript(api, audio_url(speech_url)) == transcript(api, input_audio(clip.data, "flac"))


@pytest.mark.also_real
def test_cht_06_streamed(api: Api, speech_url: str) -> None:
    question = user(TRANSCRIBE, audio_url(speech_url))
    assert chunks(api, question, max_tokens=16).text() == reply(api, question, max_tokens=16)


def test_cht_06_all_ways_at_once(api: Api, speech_url: str, clip: Clip) -> None:
    parts = [audio_url(speech_url), audio_url(data_url(clip.data)), input_audio(clip.data)]
    one, three = (completion(api, user(*some, TRANSCRIBE), max_tokens=2) for some in (parts[:1], parts))
    audio_tokens = [answer["usage"]["prompt_tokens_details"]["audio_tokens"] for answer in (one, three)]
    assert audio_tokens[1] == 3 * audio_tokens[0]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/html"},
        {"Content-Type": "audio/wav; charset=utf-8"},
        {"Content-Disposition": "attachment; filename=a.exe"},
    ],
    ids=str,
)
def test_cht_06_what_the_server_says_about_it_does_not_matter(
    api: Api, media: MediaServer, clip: Clip, headers: dict[str, str]
) -> None:
    """Nor that it does not tell the length."""
    assert_heard(api, audio_url(media.add("/unsaid", Page([clip.data], headers=headers))), clip)


def test_cht_06_a_file_in_http_chunks(api: Api, media: MediaServer, clip: Clip) -> None:
    sizes = range(0, len(clip.data), 5000)
    pieces = [clip.data[start : start + 5000] for start in sizes]
    framed = [f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces]
    url = media.add("/chunked", Page([*framed, b"0\r\n\r\n"], headers={"Transfer-Encoding": "chunked"}))
    assert_heard(api, audio_url(url), clip)


@pytest.mark.parametrize("count", [1, 5])
def test_cht_06_redirects_are_followed(api: Api, media: MediaServer, speech_url: str, clip: Clip, count: int) -> None:
    assert_heard(api, audio_url(media.add_redirects(f"/from-{count}", count, speech_url)), clip)


def test_cht_06_a_redirect_may_be_relative(api: Api, media: MediaServer, speech_url: str, clip: Clip) -> None:
    assert_heard(api, audio_url(media.add_redirects("/relative", 1, httpx.URL(speech_url).path)), clip)


def pages(media: MediaServer, speech_url: str) -> dict[str, str]:
    """URLs of everything that can be wrong at once."""
    speech = httpx.get(speech_url).content

    def page(name: str, *pieces: bytes, status: int = 200, **headers: str) -> str:
        return media.add(f"/{name}", Page(pieces, status, {key.replace("_", "-"): v for key, v in headers.items()}))

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/a.wav"
    return {
        "nobody-listens": nobody,
        "not-found": f"{media.url}/nothing.wav",
        "forbidden": page("forbidden", b"No.", status=403),
        "failing": page("failing", b"Oh.", status=500),
        "no-content": page("no-content", status=204),
        "partial": page("partial", speech, status=206),
        "not-modified": page("not-modified", status=304),
        "empty": page("empty", Content_Length="0"),
        "a-web-page": page("html", b"<html><body>Sign in</body></html>", Content_Type="audio/wav"),
        "a-playlist": page("playlist", f"#EXTM3U\n#EXTINF:3,\n{speech_url}\n".encode()),
        "cut-off": page("cut-off", speech[:1000], Content_Length=str(len(speech))),
        "too-large-by-its-head": page("too-large", b"RIFF", Content_Length=str(MAX_FILE_BYTES + 1)),
        "endless": media.add("/endless", Page(endless())),
        "compressed": page("compressed", b"\x1f\x8b\x08\x00", Content_Encoding="gzip"),
        "too-many-redirects": media.add_redirects("/six", 6, speech_url),
        "redirect-to-itself": media.add("/loop", Page([], 302, {"Location": "/loop", "Content-Length": "0"})),
        "redirect-to-nowhere": page("nowhere", status=302, Content_Length="0"),
        "redirect-to-a-file": media.add_redirects("/to-file", 1, "file:///etc/passwd"),
        "redirect-to-data": media.add_redirects("/to-data", 1, "data:audio/wav;base64,AAAA"),
        "redirect-inside": media.add_redirects("/inside", 1, "http://169.254.169.254/latest/meta-data"),
        "redirect-to-nonsense": media.add_redirects("/nonsense", 1, "http://[::1"),
    }


NAMES = """
    nobody-listens not-found forbidden failing no-content partial not-modified empty a-web-page a-playlist cut-off
    too-large-by-its-head endless compressed too-many-redirects redirect-to-itself redirect-to-nowhere
    redirect-to-a-file redirect-to-data redirect-inside redirect-to-nonsense
""".split()


@pytest.mark.also_real
@pytest.mark.parametrize("name", NAMES)
def test_cht_06_failures_name_the_host(api: Api, media: MediaServer, speech_url: str, name: str) -> None:
    urls = pages(media, speech_url)
    assert urls.keys() == set(NAMES)
    host = "169.254.169.254" if name == "redirect-inside" else "127.0.0.1"
    error = assert_audio_refused(api, audio_url(urls[name]), URL)
    assert host in error
    assert "Traceback" not in error


def test_cht_06_slow_servers_are_given_up(api: Api, media: MediaServer) -> None:
    """One that never answers, one that never goes on and one that sends drop by drop; nobody else waits meanwhile."""
    wav = encode(silence(5))
    slow = [
        media.add("/silent", Page(media.silence(), headers={"Content-Length": "100"})),
        media.add("/dripping", Page(media.drip(wav), headers={"Content-Length": str(len(wav))})),
    ]
    with socket.create_server(("127.0.0.1", 0)) as mute, ThreadPoolExecutor(3) as pool:
        slow.append(f"http://127.0.0.1:{mute.getsockname()[1]}/mute.wav")
        started_at = time.monotonic()
        asked = [pool.submit(chat, api, user(audio_url(url), TRANSCRIBE)) for url in slow]
        time.sleep(1)
        assert chat(api, max_tokens=2).status_code == 200
        assert not any(each.done() for each in asked)
        for each in asked:
            assert_refused(each.result(), 400, URL)
            assert "127.0.0.1" in error_of(each.result())["message"]
        assert time.monotonic() - started_at < 2 * MAX_FETCH_S


@pytest.mark.parametrize(
    "url",
    [
        "",
        "speech.wav",
        "/etc/passwd",
        "file:///etc/passwd",
        "file://127.0.0.1/etc/passwd",
        "ftp://127.0.0.1/a.wav",
        "gopher://127.0.0.1/a.wav",
        "javascript:alert(1)",
        "s3://bucket/a.wav",
        "concat:/etc/passwd",
        "http:",
        "http://",
        "http:///a.wav",
        "http://127.0.0.1:0/a.wav",
        "http://127.0.0.1:99999/a.wav",
        "http://127.0.0.1:port/a.wav",
        "http://user:sesame@127.0.0.1/a.wav",
        "http://[::1/a.wav",
        "http://127.0.0.1/a\r\nHost: b",
        "http://" + "a" * 10_000,
        "\x00",
        b64encode(bytes(20_000)).decode(),
    ],
    ids=lambda url: ascii(url[:30]),
)
def test_cht_06_urls_that_are_not_fetched(api: Api, url: str) -> None:
    error = assert_audio_refused(api, audio_url(url), URL)
    assert "root:" not in error
    assert "sesame" not in error


@pytest.mark.also_real
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.2",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
        "224.0.0.1",
        "255.255.255.255",
        "no-such-host.invalid",
    ],
)
def test_cht_06_private_addresses_are_refused(api: Api, host: str) -> None:
    """All but the one that this run allows."""
    error = assert_audio_refused(api, audio_url(f"http://{host}/a.wav"), URL)
    assert host.strip("[]") in error


@pytest.mark.parametrize("way", ["directly", "by-a-redirect", "as-a-number", "in-octal", "shortened", "upper-case"])
def test_cht_06_a_private_server_is_not_even_asked(api: Api, media: MediaServer, clip: Clip, way: str) -> None:
    with MediaServer("127.0.0.2") as private:
        url = private.add_file("/secret.flac", clip.data)
        port = httpx.URL(url).port
        spellings = {
            "directly": url,
            "by-a-redirect": media.add_redirects("/to-private", 1, url),
            "as-a-number": f"http://2130706434:{port}/secret.flac",
            "in-octal": f"http://0177.0.0.2:{port}/secret.flac",
            "shortened": f"http://127.2:{port}/secret.flac",
            "upper-case": f"HTTP://127.0.0.2.:{port}/secret.flac",
        }
        assert_audio_refused(api, audio_url(spellings[way]), URL)
        assert private.asked == []


def test_con_04_failed_fetches_leave_no_slot_taken(api: Api, media: MediaServer, speech_url: str, clip: Clip) -> None:
    for _ in range(20):
        assert chat(api, user(audio_url(f"{media.url}/nothing"), TRANSCRIBE)).status_code == 400
    assert_heard(api, audio_url(speech_url), clip)


def test_cht_06_the_query_is_sent_and_the_fragment_is_not(api: Api, media: MediaServer, clip: Clip) -> None:
    url = media.add_file("/signed?key=a%2Fb&x=1", clip.data)
    assert_heard(api, audio_url(f"{url}#t=3"), clip)
    assert media.asked[-1] == "/signed?key=a%2Fb&x=1"


def test_cht_05_raw_json_as_curl_sends_it(api: Api, speech_url: str, clip: Clip) -> None:
    content = json.dumps(body(user(TRANSCRIBE, audio_url(speech_url))))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}  # curl's own, with --data
    response = api.client.post(PATH, content=content, headers=headers)
    assert word_error_rate([clip.text], texts(response.json())) <= MAX_WORD_ERROR_RATE
