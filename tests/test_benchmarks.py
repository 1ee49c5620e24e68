"""What benchmarks do before they ask a server."""

import sys
from typing import Any

import pytest

from benchmarks import chat_load
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
