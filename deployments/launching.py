"""Checks a configuration, runs it, and says when and where it is up.

It wraps `serve run CONFIG`, which does the same without the checks and the last word.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from math import ceil
from pathlib import Path

from ray.serve.schema import ServeDeploySchema

from deployments.address import address_of, check_port, health_of
from deployments.api_keys import api_keys
from deployments.compat.haproxy import PROGRAM_VARIABLE
from deployments.compat.serve import PROGRAM
from deployments.config_file import check_hosts, check_origins, check_resources, load_config, local_resources
from deployments.environment import (
    API_KEYS_FILE_VARIABLE,
    API_KEYS_VARIABLE,
    HAPROXY_VARIABLE,
    allowed_media_hosts,
    cors_origins,
    haproxy_is_on,
)
from deployments.settings import Settings
from deployments.shipped_configs import find_config
from models.sources import resolve
from pipelines.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("deployments", "models", "pipelines")
EXAMPLE_CLIP = "tests/data/jfk.flac"
POLL_S = 1.0
HARD_STOP_MARGIN_S = 60
ADDRESS_VARIABLE, LOCAL = "RAY_ADDRESS", "local"
"""Ray's own, and its word for a cluster that begins and ends with this program."""

_stopping: list["subprocess.Popen[bytes]"] = []


def check(config: str) -> int:
    """Say whether a configuration is fine. Returns the exit status.

    Args:
        config: a file, or the name of one that comes with Auricle.
    """
    try:
        path = find_config(config)
        load_config(path)
    except ConfigurationError as error:
        return _refuse(error.message)
    print(f"{path} is fine.")
    return 0


def serve(config: str) -> int:
    """Run a configuration until somebody stops it. Returns the exit status; arguments as `check`."""
    try:
        path = find_config(config)
        loaded = load_config(path)
        refuse_hidden_packages(Path.cwd())
        if _has_haproxy(loaded):
            haproxy_program()
        if _ray_address() == LOCAL:
            check_environment(loaded)
            check_resources(loaded, *local_resources())
            check_port(loaded)
            _fetch_models(loaded)
        else:
            refuse_relative_sources(loaded)
    except ConfigurationError as error:
        return _refuse(error.message)
    with tempfile.TemporaryDirectory(prefix="auricle-", ignore_cleanup_errors=True) as directory:
        return _run(path, loaded, _environment(loaded, Path(directory)))


def check_environment(config: ServeDeploySchema) -> None:
    """What the ingress would only say in its log, for ever starting anew.

    Raises:
        ConfigurationError
    """
    check_hosts(allowed_media_hosts(()))
    check_origins(cors_origins(()))
    wants_keys = any(settings.require_api_key for settings in _settings(config))
    if not api_keys() and wants_keys:
        raise ConfigurationError(
            f"require_api_key is set, but {API_KEYS_VARIABLE} and {API_KEYS_FILE_VARIABLE} are empty."
        )
    if haproxy_is_on() and not _has_haproxy(config):
        raise ConfigurationError(f"{HAPROXY_VARIABLE} is set: say 'haproxy: true' in args, or unset it.")
    if _has_haproxy(config) and HAPROXY_VARIABLE in os.environ and not haproxy_is_on():
        raise ConfigurationError(f"haproxy is set, but {HAPROXY_VARIABLE} says otherwise: unset it.")


def refuse_hidden_packages(directory: Path) -> None:
    """`serve run` looks for code in the current directory first, where what is called as a package of ours hides it.

    Raises:
        ConfigurationError
    """
    for name in PACKAGES:
        for hiding in (directory / name / "__init__.py", directory / f"{name}.py"):
            if hiding.exists() and directory.resolve() != PROJECT:
                raise ConfigurationError(
                    f"{hiding} would be taken for a part of Auricle: start it in another directory."
                )


def refuse_relative_sources(config: ServeDeploySchema) -> None:
    """A directory beside the one who starts is on no other node, and a hub id has no directory here.

    Raises:
        ConfigurationError
    """
    for source in _sources(config):
        if not Path(source).is_absolute() and Path(source).exists():
            raise ConfigurationError(
                f"source: '{source}' is a path of this directory, which the cluster's nodes do not have: "
                "name it by an absolute path that is there on each of them."
            )


def _sources(config: ServeDeploySchema) -> Iterator[str]:
    for settings in _settings(config):
        yield from settings.sources


