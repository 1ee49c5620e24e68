"""What the deployment's class tells Serve of itself, without Ray."""

import logging
from typing import Any

import numpy as np
import pytest

from deployments.asr.deployment import AsrDeployment
from deployments.backlog import ARRIVING, LENGTH, SPEED, Backlog
from deployments.model_configs import SpeechModelConfig
from deployments.unloading import IDLE_S
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioChunk, Waveform
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, Work
from tests.serve.coded_audio import lay_code
from tests.support.clock import Clock

OPTIONS = DecodingOptions(language="en")
AT_ONCE = "0"
"""How many seconds the scripted engine takes."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Any:
    monkeypatch.setattr("deployments.asr.deployment.assigned_threads", lambda: 1)  # asking Ray would start it
    monkeypatch.setattr("deployments.asr.deployment.Backlog", lambda: Backlog(clock))
    engine = "tests.serve.scripted_engine:CodeReader"
    return AsrDeployment.func_or_class(SpeechModelConfig(id="reader", engine=engine, source=AT_ONCE, device="cpu"))


def chunk() -> AudioChunk:
    samples = lay_code(np.zeros(SAMPLE_RATE_HZ, np.int16))
    return AudioChunk(0, 0.0, Waveform((samples / 32_768).astype(np.float32)))


async def transcribe(deployment: Any) -> tuple[ChunkTranscript, Work]:
    answer = await deployment.transcribe(chunk(), OPTIONS)
    assert isinstance(answer, tuple), answer
    return answer


async def test_a_model_that_is_answered_for_by_its_cache_is_not_idle(
    deployment: Any, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await transcribe(deployment)
    clock.now += 60
    assert (await deployment.record_autoscaling_stats())[IDLE_S] == 60
    _, work = await transcribe(deployment)
    assert [(lookup.cache, lookup.is_hit) for lookup in work.lookups] == [("text", True)]
    clock.now += 3
    assert (await deployment.record_autoscaling_stats())[IDLE_S] == 3
    with caplog.at_level(logging.INFO, "ray.serve"):
        deployment.__del__()
    assert "Unloaded 0, which had been idle for 3 s" in caplog.messages


async def test_what_its_cache_answers_tells_nothing_of_how_fast_it_is(deployment: Any, clock: Clock) -> None:
    with deployment._backlog.holding(30):  # as if another chunk were worked on for ten seconds
        clock.now += 10
    await transcribe(deployment)
    before = await deployment.record_autoscaling_stats()
    for _ in range(100):
        await transcribe(deployment)
    after = await deployment.record_autoscaling_stats()
    assert after == {**before, IDLE_S: 0}
    assert (after[SPEED], after[LENGTH]) == pytest.approx((3.1, 15.5), rel=0.1)
    assert after[ARRIVING] == pytest.approx(31 / 60)
