"""What Ray Serve does not promise to keep, each thing once, and what it breaks when it changes.

`tests/deployments/compat/test_serve.py` tells when one of them does.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

from pydantic import BaseModel
from ray._private import utils as ray_utils
from ray._private import worker as ray_worker
from ray._private.accelerators import get_accelerator_manager_for_resource
from ray.serve import autoscaling_policy, context
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from ray.serve.handle import DeploymentHandle

PROGRAM = "ray.serve.scripts"
"""The module behind the command `serve`, which runs where that command is not on the path. Undocumented.

When it changes, `python -m deployments` starts nothing.
"""

CONSISTENT_HASH_ROUTER = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
"""Sends the calls of one `session_id` to one replica. Experimental.

When it goes, the deployment that names it does not start; when it forgets the session, each page of an upload is
decoded from the upload's beginning.
"""

_CONFIGURATION_ERROR = re.compile(r"^pipelines\.errors\.ConfigurationError: (.*)$", re.M)

_HIDDEN_SCHEMAS: dict[str, type[BaseModel]] = {"autoscaling_config": AutoscalingConfig}
"""Where Serve's schema says no more than "a dictionary"."""


def call_under_own_id(method: Any, *args: Any) -> Any:
    """Call a handle's method under an internal id of the call's own. Serve has no public way to set one.

    All calls that serve one HTTP request inherit one internal id, and of two that wait for a replica with the same id
    Serve's router forgets one, which then waits for ever. The request id, which the logs show, stays.
    """
    own = replace(context._get_serve_request_context(), _internal_request_id="")
    token = context._serve_request_context.set(own)
    try:
        return method.remote(*args)
    finally:
        context._serve_request_context.reset(token)


def is_shutting_down() -> bool:
    """Whether the replica that this process is has been told to finish. Serve tells nobody: it lets requests end, and
    then the replica. A private attribute, in Ray's private table of a process's actors.

    When that changes, realtime sessions are not closed before their replica goes, but with it.
    """
    worker = ray_worker.global_worker
    actor = worker.actors.get(worker.actor_id)
    return bool(getattr(getattr(actor, "_replica_impl", None), "_shutting_down", False))


def num_cpus() -> int:
    """CPUs of this machine as Ray will count them, in a container those that it may use. Private.

    When it changes, a configuration that needs more than there are waits for ever instead of being refused.
    """
    return int(ray_utils.get_num_cpus(override_docker_cpu_warning=True))


def num_gpus() -> int:
    """GPUs of this machine as Ray will count them: of those there are, the visible ones. Private.

    When it changes, a configuration that needs more than there are waits for ever instead of being refused.
    """
    kind = get_accelerator_manager_for_resource("GPU")
    if kind is None:
        return 0
    visible = kind.get_current_process_visible_accelerator_ids()
    there = int(kind.get_current_node_num_accelerators())
    return there if visible is None else min(there, len(visible))


async def call_all_replicas(handle: DeploymentHandle, method: str, *args: Any, timeout_s: float) -> list[Any]:
    """What each running replica answers; None of one that fails or does not answer in time. Alpha, and its results by
    replica are private: the public ones come all together or not at all.

    When it changes, `/metrics` tells the numbers of one ingress alone, and each ingress has limits of its own.

    Raises:
        TimeoutError, RayError, RayServeException: no replica can be asked.
    """
    async with asyncio.timeout(timeout_s):
        results = await handle.broadcast(method, *args)._fetch_replica_results_async()
    calls = [asyncio.ensure_future(result.get_async()) for result in results]
    _, late = await asyncio.wait(calls, timeout=timeout_s)
    for call in late:
        call.cancel()
    return [None if call in late or call.cancelled() or call.exception() else call.result() for call in calls]


def none_or_one_replica(policy: Callable[..., Any], **options: Any) -> AutoscalingConfig:
    """Autoscaling by a policy of one's own, a class that takes `options`; Serve carries it to its controller. The
    replica is there at first, so that a model which cannot be loaded is known from the beginning.

    Whoever waits for the first replica is only seen with the next regular report of how many requests there are, so
    these come each second. That interval is deprecated. When it changes, who wakes a model up waits for 10 s longer.
    """
    return AutoscalingConfig(
        min_replicas=0,
        initial_replicas=1,
        max_replicas=1,
        metrics_interval_s=1.0,
        look_back_period_s=2.0,
        downscale_to_zero_delay_s=3.0,  # what was told may be a second old, and somebody may have come since
        policy=AutoscalingPolicy(policy_function=policy, policy_kwargs=options),
    )


def schema_fields(schema: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    """Every key that a part of a Serve config file may have, and the schema of what is below it, if there is one.

    Serve lets unknown keys pass, and promises which there are, but not that its schemas are pydantic's models of these
    fields. When that changes, a misspelled key is ignored, or a good one refused.
    """
    return {key: _HIDDEN_SCHEMAS.get(key) or _schema_in(field.annotation) for key, field in schema.model_fields.items()}


def configuration_error_in(message: str) -> str | None:
    """The sentence of our own `ConfigurationError` that kept a deployment from starting, in Serve's message about it.

    Serve tells no exception, but a text with the traceback somewhere in it, in Python's words. When that changes,
    `/health` and `python -m deployments` say of a bad configuration only that it failed to start.
    """
    sentence = _CONFIGURATION_ERROR.search(message)
    return sentence.group(1) if sentence else None


def decide(policy: Callable[[AutoscalingContext], tuple[float, Any]], ctx: AutoscalingContext) -> tuple[int, Any]:
    """How many replicas Serve would aim at, and the state of its delays, at the time that the context says.

    Serve's own wrapper reads the clock of the machine; these are the functions that it wraps. When they change,
    `benchmarks/scale_simulation.py` does not run.
    """
    from_zero = autoscaling_policy._get_cold_start_scale_up_replicas(ctx)
    if from_zero is not None:
        return from_zero, ctx.policy_state
    desired, _ = policy(ctx)
    scaled = autoscaling_policy._apply_scaling_factors(desired, ctx.current_num_replicas, ctx.config)
    now_s, state = ctx.current_time, dict(ctx.policy_state)
    return autoscaling_policy._apply_delay_logic(scaled, ctx.target_num_replicas, ctx.config, state, _now=now_s)


def _schema_in(annotation: Any) -> type[BaseModel] | None:
    """The one that an annotation such as `Optional[Model]` or `List[Model]` is about."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((schema for part in get_args(annotation) if (schema := _schema_in(part))), None)
