"""`python -m deployments CONFIG`: check a configuration, run it, and say when and where it is up.

It wraps `serve run CONFIG`, which does the same without the checks and the last word.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ray.serve.schema import ServeDeploySchema

from deployments.api_keys import api_keys
from deployments.compat.serve import PROGRAM
from deployments.config_file import check_resources, load_config, local_resources
from deployments.environment import API_KEYS_FILE_VARIABLE, API_KEYS_VARIABLE
from deployments.settings import Settings
from models.sources import resolve
from pipelines.errors import ConfigurationError

EXAMPLE_CLIP = "tests/data/jfk.flac"
POLL_S = 1.0

_stopping: list["subprocess.Popen[bytes]"] = []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deployments", description=__doc__.split("\n")[0])
    parser.add_argument("config", type=Path, help="a Serve config file, such as configs/embedded.yaml")
    parser.add_argument("--check", action="store_true", help="only check the configuration")
    arguments = parser.parse_args()
    try:
        config = load_config(arguments.config)
        if arguments.check:
            print(f"{arguments.config} is fine.")
            return 0
        if os.environ.get("RAY_ADDRESS", "local") == "local":
            api_keys()  # else the ingress says what is wrong with them, in its log
            check_resources(config, *local_resources())
            _fetch_models(config)
    except ConfigurationError as error:
        print(f"Cannot start. {error.message}", file=sys.stderr)
        return 2
    return _run(arguments.config, config)


def _fetch_models(config: ServeDeploySchema) -> None:
    """Where somebody can watch it; on the nodes of a cluster each replica fetches what it needs.

    Raises:
        ConfigurationError
    """
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("auricle").setLevel(logging.INFO)
    for application in config.applications:
        for source in Settings.model_validate(application.args).sources:
            resolve(source)


def _run(path: Path, config: ServeDeploySchema) -> int:
    environment = {"RAY_USAGE_STATS_ENABLED": "0", **os.environ}
    # A shell's background jobs ignore interruptions, and so would what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # In a group of its own: a terminal's Ctrl-C would reach it twice, and break off its clean end.
    server = subprocess.Popen([sys.executable, "-m", PROGRAM, "run", str(path)], env=environment, process_group=0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's wish
            signal.signal(number, lambda *_: _stop(server))
    address = _address(config)
    if environment.get("RAY_ADDRESS", "local") != "local":
        for variable in {API_KEYS_VARIABLE, API_KEYS_FILE_VARIABLE} & environment.keys():
            print(f"{variable} of this shell does not reach that cluster: see the README.", file=sys.stderr)
    print(f"Starting. It will be at {address}", flush=True)
    while server.poll() is None and not (health := _health(address)).is_up:
        if health.failed:
            _stop(server)
            server.wait()
            reasons = " ".join(f"{name}: {reason}" for name, reason in health.failed.items())
            print(f"Cannot start. {reasons}", file=sys.stderr)
            return 2
        time.sleep(POLL_S)
    if server.poll() is None:
        print(_invitation(address, config), flush=True)
    return server.wait()


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """Ray prints a stack trace when it is terminated, but not when it is interrupted. Asked again, do not wait."""
    server.send_signal(signal.SIGTERM if server in _stopping else signal.SIGINT)
    _stopping.append(server)


@dataclass(frozen=True, slots=True)
class _Health:
    """failed: deployments that will not start, and why."""

    is_up: bool = False
    failed: Mapping[str, str] = field(default_factory=dict)


def _health(address: str) -> _Health:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):
            return _Health(is_up=True)
    except urllib.error.HTTPError as error:
        try:
            answer = json.load(error)
        except ValueError:  # not our answer yet
            return _Health()
        failed = answer.get("failed") if isinstance(answer, dict) else None
        return _Health(failed=failed if isinstance(failed, dict) else {})
    except (urllib.error.URLError, OSError):
        return _Health()


def _address(config: ServeDeploySchema) -> str:
    host = config.http_options.host
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{config.http_options.port}"


def _invitation(address: str, config: ServeDeploySchema) -> str:
    settings = Settings.model_validate(config.applications[0].args)
    model = (settings.speech_models or settings.models)[0].id
    return (
        f"\nAuricle is up at {address}\n\nTry it:\n\n"
        f"  curl {address}/v1/audio/transcriptions -F model={model} -F file=@{EXAMPLE_CLIP}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
