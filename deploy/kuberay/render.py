"""Print a variant's manifests for kubectl, with the configuration and the image that they are to run.

    .venv/bin/python deploy/kuberay/render.py gpu --image registry.example/auricle:0.2.0 | kubectl apply -f -

The configuration is the file that the manifest names, as it is, or another one (`--config`); it is checked first. One
that says `haproxy: true` is given the variables that it needs.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from deployments.config_file import load_config
from deployments.settings import Settings
from pipelines.errors import ConfigurationError

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
VARIANTS = ("cpu", "gpu")
HAPROXY = "auricle-haproxy"
EVERYWHERE, PORT = "0.0.0.0", 8000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--image", required=True, help="where the nodes find what deploy/docker/Dockerfile makes")
    parser.add_argument("--config", type=Path, help="a Serve config file in place of the one that the manifest names")
    arguments = parser.parse_args()
    try:
        print(yaml.safe_dump_all(render(arguments.variant, arguments.image, arguments.config), sort_keys=False), end="")
    except ConfigurationError as error:
        print(error.message, file=sys.stderr)
        return 2
    return 0


def render(variant: str, image: str, config: Path | None = None) -> list[dict[str, Any]]:
    """
    Raises:
        ConfigurationError: the configuration is wrong.
    """
    documents: list[dict[str, Any]] = list(yaml.safe_load_all((HERE / f"{variant}.yaml").read_text()))
    for document in documents:
        if document["kind"] == "RayService":
            _fill(document["spec"], image, config)
    return documents


def _fill(spec: dict[str, Any], image: str, config: Path | None) -> None:
    path = config or ROOT / spec["serveConfigV2"]
    loaded = load_config(path)
    if len(loaded.applications) != 1:
        raise ConfigurationError(f"{path}: A RayService carries one application here.")
    if (loaded.http_options.host, loaded.http_options.port) != (EVERYWHERE, PORT):
        raise ConfigurationError(
            f"{path}: Pods are asked at their own addresses, on port {PORT}: say 'host: {EVERYWHERE}' and "
            f"'port: {PORT}' under 'http_options'."
        )
    (application,) = loaded.applications
    spec["serveConfigV2"] = path.read_text()
    cluster = spec["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        for container in group["template"]["spec"]["containers"]:
            container["image"] = image
            if Settings.model_validate(application.args).haproxy:
                container["envFrom"].append({"configMapRef": {"name": HAPROXY}})


if __name__ == "__main__":
    sys.exit(main())