def _settings(config: ServeDeploySchema) -> Iterator[Settings]:
    return (Settings.model_validate(application.args) for application in config.applications)


def _refuse(reason: str) -> int:
    print(f"Cannot start. {reason}", file=sys.stderr)
    return 2


def _fetch_models(config: ServeDeploySchema) -> None:
    """Where somebody can watch it; on the nodes of a cluster each replica fetches what it needs.

    Raises:
        ConfigurationError
    """
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("auricle").setLevel(logging.INFO)
    for source in _sources(config):
        resolve(source)


def _environment(config: ServeDeploySchema, directory: Path) -> dict[str, str]:
    defaults = {"RAY_USAGE_STATS_ENABLED": "0", **(_haproxy(config, directory) if _has_haproxy(config) else {})}
    return {**defaults, **os.environ, ADDRESS_VARIABLE: _ray_address()}


def _ray_address() -> str:
    """Unset, Ray would join what somebody else began on this machine."""
    return os.environ.get(ADDRESS_VARIABLE) or LOCAL


def _has_haproxy(config: ServeDeploySchema) -> bool:
    return any(settings.haproxy for settings in _settings(config))


def haproxy_program() -> str:
    """
    Raises:
        ConfigurationError
    """
    beside = Path(sys.executable).parent / "auricle-haproxy"
    found = str(beside) if beside.exists() else shutil.which("auricle-haproxy")
    if not found:
        raise ConfigurationError("haproxy is set, but there is no program auricle-haproxy: install Auricle by pip.")
    return found


def _haproxy(config: ServeDeploySchema, directory: Path) -> dict[str, str]:
    """What switches it on, with its files where nobody else can have put some before."""
    longest_s = max(settings.limits.longest_s for settings in _settings(config))
    return {
        HAPROXY_VARIABLE: "1",
        PROGRAM_VARIABLE: haproxy_program(),
        # each change of the ingress replicas starts it anew, and the old one cuts what takes longer
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(ceil(longest_s) + HARD_STOP_MARGIN_S),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(directory / "metrics.sock"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(directory / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(directory / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(directory),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(directory / "server-state"),
    }


def _run(path: Path, config: ServeDeploySchema, environment: dict[str, str]) -> int:
    # A shell's background jobs ignore interruptions, and so would what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # In a group of its own: a terminal's Ctrl-C would reach it twice, and break off its clean end.
    server = subprocess.Popen([sys.executable, "-m", PROGRAM, "run", str(path)], env=environment, process_group=0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's wish
            signal.signal(number, lambda *_: _stop(server))
    address = address_of(config)
    if _ray_address() != LOCAL:
        for variable in {API_KEYS_VARIABLE, API_KEYS_FILE_VARIABLE} & environment.keys():
            print(f"{variable} of this shell does not reach that cluster: see the README.", file=sys.stderr)
    print(f"Starting. It will be at {address}", flush=True)
    while server.poll() is None and not (health := health_of(address)).is_up:
        if health.failed:
            _stop(server)
            server.wait()
            reasons = " ".join(f"{name}: {reason}" for name, reason in health.failed.items())
            return _refuse(reasons)
        time.sleep(POLL_S)
    if server.poll() is None:
        print(_invitation(address, config), flush=True)
    return server.wait()


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """Ray prints a stack trace when it is terminated, but not when it is interrupted. Asked again, do not wait."""
    server.send_signal(signal.SIGTERM if server in _stopping else signal.SIGINT)
    _stopping.append(server)


def _invitation(address: str, config: ServeDeploySchema) -> str:
    settings = Settings.model_validate(config.applications[0].args)
    key = ' -H "Authorization: Bearer $API_KEY"' if api_keys() else ""
    if settings.speech_models:
        clip = EXAMPLE_CLIP if Path(EXAMPLE_CLIP).exists() else "your-recording.mp3"
        path, sent = "audio/transcriptions", f"-F model={settings.speech_models[0].id} -F file=@{clip}"
    else:
        question = {"model": settings.models[0].id, "messages": [{"role": "user", "content": "Who are you?"}]}
        path, sent = "chat/completions", f"-H 'Content-Type: application/json' -d '{json.dumps(question)}'"
    return f"\nAuricle is up at {address}\n\nTry it:\n\n  curl {address}/v1/{path}{key} {sent}\n"
