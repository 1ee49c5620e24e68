"""The check of a GPU, without one."""

import sys
import threading
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.random_whispers import save_random_whisper


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


def test_a_step_that_is_not_recorded_and_words_that_differ_are_faults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = gpu_check.quick(torch.device("cpu"))
    monkeypatch.setattr("deployments.asr.steps.MAX_DIFFERENCE", -1.0)
    save_random_whisper("tiny", tmp_path, plan.device, torch.float32)
    with pytest.raises(ArithmeticError, match="1 rows: no graph"):
        gpu_check.steps(plan, "tiny", tmp_path)
    heard = iter(["quite right", "all wrong"])
    monkeypatch.setattr(gpu_check, "heard", lambda *_: next(heard))
    with pytest.raises(ArithmeticError, match="other words than on the CPU"):
        gpu_check.words(plan)


class Refusing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(503)


def test_requests_that_fail_are_a_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setattr(gpu_check, "serving", lambda *_: nullcontext(f"http://127.0.0.1:{server.server_port}"))
        try:
            with pytest.raises(ArithmeticError, match="8 of 8 requests failed"):
                gpu_check.served(gpu_check.quick(torch.device("cpu")))
        finally:
            server.shutdown()


def test_what_fails_in_the_check_of_a_gpu_is_told_and_the_rest_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed: list[str] = []
    with gpu_check.failing("words", failed):
        raise torch.OutOfMemoryError("no memory for this\nand more")
    assert failed == ["words"]
    assert "| words |  |  | **failed**: OutOfMemoryError: no memory for this |" in capsys.readouterr().out
