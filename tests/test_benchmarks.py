"""What benchmarks do before they ask a server."""

import sys
from typing import Any

import pytest

from benchmarks import chat_load
from benchmarks.accuracy import whisper_word_error_rate
from benchmarks.scoring import word_error_rate
from tests.conftest import DATA


def test_answers_are_counted_by_the_default_model_s_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory holds a GGUF file and nothing else."""
    counted: list[int] = []

    def compare(servers: Any, asked: Any, clients: Any, tokenizer: Any) -> None:
        counted.append(len(tokenizer.encode("Ask what you can do.")))

    monkeypatch.setattr(chat_load, "compare", compare)
    monkeypatch.setattr(sys, "argv", ["chat_load", "--files", str(DATA / "jfk.flac")])
    chat_load.main()
    assert counted == [6]


def test_whisper_s_own_normaliser_forgives_how_a_word_is_written() -> None:
    spoken, heard = ["Mister Smith isn't twenty."], ["Mr. Smith is not 20"]
    assert word_error_rate(spoken, heard) > 0.5
    assert whisper_word_error_rate(spoken, heard) == 0
    assert whisper_word_error_rate(["They came home late."], ["They came late."]) == 0.25
