"""What a replica may take, and for how many rows that is enough."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deployments.decoding.memory import WORKING_SHARE, Budget, budget_of, resident_bytes
from deployments.engines import EngineArgs
from deployments.resources import assigned_bytes
from pipelines.errors import ConfigurationError


def test_rows_that_fit() -> None:
    assert Budget("a-model", 1_000).num_rows(300, "a row") == 3


@pytest.mark.parametrize("num_bytes", [299, 0, -5_000_000_000])
def test_too_little_for_one_is_said_at_load(num_bytes: int) -> None:
    with pytest.raises(ConfigurationError, match=r"'a-model'.*a row takes"):
        Budget("a-model", num_bytes).num_rows(300, "a row")


def test_nothing_said_is_no_bound_on_a_cpu() -> None:
    assert assigned_bytes(None, "cpu") is None
    assert budget_of(EngineArgs("a-model")) is None


def test_a_gpu_that_is_none_bounds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives out as many as it was told that there are."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert assigned_bytes(None, "cuda") is None


def test_what_is_said_counts() -> None:
    assert assigned_bytes(1.5, "cpu") == 1_500_000_000


def test_what_is_loaded_and_what_caches_may_take_is_no_room() -> None:
    num_bytes = resident_bytes() * 4
    budget = budget_of(EngineArgs("a-model", max_bytes=num_bytes), kept_bytes=1_000_000)
    assert budget is not None
    expected = num_bytes * (1 - WORKING_SHARE) - resident_bytes() - 1_000_000
    assert budget.num_bytes == pytest.approx(expected, abs=20_000_000)


@pytest.mark.parametrize(("device", "number"), [("cuda", 1), ("cuda:0", 0)])
def test_of_a_gpu_the_process_gets_no_more(monkeypatch: pytest.MonkeyPatch, device: str, number: int) -> None:
    """Also of one that is called by its kind alone."""
    bounds: list[tuple[float, int]] = []
    gpu = SimpleNamespace(total_memory=10_000)
    monkeypatch.setattr("torch.cuda.memory._lazy_init", lambda: None)
    monkeypatch.setattr(torch._C, "_cuda_setMemoryFraction", lambda *bound: bounds.append(bound), raising=False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda of: gpu)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda of: 1_000)
    budget = budget_of(EngineArgs("a-model", device, max_bytes=5_000))
    assert bounds == [(0.5, number)]
    assert budget is not None
    assert budget.num_bytes == 5_000 * (1 - WORKING_SHARE) - 1_000


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux alone tells")
def test_resident_bytes_are_this_process() -> None:
    before = resident_bytes()
    held = np.ones(50_000_000, np.uint8)
    assert resident_bytes() - before == pytest.approx(held.nbytes, rel=0.2)
