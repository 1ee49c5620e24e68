"""What benchmarks do before they ask a server."""

import sys
from typing import Any

import pytest
import torch

from benchmarks import chat_load, gpu_check
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


def test_the_check_of_a_gpu_runs_without_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["gpu_check", "--device", "cpu", "--quick", "--parts", "shapes"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    assert ended.value.code == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert all(line.count("|") == 5 for line in lines)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    found = {(part, rows): value for part, _, rows, value in cells}
    assert {("encoder", "1"), ("encoder", "3"), ("engine", "1"), ("engine", "3")} <= found.keys()
    assert all("done again" in found["step", rows] for rows in ("1", "3"))
    assert not any("failed" in value for value in found.values())


def test_what_fails_in_the_check_of_a_gpu_is_told_and_the_rest_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed: list[str] = []
    with gpu_check.failing("words", failed):
        raise torch.OutOfMemoryError("no memory for this\nand more")
    assert failed == ["words"]
    assert "| words |  |  | **failed**: OutOfMemoryError: no memory for this |" in capsys.readouterr().out
