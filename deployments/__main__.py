"""`python -m deployments CONFIG`: `auricle serve CONFIG`, and with --check `auricle check CONFIG`, where no command is
installed."""

import argparse
import sys

from deployments.launching import check, serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deployments", description=__doc__)
    parser.add_argument("config", help="a Serve config file, such as configs/embedded.yaml")
    parser.add_argument("--check", action="store_true", help="only check the configuration")
    arguments = parser.parse_args()
    return check(arguments.config) if arguments.check else serve(arguments.config)


if __name__ == "__main__":
    sys.exit(main())
