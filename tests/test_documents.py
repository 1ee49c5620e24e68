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
import yaml
from nbclient import NotebookClient

from deployments.config_file import load_config
from tests.conftest import ROOT, Server

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
README = (ROOT / "README.md").read_text()
SCALE = (ROOT / "docs" / "scale.md").read_text()

SENTENCE = "ask what you can do for your country"
"""The end of tests/data/jfk.flac, which the first examples transcribe."""


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


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


def test_the_table_of_scale_is_what_its_formula_gives(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python", SCALE)
    exec(compile(code, "scale.md", "exec"), {})
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 6
    assert [row for row in rows if row not in SCALE] == []


def test_the_autoscaling_of_scale_is_that_of_the_cluster(tmp_path: Path) -> None:
    (shown,) = (yaml.safe_load(block) for block in blocks("yaml", SCALE))
    config = yaml.safe_load((ROOT / "configs" / "cluster.yaml").read_text())
    used = [one.get("autoscaling_config") for one in config["applications"][0]["deployments"]]
    assert shown["autoscaling_config"] in used
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert load_config(tmp_path / "config.yaml")


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
