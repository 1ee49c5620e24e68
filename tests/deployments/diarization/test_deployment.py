"""The deployment's class without Ray: who waits, who is cancelled, what a failing engine does."""

import asyncio
import gc
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from deployments.diarization.deployment import MAX_FAILURES, DiarizationDeployment
from deployments.diarization.engine import DiarizerArgs
from deployments.model_configs import DiarizationConfig
from deployments.unloading import IDLE_S
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioStretch, Waveform
from pipelines.errors import ConfigurationError, ModelUnavailable
from tests.deployments.diarization.scripted_engine import BROKEN, Scripted

SCRIPTED = "tests.deployments.diarization.scripted_engine:Scripted"


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a replica is given threads; outside of one, asking Ray would start it."""
    monkeypatch.setattr("deployments.diarization.deployment.assigned_threads", lambda: 3)


def make(source: str = "anything") -> Any:
    return DiarizationDeployment.func_or_class(
        DiarizationConfig(engine=SCRIPTED, source=source, device="cpu", batch_size=5, hop_s=0.5)
    )


@pytest.fixture
def deployment() -> Any:
    return make()


@pytest.fixture
def engine(deployment: Any) -> Scripted:
    scripted = deployment._engine
    assert isinstance(scripted, Scripted)
    return scripted


def window(index: int) -> AudioStretch:
    return AudioStretch(index, 10.0 * abs(index), np.zeros(SAMPLE_RATE_HZ, np.int16))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does; the test's own timeout ends it."""
    while not condition():
        await asyncio.sleep(0.001)


def submit(deployment: Any, *indexes: int) -> "list[asyncio.Task[Any]]":
    return [asyncio.create_task(deployment.diarize(window(index))) for index in indexes]


async def fail(deployment: Any, num_times: int) -> None:
    for _ in range(num_times):
        assert isinstance(await deployment.diarize(window(BROKEN)), ModelUnavailable)


def test_the_engine_is_built_from_the_configuration_and_what_ray_gave(engine: Scripted) -> None:
    args = engine.args
    assert args == DiarizerArgs("anything", "cpu", batch_size=5, num_threads=3, hop_s=0.5)


async def test_everybody_gets_their_own_answer(deployment: Any) -> None:
    answers = await asyncio.gather(*submit(deployment, *range(8)))
    assert [diarization.turns[0].speaker for diarization, _ in answers] == list(range(8))
    assert [diarization.turns[0].start_s for diarization, _ in answers] == [10.0 * index for index in range(8)]
    voice, _ = await deployment.embed(Waveform(np.ones(7, np.float32)))
    np.testing.assert_array_equal(voice, np.full(4, 7, np.float32))


async def test_one_thread_does_one_window_at_a_time_in_order(deployment: Any, engine: Scripted) -> None:
    embedding = asyncio.create_task(deployment.embed(Waveform(np.ones(7, np.float32))))
    await asyncio.gather(embedding, *submit(deployment, *range(8)))
    assert engine.started == list(range(8))
    assert engine.most_at_once == 1
    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads


async def test_work_tells_what_it_cost(deployment: Any, engine: Scripted) -> None:
    engine.is_gated = True
    first, second = submit(deployment, 0, 1)
    await until(lambda: engine.started == [0])
    await asyncio.sleep(0.05)
    engine.allow.release(2)
    (_, before), (_, behind) = await asyncio.gather(first, second)
    assert before.model_s >= 0.05
    assert behind.queue_s >= 0.05
    assert before.queue_s >= 0
    assert (before.mean_batch_size, behind.mean_batch_size) == (1.0, 1.0)


async def test_it_tells_for_how_long_it_has_been_idle(deployment: Any, engine: Scripted) -> None:
    engine.is_gated = True
    (working,) = submit(deployment, 0)
    await until(lambda: 0 in engine.started)
    assert (await deployment.record_autoscaling_stats())[IDLE_S] == 0
    engine.is_gated = False
    await working
    await asyncio.sleep(0.05)
    assert 0.05 <= (await deployment.record_autoscaling_stats())[IDLE_S] < 60


