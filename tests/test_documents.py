"""What the documents and the notebooks show is run against the real server."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import httpx
import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from prometheus_client.parser import text_string_to_metric_families
from ray.scripts.scripts import cli as ray_command
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema
from ray.serve.scripts import cli as serve_command

from deployments.api_keys import api_keys
from deployments.config_file import load_config
from tests.conftest import ROOT, Server
from tests.documents import DOCS, PAGES, Block, blocks, rows, write_files

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BLOCKS = [block for page in PAGES for block in blocks(page)]
ADDRESS = "http://127.0.0.1:8000"
SCALE = ROOT / "docs" / "scale.md"

SENTENCE = "ask what you can do for your country"
"""The end of tests/data/jfk.flac, which the first examples transcribe."""

PARSED = "from deployments.command import _parser; _parser().parse_args()"


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and not block.file]


def pages_with(language: str) -> Any:
    pages = list(dict.fromkeys(block.page for block in of(language)))
    return pytest.mark.parametrize("page", pages, ids=[page.name for page in pages])


def commands() -> list[str]:
    """All commands of shell, without what becomes of their output."""
    code = "".join(block.code for block in of("bash")).replace("\\\n", " ").replace(" && ", "\n")
    lines = [re.split(" > |  +#|^#", line)[0] for line in code.splitlines()]
    return [line for line in dict.fromkeys(lines) if line]


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


@pages_with("python")
def test_python_runs(
    real_server: Server, page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    code = "\n".join(block.code for block in of("python") if block.page == page)
    exec(compile(code.replace(ADDRESS, real_server.url), page.name, "exec"), {})
    if page.name == "README.md":
        assert "stream=True" in code
        assert SENTENCE in capsys.readouterr().out


def test_captions_of_a_file(real_server: Server) -> None:
    program = [sys.executable, "notebooks/captions.py", "tests/data/jfk.flac"]
    environment = {**os.environ, "AURICLE_URL": real_server.url}
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert "can do for your country" in done.stdout.lower()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_runs(real_server: Server) -> None:
    lines = [line for line in commands() if line.startswith("curl")]
    answers = [
        subprocess.run(
            ["curl", "-sf", *shlex.split(line.replace(ADDRESS, real_server.url), comments=True)[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for line in lines
    ]
    assert any(SENTENCE in answer for answer in answers), answers


@pytest.mark.parametrize("line", [line for line in commands() if not line.startswith("curl")])
def test_command_is_one(line: str) -> None:
    """As its own parser reads it: what it does is for other tests."""
    program, *arguments = shlex.split(line, comments=True)
    match program:
        case "auricle":
            subprocess.run([sys.executable, "-c", PARSED, *arguments], cwd=ROOT, check=True)
        case "serve" | "ray":
            _parse(serve_command if program == "serve" else ray_command, arguments)
        case "make":
            assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case "python":
            assert arguments[0] == "-m"
            assert find_spec(arguments[1])
        case "pip":
            assert re.fullmatch(r"install auricle-[0-9.]+-py3-none-any.whl", " ".join(arguments))
        case _:
            pytest.fail(f"Nothing here knows how to try '{program}'")


def _parse(command: click.Command, arguments: list[str]) -> None:
    """As far as a program goes before it does anything; an unknown option or a missing argument raises."""
    name, *rest = arguments
    assert isinstance(command, click.Group)
    command.commands[name].make_context(name, rest)


@pytest.mark.parametrize("block", of("yaml"), ids=lambda block: f"{block.page.name}:{block.code.split()[-1]}")
def test_yaml_is_a_part_of_a_configuration(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the place of what the default configuration says there, and passes the strict check."""
    write_files(block.page, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    given = yaml.safe_load(block.code)
    config = yaml.safe_load((ROOT / "configs" / "embedded.yaml").read_text())
    (application,) = config["applications"]
    args = given.pop("args", {})
    application["args"].update(args)
    if "models" in args:
        application["deployments"] = []
    for key, value in given.items():
        if key in ServeDeploySchema.model_fields:
            config[key] = value
        elif key in ServeApplicationSchema.model_fields:
            application[key] = value
        else:
            application["deployments"] = [{"name": "asr-whisper-base", key: value}]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    load_config(path)


def test_every_metric_is_told_of(real_server: Server) -> None:
    """A live server has those of the table, and no others."""
    text = httpx.get(f"{real_server.url}/metrics", timeout=30).text
    served = {family.name: family.type for family in text_string_to_metric_families(text)}
    table = {
        cells[0].strip("`"): cells[1]
        for cells in rows(ROOT / "docs" / "operations.md", "## Metrics")
        if cells[0] != "metric"
    }
    assert table == served


def test_the_table_of_scale_is_what_its_formula_gives(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [block.code for block in of("python") if block.page == SCALE]
    exec(compile(code, "scale.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 6
    assert [row for row in printed if row not in SCALE.read_text()] == []


def test_the_autoscaling_of_scale_is_that_of_the_cluster(tmp_path: Path) -> None:
    (shown,) = (yaml.safe_load(block.code) for block in of("yaml") if block.page == SCALE)
    config = yaml.safe_load((ROOT / "configs" / "cluster.yaml").read_text())
    used = [one.get("autoscaling_config") for one in config["applications"][0]["deployments"]]
    assert shown["autoscaling_config"] in used
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert load_config(tmp_path / "config.yaml")


def test_the_file_of_keys_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = (block.code for block in of("") if block.code.startswith("keys:"))
    (tmp_path / "keys.yaml").write_text(shown)
    monkeypatch.delenv("AURICLE_API_KEYS", raising=False)
    monkeypatch.setenv("AURICLE_API_KEYS_FILE", str(tmp_path / "keys.yaml"))
    (key,) = api_keys()
    assert key.name == "anna"


def test_there_is_something_to_run() -> None:
    assert NOTEBOOKS
    assert len(DOCS) > 5
    assert {block.language for block in BLOCKS} == {"python", "bash", "yaml", "console", ""}
    assert {block.page.name for block in BLOCKS if block.file} == {"engines.md"}, "files have tests of their own"
