"""TRF: answers that are not streamed."""

import re
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
import pytest

from tests.conformance.audio import duration_s, encode, samples_of, silence
from tests.conformance.wire import Api
from tests.conftest import Clip

SEGMENT_KEYS = {
    "id",
    "seek",
    "start",
    "end",
    "text",
    "tokens",
    "temperature",
    "avg_logprob",
    "compression_ratio",
    "no_speech_prob",
}
TOKEN_USAGE_KEYS = {"type", "input_tokens", "output_tokens", "total_tokens", "input_token_details"}
LANGUAGE_NAMES = {"en": "english", "de": "german", "es": "spanish", "fr": "french"}

SRT_CUE = re.compile(r"(\d+)\n(\d\d):(\d\d):(\d\d),(\d{3}) --> (\d\d):(\d\d):(\d\d),(\d{3})\n((?:.+\n)+)\n")
VTT_CUE = re.compile(r"(?:(\d\d):)?(\d\d):(\d\d)\.(\d{3}) --> (?:(\d\d):)?(\d\d):(\d\d)\.(\d{3})\n((?:.+\n)+)\n")


def verbose(api: Api, upload: bytes, **fields: Any) -> dict[str, Any]:
    response = api.transcribe(upload, response_format="verbose_json", **fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.fixture(scope="module")
def long_answer(api: Api, long_audio: bytes) -> dict[str, Any]:
    return verbose(api, long_audio, **{"timestamp_granularities[]": ["word", "segment"]})


def nulls(value: Any, path: str = "") -> list[str]:
    if value is None:
        return [path]
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in nulls(item, f"{path}.{key}")]
    if isinstance(value, list):
        return [found for number, item in enumerate(value) for found in nulls(item, f"{path}[{number}]")]
    return []


def seconds(hours: str | None, minutes: str, whole: str, milliseconds: str) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(whole) + int(milliseconds) / 1000


def assert_in_order(times: list[tuple[float, float]], duration_s: float) -> None:
    assert times
    for start_s, end_s in times:
        assert 0 <= start_s <= end_s <= duration_s + 0.1
    assert times == sorted(times, key=lambda time: time[0])


def assert_token_usage(usage: dict[str, Any]) -> None:
    assert usage.keys() >= TOKEN_USAGE_KEYS
    assert usage["type"] == "tokens"
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    details = usage["input_token_details"]
    assert details.keys() == {"text_tokens", "audio_tokens"}
    assert details["text_tokens"] + details["audio_tokens"] == usage["input_tokens"]
    assert details["audio_tokens"] > 0


@pytest.mark.also_real
def test_trf_01_json(api: Api, clip: Clip) -> None:
    response = api.transcribe(clip.data)
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert answer.keys() == {"text", "usage"}
    assert answer["text"] == answer["text"].strip() != ""


def test_trf_01_logprobs_when_asked(api: Api, clip: Clip) -> None:
    answer = api.transcribe(clip.data, model="gpt-4o-transcribe", **{"include[]": "logprobs"}).json()
    assert answer.keys() == {"text", "usage", "logprobs"}
    assert len(answer["logprobs"]) > 3
    for entry in answer["logprobs"]:
        assert entry.keys() == {"token", "logprob", "bytes"}
        assert entry["logprob"] <= 0
    data = bytes(byte for entry in answer["logprobs"] for byte in entry["bytes"])
    assert data.decode().strip() == answer["text"]


def test_trf_01_gpt_names_the_languages(api: Api, clips: list[Clip]) -> None:
    for clip in {clip.language: clip for clip in clips}.values():
        answer = api.transcribe(clip.data, model="gpt-transcribe").json()
        assert answer.keys() == {"text", "usage", "languages"}
        assert answer["languages"] == [{"code": clip.language}]


@pytest.mark.also_real
@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "gpt-transcribe"])
def test_trf_02_text(api: Api, clip: Clip, model: str) -> None:
    response = api.transcribe(clip.data, model=model, response_format="text")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == api.transcribe(clip.data, model=model).json()["text"] + "\n"


def test_trf_02_text_is_utf_8(api: Api, clips: list[Clip]) -> None:
    clip = next(clip for clip in clips if clip.language == "es")
    assert "número" in clip.text
    assert "número" in api.transcribe(clip.data, response_format="text").content.decode()


