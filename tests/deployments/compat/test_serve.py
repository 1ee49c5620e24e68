"""What `deployments/compat/serve.py` takes for granted, asked of Ray Serve itself."""

import asyncio
import importlib
import inspect
import os
import pickle
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel
from ray import serve
from ray._private import worker as ray_worker
from ray._private.accelerators import get_accelerator_manager_for_resource
from ray.exceptions import RayTaskError
from ray.serve import context
from ray.serve._private.common import DeploymentHandleSource, DeploymentID, ReplicaID, TimeStampedValue
from ray.serve._private.replica import Replica as ServeReplica
from ray.serve._private.replica import ReplicaActor
from ray.serve._private.request_router.common import PendingRequest
from ray.serve.config import AutoscalingConfig, AutoscalingContext, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from deployments.compat.serve import (
    CONSISTENT_HASH_ROUTER,
    PROGRAM,
    call_all_replicas,
    call_under_own_id,
    configuration_error_in,
    decide,
    is_shutting_down,
    none_or_one_replica,
    num_cpus,
    num_gpus,
    schema_fields,
)
from deployments.unloading import IDLE_S, UnloadWhenIdle
from pipelines.errors import ConfigurationError
from tests.support.contracts import contract

kept = partial(contract, "ray.serve", "deployments/compat/serve.py")


@serve.deployment
class Greeter:
    def greet(self, name: str = "all") -> str:
        return f"Hello {name}"

    def fail(self) -> None:
        raise ValueError("not today")

    async def hang(self) -> None:
        await asyncio.Event().wait()


@dataclass(frozen=True)
class Replica:
    """As much of one as a router asks about."""

    replica_id: ReplicaID
    node_id: str = "node"
    availability_zone: str | None = None
    multiplexed_model_ids: frozenset[str] = frozenset()
    max_ongoing_requests: int = 1

    async def get_queue_len(self, *, deadline_s: float) -> int:
        return 0


@pytest.fixture(scope="module")
def handle() -> DeploymentHandle:
    """In this process, without a cluster."""
    return serve.run(Greeter.bind(), _local_testing_mode=True)


@pytest.fixture
def request_context() -> Iterator[Any]:
    """What every call of one HTTP request inherits."""
    ids = {"request_id": "as the logs show it", "_internal_request_id": "of the whole request"}
    inherited = replace(context._get_serve_request_context(), **ids)
    token = context._serve_request_context.set(inherited)
    yield inherited
    context._serve_request_context.reset(token)


def test_the_program_runs_configurations() -> None:
    with kept("its program"):
        commands = importlib.import_module(PROGRAM).cli.commands
        assert "run" in commands


async def test_the_router_sends_a_session_to_one_replica(handle: DeploymentHandle) -> None:
    with kept("the consistent hash router, or a handle's session_id,"):
        name = DeploymentID("audio", "app")
        router = RequestRouterConfig(request_router_class=CONSISTENT_HASH_ROUTER).get_request_router_class()(
            name, DeploymentHandleSource.REPLICA
        )
        router.initialize_state()
        replicas = [Replica(ReplicaID(f"{number}", name)) for number in range(5)]
        router.update_replicas(replicas)

        async def first_choice(session: str) -> Any:
            call = handle.options(session_id=session).greet.remote()
            ((first, *_), *_) = await router.choose_replicas(replicas, PendingRequest([], {}, call._request_metadata))
            return first

        chosen = [[await first_choice(f"session {number}") for _ in range(3)] for number in range(10)]
        assert all(one is two is three for one, two, three in chosen)
        assert len({replica.replica_id for replica, *_ in chosen}) > 1


async def test_calls_of_one_request_have_ids_of_their_own(handle: DeploymentHandle, request_context: Any) -> None:
    with kept("the request context"):
        calls = [call_under_own_id(handle.greet, name) for name in ("you", "me")]
        assert await asyncio.gather(*calls) == ["Hello you", "Hello me"]
        told = [call._request_metadata for call in calls]
        own = {metadata.internal_request_id for metadata in told} - {"", request_context._internal_request_id}
        assert len(own) == 2
        assert {metadata.request_id for metadata in told} == {request_context.request_id}
        assert context._get_serve_request_context() == request_context


async def test_all_replicas_can_be_asked(handle: DeploymentHandle) -> None:
    with kept("a handle's broadcast"):
        assert await call_all_replicas(handle, "greet", timeout_s=60) == ["Hello all"]


async def test_all_replicas_can_be_asked_for_something(handle: DeploymentHandle) -> None:
    with kept("a handle's broadcast"):
        assert await call_all_replicas(handle, "greet", "you", timeout_s=60) == ["Hello you"]


async def test_who_fails_or_hangs_says_nothing(handle: DeploymentHandle) -> None:
    with kept("a handle's broadcast"):
        assert await call_all_replicas(handle, "fail", timeout_s=60) == [None]
        assert await call_all_replicas(handle, "hang", timeout_s=0.1) == [None]


