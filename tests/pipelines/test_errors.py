import pickle
from inspect import getmembers, isclass

import pytest

from pipelines import errors
from pipelines.errors import (
    AudioServerError,
    AudioTooShort,
    ConfigurationError,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    Overloaded,
    RetryableError,
    UndecodableAudio,
    UnsupportedLanguage,
)

ERRORS = [kind for _, kind in getmembers(errors, isclass) if issubclass(kind, AudioServerError)]


def test_there_are_errors() -> None:
    assert len(ERRORS) >= 12


def make(kind: type[AudioServerError]) -> AudioServerError:
    if issubclass(kind, InvalidRequest):
        return kind("What is wrong.", "field", "a_code")
    if issubclass(kind, RetryableError):
        return kind("What is wrong.", 2.5)
    return kind("What is wrong.")


@pytest.mark.parametrize("kind", ERRORS)
def test_survives_pickling_with_its_attributes(kind: type[AudioServerError]) -> None:
    error = make(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert copy.args == error.args
    assert copy.message == error.message
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if issubclass(kind, InvalidRequest)])
def test_defaults_survive_pickling(kind: type[InvalidRequest]) -> None:
    error = kind("What is wrong.")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.message, copy.param, copy.code) == ("What is wrong.", kind.default_param, kind.default_code)


def test_pickling_keeps_what_was_given_over_the_default() -> None:
    copy = pickle.loads(pickle.dumps(UndecodableAudio("No.", "known_speaker_references", "odd")))
    assert (copy.param, copy.code) == ("known_speaker_references", "odd")


def test_params_and_codes_are_openais() -> None:
    assert (AudioTooShort("x").param, AudioTooShort("x").code) == ("file", "audio_too_short")
    assert (UnsupportedLanguage("x").param, UnsupportedLanguage("x").code) == ("language", "invalid_language_format")
    assert (InvalidRequest("x").param, InvalidRequest("x").code) == (None, "invalid_value")


def test_messages() -> None:
    assert AudioServerError().message == "AudioServerError"
    assert ConfigurationError("One sentence.").message == "One sentence."
    assert ModelNotFound("whisper-9").message == "The model 'whisper-9' does not exist on this server."


def test_retryable_errors_tell_when() -> None:
    assert Overloaded("busy").retry_after_s == 1.0
    assert ModelUnavailable("loading", 7.0).retry_after_s == 7.0
