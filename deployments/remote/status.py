"""Serve's word on the application's own deployments."""

import asyncio
import logging
import time
from typing import Literal

from ray import serve
from ray.serve.schema import (
    ApplicationStatus,
    DeploymentStatus,
    DeploymentStatusOverview,
    ReplicaState,
    ServeStatus,
)

from deployments.compat.serve import configuration_error_in

logger = logging.getLogger("ray.serve")

DeploymentState = Literal["ready", "loading", "unloaded", "failed"]

STATUS_TIMEOUT_S = 0.5
STATUS_FRESH_S = 0.5
STATUS_STALE_S = 15.0


class StatusWatch:
    """Serve's word on the application's deployments, never waited for longer than a health check may take.

    The controller is slow to answer exactly when the machine is busy, so silence for a while is no news.
    """

    def __init__(self) -> None:
        self._unavailable: dict[str, str | None] = {"controller": None}
        self._states: dict[str, DeploymentState] = {}
        self._known_at = float("-inf")
        self._silent_since: float | None = None
        self._refresh: asyncio.Task[None] | None = None

    async def unavailable(self) -> dict[str, str | None]:
        """Deployments without a running replica, but for those scaled to zero; and why, of those that failed."""
        is_asking = self._refresh is not None and not self._refresh.done()
        if not is_asking and time.monotonic() - self._known_at >= STATUS_FRESH_S:
            self._refresh = asyncio.create_task(self._ask())
            self._silent_since = self._silent_since or time.monotonic()
        if self._refresh is not None:
            await asyncio.wait({self._refresh}, timeout=STATUS_TIMEOUT_S)
        # since it was asked, not since it answered: somebody may ask once a minute
        is_lost = self._silent_since is not None and time.monotonic() - self._silent_since > STATUS_STALE_S
        return {"controller": None} if is_lost else self._unavailable

    def state_of(self, deployment: str) -> DeploymentState:
        """As it was when `unavailable` was answered last."""
        return self._states.get(deployment, "loading")

    async def _ask(self) -> None:
        app_name = serve.get_replica_context().app_name
        try:
            status = await asyncio.to_thread(serve.status)
        except Exception:
            # Whatever Ray raises: what is told of it is the silence.
            logger.warning("Serve's controller could not be asked", exc_info=True)
            return
        self._unavailable = _unavailable(status, app_name)
        app = status.applications.get(app_name)
        self._states = {name: _state(one) for name, one in app.deployments.items()} if app else {}
        self._known_at, self._silent_since = time.monotonic(), None


def _unavailable(status: ServeStatus, app_name: str) -> dict[str, str | None]:
    app = status.applications.get(app_name)
    if app is None or app.status == ApplicationStatus.DELETING:
        return {app_name: None}
    return {
        name: _reason(deployment)
        for name, deployment in app.deployments.items()
        if not deployment.replica_states.get(ReplicaState.RUNNING)
        # asleep, or waking up because somebody asks: such a deployment answers, if slowly
        and deployment.status not in (DeploymentStatus.UPSCALING, DeploymentStatus.DOWNSCALING)
        and not (deployment.status == DeploymentStatus.HEALTHY and not sum(deployment.replica_states.values()))
    }


def _state(deployment: DeploymentStatusOverview) -> DeploymentState:
    """A replica that only finishes what it has is as good as gone, and one that is replaced is loading."""
    replicas = deployment.replica_states
    if replicas.get(ReplicaState.RUNNING):
        return "ready"
    if _reason(deployment) is not None:
        return "failed"
    is_stopping = replicas.get(ReplicaState.STOPPING, 0) == sum(replicas.values())
    is_calm = deployment.status in (DeploymentStatus.HEALTHY, DeploymentStatus.DOWNSCALING)
    return "unloaded" if is_stopping and is_calm else "loading"


def _reason(deployment: DeploymentStatusOverview) -> str | None:
    """Of Serve's long messages no more than our own sentence about the settings: the rest is for the log."""
    if sentence := configuration_error_in(deployment.message or ""):
        return sentence
    return "It failed to start." if deployment.status == DeploymentStatus.DEPLOY_FAILED else None
