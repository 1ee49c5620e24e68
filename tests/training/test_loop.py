import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.training.loop import Run, Schedule, learning_rate


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.seen += len(batch)
        error = ((self.layer(batch) - (3 * batch + 1)) ** 2).mean()
        return error, {"error": error}


def batches(seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(32, 1, generator=generator)


def schedule(**changes: float) -> Schedule:
    return Schedule(
        **({"steps": 300, "learning_rate": 0.1, "warmup_steps": 10, "weight_decay": 0.0, "average_over": 20} | changes)
    )


def test_it_learns_and_ends_with_the_average(tmp_path: Path) -> None:
    run = Run(tmp_path, Line(), schedule())
    run.train(batches, run.model.loss)
    assert run.step == 300
    assert run.fraction == 1
    assert run.model.layer.weight.item() == pytest.approx(3, abs=0.1)
    assert run.model.layer.bias.item() == pytest.approx(1, abs=0.1)
    assert torch.equal(run.model.layer.weight, run.averaged["layer.weight"])


def test_it_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    class CutOff(Exception):
        pass

    def cut(seed: int) -> Iterator[Tensor]:
        stream = batches(seed)
        for _ in range(130):
            yield next(stream)
        raise CutOff

    first = Run(tmp_path, Line(), schedule(save_every_s=0))
    with pytest.raises(CutOff):
        first.train(cut, first.model.loss)
    second = Run(tmp_path, Line(), schedule())
    assert second.step == first.step == 130
    assert second.model.seen == 130 * 32
    assert torch.equal(second.model.layer.weight, first.model.layer.weight)
    second.train(batches, second.model.loss)
    assert second.step == 300
    assert second.model.layer.weight.item() == pytest.approx(3, abs=0.1)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = Run(tmp_path, Line(), schedule(steps=5))
    first.train(batches, first.model.loss)
    second = Run(tmp_path, Line(), schedule(steps=5))
    second.train(batches, second.model.loss)
    assert second.step == 5
    assert torch.equal(second.model.layer.weight, first.model.layer.weight)


def test_it_ends_when_its_minutes_have_passed(tmp_path: Path) -> None:
    run = Run(tmp_path, Line(), schedule(steps=10**9, minutes=0.01))
    run.train(batches, run.model.loss)
    assert run.seconds == pytest.approx(0.6, abs=0.5)


def test_the_evaluation_sees_the_average_and_its_figures_are_logged(tmp_path: Path) -> None:
    run = Run(tmp_path, Line(), schedule(steps=60))
    seen = []

    def evaluate() -> dict[str, float]:
        seen.append(run.model.layer.weight.item())
        assert not run.model.training
        return {"weight": seen[-1]}

    run.train(batches, run.model.loss, evaluate)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [50, 60]
    assert records[-1]["weight"] == pytest.approx(run.averaged["layer.weight"].item(), abs=1e-3)
    assert "error" in records[0]


def test_an_error_of_the_batches_ends_the_run(tmp_path: Path) -> None:
    def broken(seed: int) -> Iterator[Tensor]:
        yield torch.ones(1, 1)
        raise ValueError("no more speech")

    run = Run(tmp_path, Line(), schedule())
    with pytest.raises(ValueError, match="no more speech"):
        run.train(broken, run.model.loss)


def test_the_learning_rate_rises_and_falls() -> None:
    plan = schedule(final_rate=0.1)
    assert learning_rate(plan, 0, 0.0) == pytest.approx(0.01)
    assert learning_rate(plan, 10, 0.0) == pytest.approx(0.1)
    assert learning_rate(plan, 300, 1.0) == pytest.approx(0.01)


def test_a_schedule_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Schedule(steps=0)