def test_a_policy_of_one_s_own_decides_between_none_and_one() -> None:
    """With what Serve gives a policy, through the bytes by which it reaches the controller."""
    with kept("the autoscaling of a model that is unloaded"):
        config = none_or_one_replica(UnloadWhenIdle, unload_after_s=60.0)
        assert (config.min_replicas, config.initial_replicas, config.max_replicas) == (0, 1, 1)
        carried = pickle.loads(config.policy.get_serialized_policy_def())
        policy = carried(**config.policy.policy_kwargs)
        replica = ReplicaID("a", DeploymentID("asr", "app"))
        context = AutoscalingContext(
            deployment_id=DeploymentID("asr", "app"),
            deployment_name="asr",
            app_name="app",
            current_num_replicas=1,
            target_num_replicas=1,
            running_replicas=[replica],
            total_num_requests=0.0,
            total_queued_requests=0.0,
            aggregated_metrics={},
            raw_metrics={IDLE_S: {replica: [TimeStampedValue(1.0, 70.0)]}},
            capacity_adjusted_min_replicas=0,
            capacity_adjusted_max_replicas=1,
            policy_state={},
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=1.0,
            config=config,
        )
        assert policy(context) == (0, {})


@pytest.mark.parametrize(
    ("schema", "key", "inner"),
    [
        (ServeDeploySchema, "applications", ServeApplicationSchema),
        (ServeDeploySchema, "http_options", HTTPOptionsSchema),
        (ServeApplicationSchema, "deployments", DeploymentSchema),
        (ServeApplicationSchema, "args", None),
        (DeploymentSchema, "ray_actor_options", RayActorOptionsSchema),
        (DeploymentSchema, "autoscaling_config", AutoscalingConfig),
        (DeploymentSchema, "num_replicas", None),
        (AutoscalingConfig, "min_replicas", None),
    ],
)
def test_schemas_tell_their_keys(schema: type[BaseModel], key: str, inner: type[BaseModel] | None) -> None:
    with kept("the schema of a config file"):
        assert key in schema_fields(schema)
        assert schema_fields(schema)[key] is inner


def test_a_deployment_s_message_has_the_sentence() -> None:
    """As a replica's process and the controller make a text of it, one after the other."""
    with kept("the text of an error"):
        try:
            raise ConfigurationError("There is no model.")
        except ConfigurationError:
            seen = RuntimeError(traceback.format_exc())
        try:
            raise seen
        except RuntimeError:
            told = RayTaskError("initialize", traceback.format_exc(), seen, "proctitle", 1, "127.0.0.1")
        message = f"The deployment failed to start. Error:\n{told.as_instanceof_cause()}"
        assert configuration_error_in(message) == "There is no model."
        assert configuration_error_in("The deployment failed to start.") is None


def test_whether_a_replica_shall_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """`_shutting_down` is set first, then requests are waited for: read in the replica's own code."""
    assert not is_shutting_down()  # this process is no replica
    with kept("is_shutting_down"):
        source = inspect.getsource(ServeReplica._perform_graceful_shutdown)
        assert 0 < source.index("self._shutting_down = True") < source.index("_drain")
        assert "self._replica_impl" in inspect.getsource(ReplicaActor.__init__)
        worker = ray_worker.Worker()
        assert worker.actors == {}
    replica = SimpleNamespace(_replica_impl=SimpleNamespace(_shutting_down=False))
    monkeypatch.setitem(ray_worker.global_worker.actors, ray_worker.global_worker.actor_id, replica)
    assert not is_shutting_down()
    replica._replica_impl._shutting_down = True
    assert is_shutting_down()


def test_delays_pass_by_the_clock_that_is_told() -> None:
    with kept("the logic of autoscaling's delays"):
        config = AutoscalingConfig(max_replicas=9, upscale_delay_s=10, downscale_delay_s=50, upscaling_factor=0.5)
        target, state, seen = 2, {}, []
        for now_s, wanted in [(0, 6.0), (9, 6.0), (10, 6.0), (11, 0.5), (60, 0.5), (61, 0.5)]:
            ctx = SimpleNamespace(
                current_num_replicas=target,
                target_num_replicas=target,
                total_num_requests=1.0,
                config=config,
                policy_state=state,
                current_time=1e9 + now_s,
            )
            target, state = decide(lambda _, wanted=wanted: (wanted, {}), ctx)
            seen.append(target)
        assert seen == [2, 2, 4, 4, 4, 1]
        ctx = SimpleNamespace(
            current_num_replicas=0, target_num_replicas=0, total_num_requests=1.0, config=config, policy_state={}
        )
        assert decide(lambda _: (0.0, {}), ctx)[0] == 1  # at once, whatever the policy says


@pytest.mark.parametrize(("visible", "expected"), [(None, 3), ("", 0), ("0", 1), ("0,1,2,3", 3)])
def test_gpus_are_counted_as_ray_counts_them(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: int
) -> None:
    with kept("how GPUs are counted"):
        kind = get_accelerator_manager_for_resource("GPU")
        assert kind is not None
        monkeypatch.setattr(kind, "get_current_node_num_accelerators", staticmethod(lambda: 3))
        variable = kind.get_visible_accelerator_ids_env_var()
        monkeypatch.delenv(variable, raising=False)
        if visible is not None:
            monkeypatch.setenv(variable, visible)
        assert num_gpus() == expected


def test_cpus_are_counted_as_ray_counts_them() -> None:
    assert isinstance(num_cpus(), int)
    assert 1 <= num_cpus() <= (os.cpu_count() or 1)
