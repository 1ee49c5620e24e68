"""TRP-01: files that are fetched, and which of their tracks is heard."""

import numpy as np
import pytest

from tests.conformance.audio import encode, samples_of, silence
from tests.conformance.media_server import MediaServer, Page
from tests.conformance.scoring import word_error_rate
from tests.conformance.wire import Api, Stream, assert_refused, error_of
from tests.conftest import Clip
from tests.deployments.audio.test_tracks import with_tracks

PATHS = ["/v1/audio/transcriptions", "/v1/audio/translations"]


@pytest.mark.parametrize("path", PATHS)
def test_trp_01_a_url_in_the_place_of_a_file(api: Api, speech_url: str, clip: Clip, path: str) -> None:
    fields = {"model": (None, "whisper-1"), "url": (None, speech_url)}
    response = api.client.post(path, files=fields)
    assert response.status_code == 200, response.text
    assert word_error_rate([clip.text], [response.json()["text"]]) < 0.35


def test_trp_01_a_url_streamed(api: Api, speech_url: str, clip: Clip) -> None:
    fields = {"model": (None, "whisper-1"), "url": (None, speech_url), "stream": (None, "true")}
    stream = Stream(api.client.post(PATHS[0], files=fields).content)
    assert word_error_rate([clip.text], [stream.done["text"]]) < 0.35


def test_trp_01_a_file_and_a_url(api: Api, speech_url: str, quiet: bytes) -> None:
    assert_refused(api.transcribe(quiet, url=speech_url), 400, "url")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "http://localhost:1/a.wav",
        "http://10.0.0.1/a.wav",
        "http://[::1]/a.wav",
        "http://169.254.169.254/latest/meta-data",
        "http://2130706433/a.wav",
        "a.wav",
    ],
)
def test_trp_01_urls_that_are_not_fetched(api: Api, url: str) -> None:
    """By the rules of CHT-06."""
    response = api.client.post(PATHS[0], files={"model": (None, "whisper-1"), "url": (None, url)})
    assert_refused(response, 400, "url")
    assert "could not be fetched" in error_of(response)["message"]


@pytest.mark.parametrize("status", [404, 500])
def test_trp_01_a_url_that_answers_otherwise(api: Api, media: MediaServer, status: int) -> None:
    url = media.add(f"/{status}", Page([b"no"], status))
    response = api.client.post(PATHS[0], files={"model": (None, "whisper-1"), "url": (None, url)})
    assert_refused(response, 400, "url")
    assert str(status) in error_of(response)["message"]


# Tracks


def test_trp_01_the_second_track_where_the_first_is_silent(api: Api, clip: Clip) -> None:
    speech = samples_of(clip)
    upload = with_tracks([np.zeros_like(speech), speech])
    assert word_error_rate([clip.text], [api.transcribe(upload).json()["text"]]) < 0.35
    assert api.transcribe(upload, audio_track="0").json()["text"] == ""


@pytest.mark.parametrize("response_format", ["json", "diarized_json"])
def test_trp_01_audio_track(api: Api, clips: list[Clip], response_format: str) -> None:
    first, second = clips[:2]
    upload = with_tracks([samples_of(first), samples_of(second)])
    model = "gpt-4o-transcribe-diarize" if response_format == "diarized_json" else "whisper-1"
    for number, clip in enumerate((first, second)):
        answer = api.transcribe(upload, model=model, response_format=response_format, audio_track=str(number))
        assert word_error_rate([clip.text], [answer.json()["text"]]) < 0.35


@pytest.mark.parametrize("track", ["1", "63"])
def test_trp_01_a_track_that_is_not_there(api: Api, track: str) -> None:
    for upload in (encode(silence(1)), encode(silence(1), container="FLAC")):
        assert_refused(api.transcribe(upload, audio_track=track), 400, "audio_track")


@pytest.mark.parametrize("track", ["-1", "64", "first"])
def test_trp_01_what_is_no_track(api: Api, quiet: bytes, track: str) -> None:
    assert_refused(api.transcribe(quiet, audio_track=track), 400, "audio_track")
