"""The application: `serve run configs/embedded.yaml` calls `build` with the configuration's `args`."""

import time

from ray.serve import Application

from deployments.graph import Part, ingress, inner_parts
from deployments.settings import Settings


def build(settings: Settings) -> Application:
    """Build the application from a configuration's `args`, which Serve validates as `Settings`."""
    handles = {part.name: _bound(part) for part in inner_parts(settings)}
    return _bound(ingress(settings), int(time.time()), handles)


def _bound(part: Part, *more: object) -> Application:
    return part.deployment.options(name=part.name).bind(*part.args, *more)
