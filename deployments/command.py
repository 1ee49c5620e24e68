"""The command `auricle`."""

import argparse
import os
import sys
from importlib.metadata import version

from deployments.shipped_configs import find_config, shipped_configs
from models.__main__ import add_arguments as add_models_arguments
from models.__main__ import run as run_models
from pipelines.errors import ConfigurationError

CONFIG_HELP = "a Serve config file, or the name of one that comes with Auricle"


def main() -> int:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    arguments = _parser().parse_args()
    status: int = arguments.run(arguments)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="auricle", description="OpenAI's audio APIs on your own machines.")
    parser.add_argument("--version", action="version", version=f"auricle {version('auricle')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serving = commands.add_parser("serve", help="check a configuration, run it, and say when it is up")
    serving.add_argument("config", nargs="?", default="embedded", help=f"{CONFIG_HELP} (default: embedded)")
    serving.set_defaults(run=_serve)
    checking = commands.add_parser("check", help="check a configuration, and start nothing")
    checking.add_argument("config", help=CONFIG_HELP)
    checking.set_defaults(run=_check)
    printing = commands.add_parser(
        "config", help="print a configuration that comes with Auricle, to make your own of it"
    )
    printing.add_argument("name", nargs="?", help=f"one of {', '.join(shipped_configs())}; without it they are listed")
    printing.set_defaults(run=_print_config)
    models = commands.add_parser("models", help="list the embedded models, or bring them")
    add_models_arguments(models)
    models.set_defaults(run=run_models)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    from deployments.launching import serve  # Ray takes seconds to import

    return serve(arguments.config)


def _check(arguments: argparse.Namespace) -> int:
    from deployments.launching import check

    return check(arguments.config)


def _print_config(arguments: argparse.Namespace) -> int:
    if arguments.name is None:
        for name, path in shipped_configs().items():
            print(f"{name:12} {path.read_text().splitlines()[0].lstrip('# ')}")
        return 0
    try:
        print(find_config(arguments.name).read_text(), end="")
    except ConfigurationError as error:
        print(error.message, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
