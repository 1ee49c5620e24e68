"""The check of a GPU, without one."""

import sys

import pytest
import torch

from benchmarks import gpu_check


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