async def test_health_is_told_while_the_engine_works(deployment: Any, engine: Scripted) -> None:
    engine.is_gated = True
    (task,) = submit(deployment, 0)
    await until(lambda: engine.started == [0])
    deployment.check_health()
    engine.allow.release()
    await task


async def test_who_is_cancelled_while_waiting_never_runs(deployment: Any, engine: Scripted) -> None:
    engine.is_gated = True
    first, leaving, last = submit(deployment, 0, 1, 2)
    await until(lambda: engine.started == [0])
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    engine.allow.release(2)
    await asyncio.gather(first, last)
    assert engine.started == [0, 2]


async def test_who_is_cancelled_at_work_stops_and_lets_the_next_one_in(deployment: Any, engine: Scripted) -> None:
    engine.is_gated = True
    leaving, staying = submit(deployment, 0, 1)
    await until(lambda: engine.started == [0])
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await until(lambda: engine.started == [0, 1])
    assert engine.cancelled == [0]
    engine.allow.release()
    diarization, _ = await staying
    assert diarization.turns[0].speaker == 1


async def test_a_failure_is_an_answer_without_details_that_travels(deployment: Any) -> None:
    error = await deployment.diarize(window(BROKEN))
    assert isinstance(error, ModelUnavailable)
    assert "secret" not in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.message) == (ModelUnavailable, error.message)
    error = await deployment.embed(Waveform(np.zeros(0, np.float32)))
    assert isinstance(error, ModelUnavailable)
    assert "secret" not in str(error)


async def test_a_failure_hurts_nobody_else(deployment: Any) -> None:
    good, bad, also_good = await asyncio.gather(*submit(deployment, 1, BROKEN, 2))
    assert isinstance(bad, ModelUnavailable)
    assert [good[0].turns[0].speaker, also_good[0].turns[0].speaker] == [1, 2]


async def test_a_replica_that_always_fails_is_not_healthy(deployment: Any) -> None:
    await fail(deployment, MAX_FAILURES - 1)
    deployment.check_health()
    await fail(deployment, 1)
    with pytest.raises(RuntimeError):
        deployment.check_health()


async def test_clips_count_too(deployment: Any) -> None:
    for _ in range(MAX_FAILURES):
        await deployment.embed(Waveform(np.zeros(0, np.float32)))
    with pytest.raises(RuntimeError):
        deployment.check_health()


async def test_a_success_makes_up_for_the_failures_before(deployment: Any) -> None:
    await fail(deployment, MAX_FAILURES - 1)
    await deployment.diarize(window(0))
    await fail(deployment, MAX_FAILURES - 1)
    deployment.check_health()
    await deployment.embed(Waveform(np.ones(7, np.float32)))
    await fail(deployment, MAX_FAILURES - 1)
    deployment.check_health()


async def test_who_leaves_is_neither_a_failure_nor_a_success(deployment: Any, engine: Scripted) -> None:
    await fail(deployment, MAX_FAILURES - 1)
    engine.is_gated = True
    for number in range(MAX_FAILURES):
        (leaving,) = submit(deployment, number)
        await until(lambda number=number: number in engine.started)  # type: ignore[misc]
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    deployment.check_health()
    engine.is_gated = False
    await fail(deployment, 1)
    with pytest.raises(RuntimeError):
        deployment.check_health()


def test_what_cannot_be_loaded_says_so() -> None:
    with pytest.raises(ConfigurationError, match="This source is broken"):
        make("broken")
    with pytest.raises(ConfigurationError, match="Unknown engine 'nothing'"):
        DiarizationConfig(engine="nothing", source="anything")


def test_what_cannot_be_loaded_leaves_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback of its end would hide the sentence that matters."""
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    with pytest.raises(ConfigurationError):
        make("broken")
    gc.collect()
    assert complaints == []
