"""The simulation of autoscaling: what must hold of it whatever the load, and what it says of the policy."""

from copy import deepcopy
from typing import Any

import pytest

from benchmarks.scale_simulation import (
    ASR,
    DIARIZATION,
    HOUR_S,
    LONG_S,
    SHORT_PEAK_H,
    SHORT_S,
    Row,
    Simulation,
    day,
    scaled_by_audio,
    scaled_by_calls,
)
from benchmarks.simulated_replica import Part, Recording

HOURS = 3.0


def run(part: Part, recordings: list[Recording], config: object, policy: object) -> Row:
    return Simulation(part, config, policy, deepcopy(recordings)).run()


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    """The first hours of a day with its long ones at night."""
    return day(DIARIZATION, 4, SHORT_PEAK_H - 12, HOURS)


def test_lengths_differ_a_thousandfold_and_the_load_is_what_was_asked_for() -> None:
    whole = day(ASR, 4, SHORT_PEAK_H)
    lengths = [recording.piece_s * recording.num_left for recording in whole]
    assert SHORT_S[0] <= min(lengths) < 4
    assert 3_000 < max(lengths) <= LONG_S[1]
    assert sum(lengths) / ASR.speed / HOUR_S == pytest.approx(4 * 24, rel=0.05)
    assert all(recording.piece_s <= ASR.piece_s for recording in whole)


def test_the_same_seed_gives_the_same_row(recordings: list[Recording]) -> None:
    rows = [run(DIARIZATION, recordings, *scaled_by_audio(120)) for _ in range(2)]
    assert rows[0] == rows[1]
    assert day(DIARIZATION, 4, SHORT_PEAK_H, HOURS, seed=1) != day(DIARIZATION, 4, SHORT_PEAK_H, HOURS)


@pytest.mark.parametrize("way", [scaled_by_calls(8), scaled_by_audio(120)], ids=["calls", "audio"])
def test_every_call_is_done_by_replicas_that_are_paid_for(recordings: list[Recording], way: tuple[Any, Any]) -> None:
    row = run(DIARIZATION, recordings, *way)
    assert row.num_refused == 0
    assert row.num_calls == sum(recording.num_left for recording in recordings)
    work_h = sum(recording.piece_s * recording.num_left for recording in recordings) / DIARIZATION.speed / HOUR_S
    assert work_h < row.replica_h < row.max_replicas * (HOURS + 1)


def test_one_call_at_a_time_waits_for_nobody() -> None:
    alone = [Recording(100.0 * number, 10.0, 1) for number in range(20)]
    row = run(DIARIZATION, alone, *scaled_by_audio(60))
    assert row.wait_s == (0.0, 0.0, 0.0)
    assert row.max_replicas == 1


def test_a_full_queue_refuses_whole_recordings() -> None:
    num_taken = DIARIZATION.max_ongoing + DIARIZATION.max_queued
    at_once = [Recording(1.0, 600.0, 1) for _ in range(num_taken + 5)]
    row = run(DIARIZATION, at_once, *scaled_by_audio(60))
    assert (row.num_refused, row.num_calls) == (5, num_taken)


def test_by_audio_calls_wait_less_for_fewer_replica_hours() -> None:
    until_the_evening = day(DIARIZATION, 3, SHORT_PEAK_H, 14.0)
    by_calls = run(DIARIZATION, until_the_evening, *scaled_by_calls(4))
    by_audio = run(DIARIZATION, until_the_evening, *scaled_by_audio(120))
    assert by_audio.replica_h < 0.85 * by_calls.replica_h
    assert by_audio.wait_s[1] < by_calls.wait_s[1]
    assert by_audio.wait_s[2] < by_calls.wait_s[2]


def test_a_shorter_target_costs_more_and_waits_less(recordings: list[Recording]) -> None:
    soon, late = (run(DIARIZATION, recordings, *scaled_by_audio(target_s)) for target_s in (30, 240))
    assert soon.replica_h > late.replica_h
    assert soon.wait_s[1] < late.wait_s[1]
