"""`python -m models` lists the embedded models; `python -m models fetch [NAME ...]` brings them."""

import argparse
import logging
import sys

from models.catalogue import embedded_models
from models.fetch import fetch
from models.sources import find_model
from models.store import missing_files, store
from pipelines.errors import ConfigurationError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """To `python -m models`, and to `auricle models`."""
    fetching = parser.add_subparsers(dest="action", metavar="[fetch]").add_parser(
        "fetch", help="bring models, all of them when none is named"
    )
    fetching.add_argument("names", nargs="*", metavar="NAME")


def run(arguments: argparse.Namespace) -> int:
    if arguments.action != "fetch":
        print_models()
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        for model in [find_model(name) for name in arguments.names or embedded_models()]:
            fetch(model)
    except ConfigurationError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


def print_models() -> None:
    print(f"Embedded models, under {store()}:\n")
    for model in embedded_models().values():
        missing = missing_files(model, check_digests=False)
        state = "there" if not missing else "missing" if len(missing) == len(model.files) else "incomplete"
        about = f"{model.licence:16} {model.what}; by {model.whose}"
        print(f"{model.name:24} {model.bytes / 1e6:>5.0f} MB  {state:10} {about}")


if __name__ == "__main__":
    sys.exit(main())
