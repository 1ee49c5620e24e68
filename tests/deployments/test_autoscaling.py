"""How many replicas the policy wants, and that it survives the way into Serve's controller."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError
from ray.serve._private.common import DeploymentID, ReplicaID
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from deployments.autoscaling import AudioBacklogPolicy
from deployments.backlog import ARRIVING, AUDIO, LENGTH, SPEED
from deployments.config_file import AUDIO_BACKLOG

NAME = DeploymentID("asr-tiny", "app")


def context(stats: Sequence[Mapping[str, float]], queued: float = 0, ongoing: float = 0) -> AutoscalingContext:
    """What Serve tells of replicas that have reported `stats`."""
    replicas = [ReplicaID(f"{number}", NAME) for number in range(len(stats))]
    names = {name for one in stats for name in one}
    return AutoscalingContext(
        deployment_id=NAME,
        deployment_name=NAME.name,
        app_name=NAME.app_name,
        current_num_replicas=len(replicas),
        target_num_replicas=len(replicas),
        running_replicas=replicas,
        total_num_requests=lambda: ongoing,
        total_queued_requests=lambda: queued,
        aggregated_metrics=lambda: {
            name: {replica: one[name] for replica, one in zip(replicas, stats, strict=True) if name in one}
            for name in names
        },
        raw_metrics=None,
        capacity_adjusted_min_replicas=0,
        capacity_adjusted_max_replicas=100,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=0.0,
        config=AutoscalingConfig(max_replicas=100),
    )


def busy(audio_s: float, speed: float = 10.0, length_s: float = 20.0, arriving: float = 0.0) -> dict[str, float]:
    return {AUDIO: audio_s, SPEED: speed, LENGTH: length_s, ARRIVING: arriving}


@pytest.fixture
def policy() -> AudioBacklogPolicy:
    return AudioBacklogPolicy(target_wait_s=30)


@pytest.mark.parametrize(
    ("stats", "queued", "wanted"),
    [
        ([busy(0)], 0, 0),
        ([busy(300)], 0, 1),
        ([busy(600), busy(600)], 0, 4),
        ([busy(300)], 45, 4),  # 45 calls of 20 s at the handles
        ([busy(300, speed=5), busy(300, speed=15)], 0, 2),
        ([busy(600), {AUDIO: 0.0, ARRIVING: 0.0}], 0, 2),  # the second one has just started
        ([busy(0, arriving=15), busy(0, arriving=10)], 0, 2.5),  # nothing waits, and they are needed
        ([busy(300, arriving=10)], 45, 5),
    ],
)
def test_audio_by_what_a_replica_does_in_the_time(
    policy: AudioBacklogPolicy, stats: list[dict[str, float]], queued: float, wanted: float
) -> None:
    replicas, state = policy(context(stats, queued))
    assert replicas == pytest.approx(wanted)
    assert state == {}


def test_twice_as_fast_needs_half_as_many(policy: AudioBacklogPolicy) -> None:
    assert policy(context([busy(1200, speed=20)]))[0] == policy(context([busy(1200)]))[0] / 2


@pytest.mark.parametrize("stats", [[], [{AUDIO: 900.0}, {AUDIO: 900.0}, {}]])
def test_nothing_changes_while_nobody_knows_the_speed(
    policy: AudioBacklogPolicy, stats: list[dict[str, float]]
) -> None:
    assert policy(context(stats, ongoing=5))[0] == len(stats)


def test_a_speed_that_is_told_is_taken_for_what_replicas_measure() -> None:
    policy = AudioBacklogPolicy(target_wait_s=30, audio_s_per_s=20)
    assert policy(context([busy(1200, speed=10)]))[0] == 2
    assert policy(context([{AUDIO: 1200.0}], queued=5, ongoing=6))[0] == 2  # how long those are nobody knows yet


def test_who_never_had_work_may_go(policy: AudioBacklogPolicy) -> None:
    assert policy(context([{AUDIO: 0.0}, {AUDIO: 0.0}]))[0] == 0


@pytest.mark.parametrize(
    "kwargs", [{}, {"target_wait_s": 0}, {"target_wait_s": 5, "speed": 3}, {"target_wait_s": 5, "audio_s_per_s": 0}]
)
def test_arguments_are_checked(kwargs: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        AudioBacklogPolicy(**kwargs)


def test_the_controller_needs_no_module_of_ours(tmp_path: Path) -> None:
    """Serve pickles the policy where the application is built, and loads it where only Ray is installed."""
    pickled = tmp_path / "policy"
    pickled.write_bytes(AutoscalingPolicy(policy_function=AUDIO_BACKLOG).get_serialized_policy_def() or b"")
    program = (
        "import sys; from pathlib import Path; from ray import cloudpickle; "
        f"policy = cloudpickle.loads(Path({str(pickled)!r}).read_bytes())(target_wait_s=5); "
        "print(policy.target_wait_s, sorted(name for name in sys.modules if name.startswith('deployments')))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "5.0 []\n"
