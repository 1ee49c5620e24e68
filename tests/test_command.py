"""The command `auricle`, as it is installed."""

import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
import yaml

from tests.conftest import JFK, ROOT, RunningServer, embedded_config
from tests.serve.tools import wait_until

CONFIGS = {path.stem: path for path in (ROOT / "configs").glob("*.yaml")}


def auricle(
    *arguments: str, directory: Path, program: Path = Path(sys.executable).parent
) -> subprocess.CompletedProcess[str]:
    command = [str(program / "auricle"), *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)


def test_it_says_what_it_can_do(tmp_path: Path) -> None:
    said = auricle("--help", directory=tmp_path)
    assert said.returncode == 0
    for command in ("serve", "check", "config", "models"):
        assert f"\n    {command} " in said.stdout
        assert auricle(command, "--help", directory=tmp_path).returncode == 0


def test_version(tmp_path: Path) -> None:
    assert auricle("--version", directory=tmp_path).stdout == f"auricle {version('auricle')}\n"


def test_an_unknown_command_is_told_of(tmp_path: Path) -> None:
    said = auricle("transcribe", directory=tmp_path)
    assert said.returncode == 2
    assert "invalid choice: 'transcribe'" in said.stderr


def test_configurations_are_listed_and_printed_to_be_made_ones_own(tmp_path: Path) -> None:
    listed = auricle("config", directory=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in listed] == sorted(CONFIGS)
    printed = auricle("config", "embedded", directory=tmp_path).stdout
    assert printed == CONFIGS["embedded"].read_text()
    (tmp_path / "own.yaml").write_text(printed)
    checked = auricle("check", "own.yaml", directory=tmp_path)
    assert (checked.returncode, checked.stdout) == (0, "own.yaml is fine.\n")


def test_a_name_and_a_path_of_a_checkout_mean_the_shipped_one(tmp_path: Path) -> None:
    for name in ("embedded", "configs/embedded.yaml"):
        assert auricle("check", name, directory=tmp_path).returncode == 0


def test_a_directory_of_that_name_hides_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "embedded").mkdir()
    assert auricle("check", "embedded", directory=tmp_path).returncode == 0


@pytest.mark.parametrize("name", ["nobody", "elsewhere/embedded.yaml", "embedded.json"])
def test_what_is_no_configuration_is_one_sentence(name: str, tmp_path: Path) -> None:
    said = auricle("check", name, directory=tmp_path)
    assert said.returncode == 2
    assert said.stderr == (
        f"Cannot start. There is no file {name}; those that come with Auricle are: {', '.join(sorted(CONFIGS))}.\n"
    )


def test_a_directory_that_hides_a_package_is_refused(tmp_path: Path) -> None:
    """Serve looks there first."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").touch()
    said = auricle("serve", "embedded", directory=tmp_path)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert "models/__init__.py would be taken for a part of Auricle" in said.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment in which Auricle is a wheel, and what it needs that of this environment."""
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(directory),
        str(copy_of_project(directory)),
    ]
    subprocess.run([*pip, *build], check=True, timeout=300)
    (wheel,) = directory.glob("auricle-*.whl")
    venv.create(directory / "fresh", with_pip=False, symlinks=True)
    (packages,) = (directory / "fresh").glob("lib/python*/site-packages")
    # Not by a path of the interpreter's: so the editable install of this environment is not among them.
    (packages / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    programs = directory / "fresh" / "bin"
    install = ["--python", str(programs / "python"), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True, timeout=300)
    return programs


def copy_of_project(directory: Path) -> Path:
    """What building writes beside the sources is not to lie in the checkout."""
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    target = directory / "project"
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "notebooks/")):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    return target


def test_a_wheel_brings_everything_that_the_server_needs(installed: Path, tmp_path: Path) -> None:
    where = [
        str(installed / "python"),
        "-c",
        "import deployments, models; print(deployments.__file__, models.__file__)",
    ]
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True).stdout
    assert str(ROOT) not in found
    assert (
        auricle("config", "embedded", directory=tmp_path, program=installed).stdout == CONFIGS["embedded"].read_text()
    )
    assert "whisper-base" in auricle("models", directory=tmp_path, program=installed).stdout


def test_an_installed_wheel_transcribes_and_stops_silently(installed: Path, tmp_path: Path) -> None:
    """Also as a shell's background job, which ignores interruptions."""
    config = embedded_config(models=[{"id": "tiny", "source": "embedded:whisper-tiny.en"}])
    application = config["applications"][0]
    del application["args"]["diarization"]
    application["deployments"] = [
        {"name": name, "ray_actor_options": {"num_cpus": 0.1}} for name in ("ingress", "audio", "asr-tiny")
    ]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    program = ["sh", "-c", 'trap "" INT; exec "$0" serve own.yaml', str(installed / "auricle")]
    running = RunningServer(config, tmp_path, program=program)
    with running as server:
        page = httpx.get(f"{server.url}/", timeout=60)
        with JFK.path.open("rb") as file:
            answer = server.client.audio.transcriptions.create(model="tiny", file=file)
        wait_until(lambda: "is up" in running.log.read_text(), "that it says so")  # it asks once a second
    assert page.headers["content-type"].startswith("text/html")
    assert "ask what you can do for your country" in answer.text
    said = running.log.read_text()
    assert "***" not in said
    assert "Traceback" not in said
    assert running.status == 0
