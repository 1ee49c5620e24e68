"""What the README and the notebooks show is run against the real server."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT, Server

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
README = (ROOT / "README.md").read_text()

SENTENCE = "ask what you can do for your country"
"""The end of tests/data/jfk.flac, which the first examples transcribe."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.name for path in NOTEBOOKS])
def test_notebook_runs(real_server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURICLE_URL", real_server.url)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(path.parent)}}).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.name for path in NOTEBOOKS])
def test_notebook_was_run_before_it_was_committed(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert any(cell.outputs for cell in cells)
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)


def test_readme_python_runs(
    real_server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    code = "\n".join(blocks("python")).replace("http://127.0.0.1:8000", real_server.url)
    assert "stream=True" in code
    exec(compile(code, "README.md", "exec"), {})
    assert SENTENCE in capsys.readouterr().out


def test_captions_of_a_file(real_server: Server) -> None:
    program = [sys.executable, "notebooks/captions.py", "tests/data/jfk.flac"]
    environment = {**os.environ, "AURICLE_URL": real_server.url}
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert "can do for your country" in done.stdout.lower()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_readme_curl_runs(real_server: Server) -> None:
    code = "\n".join(blocks("bash")).replace("\\\n", " ").replace("http://127.0.0.1:8000", real_server.url)
    commands = [shlex.split(line, comments=True) for line in code.splitlines() if line.startswith("curl")]
    answers = [
        subprocess.run(["curl", "-sf", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _, *words in commands
    ]
    assert any(SENTENCE in answer for answer in answers), answers


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
