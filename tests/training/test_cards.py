"""A sample of what the cards say, measured again on the weights that are shipped, with a margin for its size."""

from statistics import mean

import pytest

from models.training.corpus.grammar import LANGUAGES
from models.training.whisper.clips import Clip, held_out_sentences
from models.training.whisper.evaluation import Listener, alone, error_rate, silent_clips, windows
from tests.conftest import ROOT

NUM_SENTENCES = 10


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener(ROOT / "models" / "whisper-embedded")


def clips(language: str, is_plain: bool) -> list[Clip]:
    return alone(held_out_sentences(language, NUM_SENTENCES, is_plain))


@pytest.mark.parametrize("language", LANGUAGES)
def test_whisper_transcribes_plain_voices_in_their_languages(listener: Listener, language: str) -> None:
    spoken = clips(language, is_plain=True)
    heard = listener.hear(spoken)
    assert error_rate(spoken, heard) < 0.25
    assert mean(transcript.language == language for transcript in heard) >= 0.9


def test_whisper_transcribes_voices_that_it_never_heard(listener: Listener) -> None:
    spoken = [clip for language in LANGUAGES for clip in clips(language, is_plain=False)]
    assert error_rate(spoken, listener.hear(spoken)) < 0.35


def test_whisper_translates(listener: Listener) -> None:
    spoken = [clip for language in ("de", "es", "fr") for clip in clips(language, is_plain=True)]
    assert error_rate(spoken, listener.hear(spoken, "translate"), "translate") < 0.5


def test_whisper_reads_windows_of_two_sentences(listener: Listener) -> None:
    spoken = windows([held_out_sentences(language, NUM_SENTENCES, is_plain=True) for language in LANGUAGES], 2, 4)
    assert error_rate(spoken, listener.hear(spoken)) < 0.3


def test_whisper_writes_nothing_where_nobody_speaks(listener: Listener) -> None:
    heard = listener.hear(silent_clips(16))
    assert mean(not transcript.segments for transcript in heard) >= 0.85