def test_trf_03_srt(api: Api, long_audio: bytes, long_answer: dict[str, Any]) -> None:
    response = api.transcribe(long_audio, response_format="srt")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    body = response.content.decode("utf-8")
    cues = list(SRT_CUE.finditer(body))
    assert "".join(cue[0] for cue in cues) == body
    assert [int(cue[1]) for cue in cues] == list(range(1, len(cues) + 1))
    assert all(cue[10].strip() for cue in cues)
    times = [(seconds(*cue.group(2, 3, 4, 5)), seconds(*cue.group(6, 7, 8, 9))) for cue in cues]
    assert_in_order(times, long_answer["duration"])
    assert all(end_s <= start_s for (_, end_s), (start_s, _) in pairwise(times))
    assert times[-1][0] > 40  # to the end


def test_trf_04_vtt(api: Api, long_audio: bytes, long_answer: dict[str, Any]) -> None:
    response = api.transcribe(long_audio, response_format="vtt")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    body = response.content.decode("utf-8")
    assert body.startswith("WEBVTT\n\n")
    cues = list(VTT_CUE.finditer(body))
    assert "WEBVTT\n\n" + "".join(cue[0] for cue in cues) == body
    times = [(seconds(*cue.group(1, 2, 3, 4)), seconds(*cue.group(5, 6, 7, 8))) for cue in cues]
    assert_in_order(times, long_answer["duration"])


@pytest.mark.also_real
def test_trf_03_trf_04_timed_text_is_the_text(api: Api, clip: Clip) -> None:
    text = api.transcribe(clip.data).json()["text"]
    for response_format, cue in (("srt", SRT_CUE), ("vtt", VTT_CUE)):
        body = api.transcribe(clip.data, response_format=response_format).text
        assert " ".join(match.groups()[-1].strip() for match in cue.finditer(body)) == text


@pytest.mark.also_real
def test_trf_05_verbose_json(api: Api, clip: Clip) -> None:
    answer = verbose(api, clip.data)
    assert answer.keys() == {"task", "language", "duration", "text", "segments", "usage"}
    assert answer["task"] == "transcribe"
    assert isinstance(answer["duration"], float)
    assert answer["duration"] == pytest.approx(duration_s(clip), abs=0.01)
    assert answer["usage"] == {"type": "duration", "seconds": ceil(duration_s(clip))}


@pytest.mark.parametrize("language", LANGUAGE_NAMES)
def test_trf_05_language_is_its_english_name(api: Api, clips: list[Clip], language: str) -> None:
    clip = next(clip for clip in clips if clip.language == language)
    assert verbose(api, clip.data)["language"] == LANGUAGE_NAMES[language]
    assert verbose(api, clip.data, language=language)["language"] == LANGUAGE_NAMES[language]


@pytest.mark.also_real
def test_trf_06_segments(long_answer: dict[str, Any]) -> None:
    segments = long_answer["segments"]
    assert len(segments) > 5
    assert [segment["id"] for segment in segments] == list(range(len(segments)))
    for segment in segments:
        assert segment.keys() == SEGMENT_KEYS
        assert isinstance(segment["seek"], int)
        assert segment["seek"] >= 0
        assert segment["text"].startswith(" ")
        assert segment["text"].strip()
        assert segment["tokens"]
        assert all(isinstance(token, int) for token in segment["tokens"])
        assert isinstance(segment["temperature"], float)
        assert segment["avg_logprob"] <= 0
        assert segment["compression_ratio"] > 0
        assert 0 <= segment["no_speech_prob"] <= 1
    assert_in_order([(segment["start"], segment["end"]) for segment in segments], long_answer["duration"])
    assert "".join(segment["text"] for segment in segments).strip() == long_answer["text"].strip()


@pytest.mark.also_real
def test_trf_06_temperature_of_a_segment(api: Api, clip: Clip) -> None:
    (segment, *_) = verbose(api, clip.data, temperature="0.3")["segments"]
    assert segment["temperature"] == pytest.approx(0.3)


@pytest.mark.also_real
def test_trf_06_segments_begin_where_speech_begins(api: Api, clip: Clip) -> None:
    (segment, *_) = verbose(api, encode(np.concatenate([silence(5), samples_of(clip)])))["segments"]
    assert segment["start"] == pytest.approx(5, abs=1)


