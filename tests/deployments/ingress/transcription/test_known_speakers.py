"""DIA-04, and what becomes of references that can be used."""

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import pytest

from deployments.ingress.transcription.known_speakers import (
    MAX_REFERENCE_S,
    TOLERANCE_S,
    check_known_speakers,
    known_speaker_clips,
    read_known_speakers,
)
from deployments.ingress.transcription.schema import TranscriptionRequest
from pipelines.errors import AudioTooLong, AudioTooShort, InvalidRequest, ModelUnavailable, UndecodableAudio
from pipelines.speaker_types import KnownSpeaker
from tests.support.fakes import FakeReader

NAMES, REFERENCES = "known_speaker_names", "known_speaker_references"


@dataclass
class Reader(FakeReader):
    """Every clip lasts as many seconds as its text says."""

    duration_s: float | None = None


def url(duration_s: float) -> str:
    return f"data:audio/wav;base64,{b64encode(str(duration_s).encode()).decode()}"


def request(names: Any = (), references: Any = ()) -> TranscriptionRequest:
    return TranscriptionRequest.model_validate({"model": "m", NAMES: list(names), REFERENCES: list(references)})


async def read(request: TranscriptionRequest, reader: Reader) -> list[KnownSpeaker]:
    return await read_known_speakers(known_speaker_clips(request), reader)


async def mistake(names: Any, references: Any, reader: Reader | None = None) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await read(request(names, references), reader or Reader())
    assert caught.value.code == "invalid_value"
    return caught.value


async def test_nobody_is_known() -> None:
    reader = Reader()
    assert await read(request(), reader) == []
    assert reader.clips == []


async def test_each_name_has_its_reference() -> None:
    known = await read(request(["b", " a ", "東京"], [url(2), url(3), url(10)]), Reader())
    assert [(speaker.name, speaker.speech.duration_s) for speaker in known] == [("b", 2), ("a", 3), ("東京", 10)]


async def test_no_more_is_decoded_than_a_reference_may_have() -> None:
    reader = Reader()
    await read(request(["a"], [url(5)]), reader)
    assert reader.max_durations_s == [MAX_REFERENCE_S + TOLERANCE_S]


@pytest.mark.parametrize(
    ("names", "references", "param"),
    [
        (list("abcde"), [url(3)] * 5, NAMES),
        (list("abcde"), [], NAMES),
        ([], [url(3)] * 5, REFERENCES),
        (["a"], [url(3)] * 2, NAMES),
        (["a", "b"], [url(3)], REFERENCES),
        (["a"], [], REFERENCES),
        ([], [url(3)], NAMES),
        ([""], [url(3)], NAMES),
        (["a", " \t"], [url(3)] * 2, NAMES),
        (["a", "b", "a"], [url(3)] * 3, NAMES),
        (["a", " a"], [url(3)] * 2, NAMES),
    ],
)
async def test_what_can_be_told_without_reading_audio(names: list[str], references: list[str], param: str) -> None:
    reader = Reader()
    assert (await mistake(names, references, reader)).param == param
    assert reader.clips == []
    with pytest.raises(InvalidRequest):
        check_known_speakers(request(names, references))


def test_names_that_differ_only_in_case_differ() -> None:
    check_known_speakers(request(["a", "A"], [url(3)] * 2))


async def test_every_url_is_looked_at_before_any_audio() -> None:
    reader = Reader()
    assert (await mistake(["a", "b"], [url(3), "http://127.0.0.1/b.wav"], reader)).param == REFERENCES
    assert reader.clips == []


@pytest.mark.parametrize("duration_s", [0.2, 1.9, 1.949, 10.051, 60.0])
async def test_a_reference_of_the_wrong_length(duration_s: float) -> None:
    error = await mistake(["a", "b"], [url(3), url(duration_s)])
    assert error.param == REFERENCES
    assert error.message == "The reference of 'b' must be between 2 and 10 s long."


@pytest.mark.parametrize("duration_s", [1.95, 2.0, 10.0, 10.05])
async def test_a_reference_of_the_right_length(duration_s: float) -> None:
    (known,) = await read(request(["a"], [url(duration_s)]), Reader())
    assert known.speech.duration_s == pytest.approx(duration_s)


@pytest.mark.parametrize("error", [AudioTooShort("No."), AudioTooLong("No."), UndecodableAudio("No.")], ids=repr)
async def test_what_is_wrong_with_a_reference_is_not_wrong_with_the_file(error: InvalidRequest) -> None:
    assert error.param == "file"
    refused = await mistake(["a"], [url(3)], Reader(error=error))
    assert refused.param == REFERENCES
    assert "'a'" in refused.message


async def test_what_is_nobody_s_mistake_stays_what_it_is() -> None:
    with pytest.raises(ModelUnavailable):
        await read(request(["a"], [url(3)]), Reader(error=ModelUnavailable("Lost.")))


@pytest.mark.parametrize("name", ["A\nB", "A\x00", "\x85A\x85A"])
def test_a_name_with_control_characters(name: str) -> None:
    with pytest.raises(InvalidRequest, match="control characters"):
        check_known_speakers(request([name], [url(5)]))


def test_a_long_name() -> None:
    check_known_speakers(request(["A" * 200], [url(5)]))
    with pytest.raises(InvalidRequest, match="at most 200 characters"):
        check_known_speakers(request(["A" * 201], [url(5)]))
