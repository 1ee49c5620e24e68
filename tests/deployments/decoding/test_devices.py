import logging

import pytest
import torch

from deployments.decoding.devices import Precision, resolve_precision
from pipelines.errors import ConfigurationError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Which can multiply (int8, bfloat16)."""
    int8, bfloat16 = request.param
    monkeypatch.setattr("deployments.decoding.devices.multiplies_int8", lambda: int8)
    monkeypatch.setattr("deployments.decoding.devices.multiplies_bfloat16", lambda: bfloat16)


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(
    ("processor", "expected", "reason"),
    [
        ((True, True), Precision(torch.float32, torch.bfloat16, True), "auto is int8: this processor has"),
        ((True, False), Precision(torch.float32, torch.float32, True), "auto is int8: this processor has"),
        ((False, True), Precision(torch.float32, torch.float32), "auto is float32: this processor has no"),
    ],
    indirect=["processor"],
)
def test_a_processor_gets_what_it_is_fast_with_and_is_told_why(
    expected: Precision, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert resolve_precision("auto", CPU, torch.float16) == expected
    assert reason in caplog.text


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_type_that_is_named_is_taken_for_everything(name: str) -> None:
    dtype = getattr(torch, name)
    assert resolve_precision(name, CPU, torch.float16) == Precision(dtype, dtype)


def test_a_gpu_has_its_own() -> None:
    assert resolve_precision("auto", GPU, torch.float16) == Precision(torch.float16, torch.float16)
    with pytest.raises(ConfigurationError, match="int8 is for x86 processors"):
        resolve_precision("int8", GPU, torch.float16)