@pytest.mark.also_real
def test_trf_07_words_only(api: Api, clip: Clip) -> None:
    answer = verbose(api, clip.data, **{"timestamp_granularities[]": "word"})
    assert not answer.get("segments")
    assert_words(answer)


@pytest.mark.parametrize("granularities", [["word", "segment"], ["segment", "word"]])
def test_trf_07_words_and_segments(api: Api, clip: Clip, granularities: list[str]) -> None:
    answer = verbose(api, clip.data, **{"timestamp_granularities[]": granularities})
    assert answer["segments"]
    assert_words(answer)


@pytest.mark.also_real
def test_trf_07_words_of_long_audio(long_answer: dict[str, Any]) -> None:
    assert len(long_answer["words"]) > 60
    assert_words(long_answer)


@pytest.mark.parametrize("fields", [{}, {"timestamp_granularities[]": "segment"}], ids=["default", "segment"])
def test_trf_07_segments_only(api: Api, clip: Clip, fields: dict[str, str]) -> None:
    answer = verbose(api, clip.data, **fields)
    assert answer["segments"]
    assert "words" not in answer


def assert_words(answer: dict[str, Any]) -> None:
    words = answer["words"]
    assert all(word.keys() == {"word", "start", "end"} for word in words)
    assert all(word["word"] == word["word"].strip() != "" for word in words)
    assert "".join(word["word"] for word in words) == "".join(answer["text"].split())
    assert_in_order([(word["start"], word["end"]) for word in words], answer["duration"])


@pytest.mark.parametrize("response_format", ["json", "verbose_json"])
@pytest.mark.parametrize("duration_s", [0.1, 0.9, 1.0, 1.1, 2.5])
def test_trf_09_duration_usage_is_rounded_up(api: Api, response_format: str, duration_s: float) -> None:
    answer = api.transcribe(encode(silence(duration_s)), response_format=response_format).json()
    assert answer["usage"] == {"type": "duration", "seconds": ceil(duration_s)}


@pytest.mark.also_real
@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-transcribe"])
def test_trf_09_token_usage(api: Api, clip: Clip, model: str) -> None:
    answer = api.transcribe(clip.data, model=model).json()
    assert answer["usage"].keys() == TOKEN_USAGE_KEYS
    assert_token_usage(answer["usage"])
    assert answer["usage"]["output_tokens"] > 3


@pytest.mark.also_real
def test_trf_09_a_prompt_is_read_as_text_tokens(api: Api, clip: Clip) -> None:
    plain, prompted = (
        api.transcribe(clip.data, model="gpt-4o-transcribe", prompt=prompt).json()["usage"]["input_token_details"]
        for prompt in ("", "The meeting is in Lisbon.")
    )
    assert prompted["text_tokens"] > plain["text_tokens"]
    assert prompted["audio_tokens"] == plain["audio_tokens"]


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "gpt-transcribe"])
def test_trf_10_no_nulls_in_json(api: Api, clip: Clip, model: str) -> None:
    assert nulls(api.transcribe(clip.data, model=model).json()) == []


@pytest.mark.also_real
@pytest.mark.parametrize("granularities", [["segment"], ["word", "segment"]])
def test_trf_10_no_nulls_in_verbose_json(api: Api, clip: Clip, granularities: list[str]) -> None:
    assert nulls(verbose(api, clip.data, **{"timestamp_granularities[]": granularities})) == []


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("response_format", "body"), [("text", "\n"), ("srt", ""), ("vtt", "WEBVTT\n\n")], ids=["text", "srt", "vtt"]
)
def test_trf_02_trf_03_trf_04_no_speech(api: Api, quiet: bytes, response_format: str, body: str) -> None:
    response = api.transcribe(quiet, response_format=response_format)
    assert (response.status_code, response.text) == (200, body)


@pytest.mark.also_real
@pytest.mark.parametrize("granularities", [["segment"], ["word"], ["word", "segment"]])
def test_trf_05_trf_07_no_speech(api: Api, quiet: bytes, granularities: list[str]) -> None:
    answer = verbose(api, quiet, **{"timestamp_granularities[]": granularities})
    assert (answer["text"], answer["duration"]) == ("", 0.5)
    assert answer.get("words", "absent") == ([] if "word" in granularities else "absent")
    assert answer.get("segments", "absent") == ([] if "segment" in granularities else "absent")
