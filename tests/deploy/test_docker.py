"""The image and what stands beside it, as far as that is seen without Docker."""

import re
import subprocess
from fnmatch import fnmatch
from typing import Any

import pytest
import yaml

from deployments.config_file import load_config
from tests.conftest import ROOT

DOCKER = ROOT / "deploy" / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()


COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())


def compose() -> dict[str, Any]:
    services: dict[str, Any] = COMPOSE["services"]
    return services


def interpolated(text: str, **environment: str) -> str:
    """As Compose does, and as a shell does: of the forms that are used here they understand the same."""
    command = ["sh", "-c", f'printf %s "{text}"']
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def copied() -> list[str]:
    """From the repository, not from another stage."""
    lines = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.M)
    return [word for line in lines for word in line.split()[:-1] if not word.startswith("--")]


def test_all_that_the_image_copies_is_there_and_sent_to_the_builder() -> None:
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    sent = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert "*" in lines
    assert set(copied()) == set(sent)
    assert all((ROOT / name).exists() for name in sent)


def test_the_image_runs_as_a_user_and_stops_in_order() -> None:
    last_stage = DOCKERFILE.split("\nFROM ")[-1]
    (user,) = re.findall(r"^USER (\d+):\d+$", last_stage, re.M)
    assert int(user) > 0
    assert "\nSTOPSIGNAL SIGINT\n" in last_stage
    assert "/health" in last_stage.split("\nHEALTHCHECK ")[1].split("\nENTRYPOINT")[0]


def test_every_image_is_pinned() -> None:
    bases = [base for base in re.findall(r"^FROM (\S+)", DOCKERFILE, re.M) if base != "build"]
    assert bases
    assert all(base == "python:${PYTHON_VERSION}-slim-bookworm" for base in bases)
    assert re.search(r"^ARG PYTHON_VERSION=3\.\d+\.\d+$", DOCKERFILE, re.M)
    others = [service["image"] for service in compose().values() if "build" not in service]
    assert others
    assert all(re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", image) for image in others)


def test_its_configuration_is_the_default_one_but_for_whom_it_listens_to() -> None:
    load_config(DOCKER / "config.yaml")
    ours = yaml.safe_load((DOCKER / "config.yaml").read_text())
    default = yaml.safe_load((ROOT / "configs" / "embedded.yaml").read_text())
    assert ours["http_options"].pop("host") == "0.0.0.0"
    assert ours["applications"][0]["args"].pop("require_api_key") is True
    del default["http_options"]["host"]
    assert ours == default


@pytest.mark.parametrize(
    ("given", "keys", "file", "mounted"),
    [
        ({"AURICLE_API_KEYS": "sk-1,sk-2"}, "sk-1,sk-2", "", "/dev/null"),
        ({"AURICLE_API_KEYS": "", "AURICLE_API_KEYS_FILE": "a/b"}, "", "/run/secrets/api-keys.yaml", "a/b"),
        ({"AURICLE_API_KEYS": "sk-1", "AURICLE_API_KEYS_FILE": "a/b"}, "sk-1", "/run/secrets/api-keys.yaml", "a/b"),
    ],
)
def test_keys_come_from_the_environment_and_a_file(given: dict[str, str], keys: str, file: str, mounted: str) -> None:
    environment = compose()["auricle"]["environment"]
    assert interpolated(environment["AURICLE_API_KEYS"], **given) == keys
    assert interpolated(environment["AURICLE_API_KEYS_FILE"], **given) == file
    (secret,) = compose()["auricle"]["secrets"]
    assert file in ("", f"/run/secrets/{secret}")
    assert interpolated(COMPOSE["secrets"][secret]["file"], **given) == mounted


def test_whoever_starts_it_names_keys() -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        interpolated(compose()["auricle"]["environment"]["AURICLE_API_KEYS"], AURICLE_API_KEYS_FILE="a/b")
    assert "Name the keys that clients must send" in refused.value.stderr


def test_only_the_server_may_be_opened_to_others() -> None:
    ports = [port for service in compose().values() for port in service["ports"]]
    assert len(ports) == 3
    assert all(fnmatch(port, "127.0.0.1:*") or port == "${AURICLE_ADDRESS:-127.0.0.1:8000}:8000" for port in ports)


def test_what_is_mounted_is_there() -> None:
    mounts = [mount.split(":")[0] for service in compose().values() for mount in service["volumes"]]
    files = [mount for mount in mounts if mount.startswith("..")]
    assert len(files) >= 4
    assert all((DOCKER / file).exists() for file in files)
    named = COMPOSE["volumes"]
    assert {mount for mount in mounts if not mount.startswith("..")} == set(named)


def test_prometheus_asks_the_server_and_finds_ray_s_nodes() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    ours, rays = config["scrape_configs"]
    assert ours["static_configs"] == [{"targets": ["auricle:8000"]}]
    (discovery,) = (path for entry in rays["file_sd_configs"] for path in entry["files"])
    assert discovery == "/tmp/ray/prom_metrics_service_discovery.json"
    assert "ray:/tmp/ray" in compose()["auricle"]["volumes"]
    assert "ray:/tmp/ray:ro" in compose()["prometheus"]["volumes"]
