"""The application: `serve run configs/embedded.yaml` calls `build` with the configuration's `args`."""

import secrets
import time

from ray.serve import Application

from deployments.environment import client_secret_key
from deployments.graph import Part, ingress, inner_parts
from deployments.settings import Settings


def build(settings: Settings) -> Application:
    """Build the application from a configuration's `args`, which Serve validates as `Settings`."""
    handles = {part.name: _bound(part) for part in inner_parts(settings)}
    # The controller keeps it with the ingress's arguments, so all of its replicas have the same.
    signing_key = client_secret_key() or secrets.token_bytes(32)
    return _bound(ingress(settings), int(time.time()), signing_key, handles)


def _bound(part: Part, *more: object) -> Application:
    return part.deployment.options(name=part.name).bind(*part.args, *more)
