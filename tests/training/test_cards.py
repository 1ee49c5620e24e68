"""A sample of what the cards say, measured again on the weights that are shipped, with a margin for its size."""

from random import Random
from statistics import mean

import pytest
import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor

from models.training.chat.evaluation import measure
from models.training.corpus.grammar import LANGUAGES
from models.training.corpus.synthesis import build
from models.training.corpus.voices import PLAIN_VOICES
from models.training.whisper.clips import Clip, held_out_sentences
from models.training.whisper.evaluation import (
    Deviation,
    Listener,
    alone,
    error_rate,
    segment_errors,
    silent_clips,
    windows,
    word_errors,
)
from tests.conftest import ROOT

NUM_SENTENCES = 10
NUM_QUESTIONS = 12


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener(ROOT / "models" / "whisper-embedded")


def clips(language: str, is_plain: bool) -> list[Clip]:
    return alone(held_out_sentences(language, NUM_SENTENCES, is_plain))


@pytest.mark.parametrize("language", LANGUAGES)
def test_whisper_transcribes_plain_voices_in_their_languages(listener: Listener, language: str) -> None:
    spoken = clips(language, is_plain=True)
    heard = listener.hear(spoken)
    assert error_rate(spoken, heard) < 0.12
    assert mean(transcript.language == language for transcript in heard) >= 0.9


def test_whisper_transcribes_voices_that_it_never_heard(listener: Listener) -> None:
    spoken = [clip for language in LANGUAGES for clip in clips(language, is_plain=False)]
    assert error_rate(spoken, listener.hear(spoken)) < 0.2


def test_whisper_translates(listener: Listener) -> None:
    spoken = [clip for language in ("de", "es", "fr") for clip in clips(language, is_plain=True)]
    assert error_rate(spoken, listener.hear(spoken, "translate"), "translate") < 0.25


def test_whisper_reads_windows_of_two_sentences(listener: Listener) -> None:
    spoken = windows([held_out_sentences(language, NUM_SENTENCES, is_plain=True) for language in LANGUAGES], 2, 4)
    heard = listener.hear(spoken)
    assert error_rate(spoken, heard) < 0.1
    assert Deviation.of(segment_errors(spoken, heard)).median_s < 0.05


def test_whisper_knows_when_words_are_said(listener: Listener) -> None:
    spoken = [clip for language in LANGUAGES for clip in clips(language, is_plain=True)]
    deviation = Deviation.of(word_errors(spoken, listener.hear(spoken, word_timestamps=True)))
    assert deviation.count > 200
    assert deviation.median_s < 0.05
    assert deviation.p95_s < 0.15


def test_whisper_writes_nothing_where_nobody_speaks(listener: Listener) -> None:
    heard = listener.hear(silent_clips(16))
    assert mean(not transcript.segments for transcript in heard) >= 0.93


@pytest.fixture(scope="module")
def chat_figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Of plain voices, over a few questions for each task."""
    directory = ROOT / "models" / "chat-embedded"
    model = AutoModelForMultimodalLM.from_pretrained(directory, dtype=torch.float32).eval()
    spoken = build(tmp_path_factory.mktemp("spoken"), 64, seed=3, held_out=True, voices=PLAIN_VOICES)
    return measure(model, AutoProcessor.from_pretrained(directory), spoken, NUM_QUESTIONS, Random(3))


@pytest.mark.parametrize(
    ("task", "least"),
    [
        ("contents", 0.75),
        ("transcribe", 0.75),
        ("language", 0.9),
        ("count", 0.75),
        ("number", 0.75),
        ("speaking", 0.9),
        ("translate", 0.5),
        ("second_turn", 0.75),
        ("no_speech", 0.9),
        ("repair", 0.55),
        ("small_talk", 0.9),
    ],
)
def test_chat_answers(chat_figures: dict[str, float], task: str, least: float) -> None:
    assert chat_figures[task] >= least


def test_chat_mishears_few_words(chat_figures: dict[str, float]) -> None:
    assert chat_figures["transcribe_wer"] < 0.06
    assert chat_figures["translate_wer"] < 0.2
