"""`python -m deployments` says what is wrong with a configuration in one sentence, before anything starts."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.launching import check
from tests.conftest import ROOT, embedded_config
from tests.serve.conftest import light, scripted_model, serve_config

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def launch(*arguments: str, timeout_s: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deployments", *arguments],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": "local", **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result
    sentences = result.stderr.strip().splitlines()
    assert len(sentences) == 1, result.stderr
    assert sentences[0].startswith("Cannot start. ")
    assert sentences[0].endswith(".")
    for word in words:
        assert word in sentences[0]


def assert_fine(result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    assert "fine" in result.stdout


def broken(**changes: Any) -> dict[str, Any]:
    """The embedded configuration with keys of its ASR deployment replaced."""
    config = embedded_config()
    config["applications"][0]["deployments"][2].update(changes)
    return config


def models(**changes: Any) -> dict[str, Any]:
    return embedded_config(models=[{"id": "whisper", "source": "embedded:whisper-base", **changes}])


BROKEN = {
    "unknown key in a deployment": (broken(max_ongoing_request=3), "max_ongoing_request"),
    "unknown deployment": (broken(name="asr-nobody"), "asr-nobody"),
    "unknown key of ours": (embedded_config(model=[]), "model"),
    "unknown engine": (models(engine="nobody.knows:It"), "nobody.knows:It"),
    "missing class of an engine": (models(engine="tests.serve.scripted_engine:Nobody"), "Nobody"),
    "unknown user_config": (broken(user_config={"max_batch": 3}), "max_batch"),
    "no models": (embedded_config(models=[]), "models"),
    "not a mapping": (["applications"], ""),
    "nothing": (None, ""),
}

TOO_LARGE = {
    "more CPUs than there are": (broken(ray_actor_options={"num_cpus": 100_000}), "CPU"),
    "more GPUs than there are": (broken(ray_actor_options={"num_cpus": 0.1, "num_gpus": 100_000}), "GPU"),
}


def checked(path: Path, capfd: pytest.CaptureFixture[str]) -> subprocess.CompletedProcess[str]:
    """What `--check` says, without another process, which would import Ray for seconds."""
    return subprocess.CompletedProcess([], check(str(path)), *capfd.readouterr())


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_configuration_is_one_sentence(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config, word = BROKEN[name]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    assert_refused(checked(path, capfd), word)


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_this_machine_cannot_hold_is_one_sentence(name: str, tmp_path: Path) -> None:
    config, word = TOO_LARGE[name]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    assert_refused(launch(str(path)), word)


def test_a_file_that_is_not_there() -> None:
    assert_refused(launch("missing.yaml"), "missing.yaml")


def test_a_file_that_is_not_yaml(tmp_path: Path) -> None:
    path = tmp_path / "not-YAML.yaml"
    path.write_text("applications: [unclosed\n  - : :")
    assert_refused(launch(str(path)), "not-YAML.yaml", "YAML")


def test_what_cannot_be_loaded_ends_the_start_with_one_sentence(tmp_path: Path) -> None:
    models = [scripted_model("reader", "CodeReader", 0), scripted_model("speakers-diarize", "CodeReader", 0)]
    names = ("ingress", "audio", "asr-reader", "asr-speakers-diarize", "diarization")
    diarization = {"source": "models/nobody", "device": "cpu"}
    config = serve_config(models, [light(name) for name in names], diarization=diarization)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    result = launch(str(tmp_path / "config.yaml"), timeout_s=480, RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT="1")
    assert result.returncode == 2, result.stderr[-2000:]
    last = next(line for line in reversed(result.stderr.splitlines()) if line.startswith("Cannot start."))
    assert last.startswith("Cannot start. diarization: The diarization pipeline 'models/nobody' is neither a directory")
    assert last.endswith(".")


def test_what_the_environment_lacks_is_told_before_anything_starts(tmp_path: Path) -> None:
    models = [scripted_model("reader", "CodeReader", 0)]
    names = ("ingress", "audio", "asr-reader")
    config = serve_config(models, [light(name) for name in names], haproxy=True, require_api_key=True)
    config["http_options"]["host"] = "0.0.0.0"
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    assert_refused(
        launch(str(path)), "require_api_key is set, but AURICLE_API_KEYS and AURICLE_API_KEYS_FILE are empty"
    )
    keys = {"AURICLE_API_KEYS": "sk-1"}
    assert_refused(launch(str(path), RAY_SERVE_ENABLE_HA_PROXY="0", **keys), "haproxy is set", "unset it")
    config["applications"][0]["args"]["haproxy"] = False
    path.write_text(yaml.safe_dump(config))
    assert_refused(launch(str(path), RAY_SERVE_ENABLE_HA_PROXY="1", **keys), "say 'haproxy: true' in args")


def test_a_path_of_this_directory_is_refused_for_a_cluster(tmp_path: Path) -> None:
    """Before it is even asked whether that cluster is there."""
    config = embedded_config()
    config["applications"][0]["args"]["models"][0]["source"] = "models"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    result = launch(str(tmp_path / "config.yaml"), RAY_ADDRESS="127.0.0.1:1")
    assert_refused(result, "source: 'models' is a path of this directory", "absolute path")


def test_there_are_configurations() -> None:
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_of_the_repository_is_fine(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert_fine(checked(path, capfd))


def test_a_check_is_silent_beside_its_word() -> None:
    """It counts no GPUs or CPUs of this machine."""
    assert_fine(launch("--check", "gpu"))
