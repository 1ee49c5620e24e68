"""TRL: the same form, English answers."""

from typing import Any

import pytest

from tests.conformance.audio import encode, silence
from tests.conformance.scoring import word_error_rate
from tests.conformance.wire import Api, Stream, assert_refused
from tests.conftest import Clip

# Sentences that the embedded checkpoint translates well; its translation of others cannot be relied on.
ENGLISH = {
    "es-05.flac": "We meet at seven o'clock in Lisbon.",
    "es-07.flac": "The weather in Prague is terrible today.",
    "fr-03.flac": "The train to New York leaves at five thirty.",
}


@pytest.fixture(scope="module")
def spanish(clips: list[Clip]) -> Clip:
    return next(clip for clip in clips if clip.path.name == "es-05.flac")


@pytest.mark.parametrize("name", ENGLISH)
def test_trl_output_is_english(api: Api, clips: list[Clip], name: str) -> None:
    clip = next(clip for clip in clips if clip.path.name == name)
    assert word_error_rate([ENGLISH[name]], [api.translate(clip.data).json()["text"]]) < 0.35


@pytest.mark.also_real
@pytest.mark.parametrize(
    "fields", [{"prompt": "At the station."}, {"temperature": "0.2"}, {"response_format": "json"}, {"seed": "1"}]
)
def test_trl_01_parameters(api: Api, spanish: Clip, fields: dict[str, str]) -> None:
    response = api.translate(spanish.data, **fields)
    assert response.status_code == 200
    assert response.json()["text"]


@pytest.mark.also_real
def test_trl_01_streamed(api: Api, spanish: Clip) -> None:
    stream = Stream(api.translate(spanish.data, stream="true").content)
    assert {event["object"] for event in stream.events} == {"translation.chunk"}
    assert "".join(event["delta"] for event in stream.deltas) == stream.done["text"]
    assert stream.done["text"] == api.translate(spanish.data).json()["text"]


def test_trl_02_json(api: Api, spanish: Clip) -> None:
    answer = api.translate(spanish.data).json()
    assert {"text"} <= answer.keys() <= {"text", "usage"}


@pytest.mark.also_real
def test_trl_02_verbose_json(api: Api, spanish: Clip) -> None:
    answer = api.translate(spanish.data, response_format="verbose_json").json()
    assert (answer["task"], answer["language"]) == ("translate", "english")
    assert answer["duration"] == pytest.approx(3.3, abs=0.5)
    assert answer["segments"]
    for segment in answer["segments"]:
        assert len(segment) == 10
        assert 0 <= segment["start"] <= segment["end"] <= answer["duration"] + 0.1
    assert "".join(segment["text"] for segment in answer["segments"]).strip() == answer["text"]


@pytest.mark.parametrize(("response_format", "start"), [("srt", "1\n00:00:0"), ("vtt", "WEBVTT\n\n00:0")])
def test_trl_02_timed_formats(api: Api, spanish: Clip, response_format: str, start: str) -> None:
    response = api.translate(spanish.data, response_format=response_format)
    assert response.status_code == 200
    assert response.text.startswith(start)
    assert api.translate(spanish.data).json()["text"] in response.text.replace("\n", " ")


def test_trl_02_text(api: Api, spanish: Clip) -> None:
    response = api.translate(spanish.data, response_format="text")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == api.translate(spanish.data).json()["text"] + "\n"


@pytest.mark.also_real
def test_trl_02_no_speech(api: Api, quiet: bytes) -> None:
    answer = api.translate(quiet, response_format="verbose_json").json()
    assert (answer["text"], answer["segments"], answer["language"]) == ("", [], "english")


@pytest.mark.also_real
@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-transcribe"])
def test_trl_03_only_whisper_translates(api: Api, quiet: bytes, model: str) -> None:
    assert_refused(api.translate(quiet, model=model), 400, "model")


def test_trl_03_diarized_json(api: Api, quiet: bytes) -> None:
    assert_refused(api.translate(quiet, response_format="diarized_json"), 400, "response_format")


@pytest.mark.also_real
@pytest.mark.parametrize("language", ["es", "en", ""])
def test_trl_04_the_source_language_is_accepted(api: Api, spanish: Clip, language: str) -> None:
    assert api.translate(spanish.data, language=language).status_code == 200


@pytest.mark.also_real
@pytest.mark.parametrize(("language", "status"), [("en", 200), ("", 200), ("fr", 400), ("de", 400)])
def test_sec_2_6_to_language(api: Api, quiet: bytes, language: str, status: int) -> None:
    response = api.translate(quiet, to_language=language)
    assert response.status_code == status
    if status == 400:
        assert_refused(response, 400, "to_language")


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("upload", "fields", "status", "param", "code"),
    [
        (None, {}, 400, "file", None),
        (b"no audio", {}, 400, "file", None),
        (encode(silence(0.05)), {}, 400, "file", "audio_too_short"),
        (encode(silence(1)), {"model": None}, 400, "model", None),
        (encode(silence(1)), {"model": "whisper-9"}, 404, "model", "model_not_found"),
        (encode(silence(1)), {"language": "xx"}, 400, "language", "invalid_language_format"),
        (encode(silence(1)), {"response_format": "xml"}, 400, "response_format", "invalid_value"),
        (encode(silence(1)), {"temperature": "1.5"}, 400, "temperature", None),
    ],
    ids=["no-file", "no-audio", "too-short", "no-model", "unknown-model", "language", "format", "temperature"],
)
def test_trl_04_errors(
    api: Api, upload: bytes | None, fields: dict[str, Any], status: int, param: str, code: str | None
) -> None:
    assert_refused(api.translate(upload, **fields), status, param, code=code)
