"""One training loop for every recipe: plain torch, resumable, with progress."""

import json
import math
import queue
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

Batch = Any
Measures = dict[str, float]

LOG_EVERY = 50  # steps
BAR = "{percentage:5.1f}%|{bar:20}| {elapsed}<{remaining} {postfix}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn.

    Training ends after `steps`, or when `minutes` of it have passed, whichever is nearer; the learning rate falls
    along a cosine towards that end, from `learning_rate` to `final_rate` of it.

    Attributes:
        average_over: steps over which the shipped weights are averaged (exponential moving average).
        clip: largest norm of a step's gradient.
        save_every_s: seconds between two checkpoints of the run, each with an evaluation.
    """

    steps: int
    minutes: float = math.inf
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    warmup_steps: int = 100
    weight_decay: float = 0.02
    average_over: int = 200
    clip: float = 1.0
    save_every_s: float = 600

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.minutes <= 0:
            raise ValueError(f"minutes must be more than 0, got {self.minutes}")

    def within(self, minutes: float) -> "Schedule":
        """The same in a given time, however many steps that makes."""
        return replace(self, steps=sys.maxsize, minutes=minutes)


class Run:
    """One training run in a folder: `state.pt` to go on from, `log.jsonl` with what was measured."""

    def __init__(self, folder: Path, model: nn.Module, schedule: Schedule, device: str = "cpu") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.schedule, self.device = folder, schedule, device
        self.model = model.to(device)
        self.averaged = {name: value.clone() for name, value in model.state_dict().items()}
        self.optimizer = _optimizer(self.model, schedule)
        self.step, self.seconds = 0, 0.0
        if (folder / "state.pt").exists():
            self._resume()

    @property
    def fraction(self) -> float:
        """How much of the run is behind it, 0 to 1."""
        return min(1.0, max(self.step / self.schedule.steps, self.seconds / 60 / self.schedule.minutes))

    def train(
        self,
        batches: Callable[[int], Iterator[Batch]],
        loss: Callable[[Batch], tuple[Tensor, dict[str, Tensor]]],
        evaluate: Callable[[], Measures] | None = None,
    ) -> None:
        """Train to the schedule's end; the model then holds the averaged weights.

        Args:
            batches: makes an endless iterator of batches from a seed. It runs in a thread of its own.
            loss: (what to minimise, what to show) of one batch.
            evaluate: measures the model, which holds the averaged weights while it is called.
        """
        if self.fraction < 1:
            self._learn(batches, loss, evaluate)
        self.model.load_state_dict(self.averaged)

    def _learn(
        self,
        batches: Callable[[int], Iterator[Batch]],
        loss: Callable[[Batch], tuple[Tensor, dict[str, Tensor]]],
        evaluate: Callable[[], Measures] | None,
    ) -> None:
        feed = _prefetch(batches(self.step + 1))
        progress = tqdm(total=100, initial=round(100 * self.fraction, 1), unit="%", bar_format=BAR, mininterval=5)
        shown: dict[str, list[Tensor]] = defaultdict(list)
        last = saved = time.monotonic()
        while self.fraction < 1:
            value, parts = loss(next(feed))
            self._update(value)
            for name, part in parts.items():
                shown[name].append(part.detach())
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            progress.update(round(100 * self.fraction, 1) - progress.n)
            if self.step % LOG_EVERY == 0:
                means = {name: float(torch.stack(parts).float().mean()) for name, parts in shown.items()}
                progress.set_postfix_str(f"step {self.step} {_shown(means)}", refresh=False)
                self._log(means)
                shown.clear()
            if now - saved > self.schedule.save_every_s:
                self._checkpoint(evaluate)
                saved = last = time.monotonic()
        progress.close()
        feed.close()
        self._checkpoint(evaluate)

    def _update(self, value: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.schedule, self.step, self.fraction)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip)
        self.optimizer.step()
        self.step += 1
        # a young average forgets its first steps faster
        weight = max(1 / self.schedule.average_over, 1 / (1 + self.step))
        with torch.no_grad():
            for name, current in self.model.state_dict().items():
                if current.is_floating_point():
                    self.averaged[name].lerp_(current, weight)
                else:
                    self.averaged[name].copy_(current)

    def _checkpoint(self, evaluate: Callable[[], Measures] | None) -> None:
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        # written beside it and moved, so that a run cut off while it saves can still go on
        torch.save(state, self.folder / "state.tmp")
        (self.folder / "state.tmp").replace(self.folder / "state.pt")
        if evaluate is not None:
            current = {name: value.clone() for name, value in self.model.state_dict().items()}
            self.model.load_state_dict(self.averaged)
            self.model.eval()
            with torch.no_grad():
                measures = evaluate()
            self.model.train()
            self.model.load_state_dict(current)
            self._log(measures)
            tqdm.write(f"step {self.step}: {_shown(measures)}")

    def _resume(self) -> None:
        state = torch.load(self.folder / "state.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.averaged = state["averaged"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _log(self, measures: Measures) -> None:
        record = {"step": self.step, "minutes": round(self.seconds / 60, 2)} | measures
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps({key: round(value, 4) for key, value in record.items()}) + "\n")


def _shown(measures: Measures) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in measures.items())


def learning_rate(schedule: Schedule, step: int, fraction: float) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * fraction))
    warm = min(1.0, (step + 1) / max(1, schedule.warmup_steps))
    return schedule.learning_rate * warm * (schedule.final_rate + (1 - schedule.final_rate) * cosine)


def _optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=schedule.weight_decay, fused=True)


def _prefetch(batches: Iterator[Batch], ahead: int = 4) -> Generator[Batch, None, None]:
    """The same batches, made in a thread while the model computes; its errors are raised here. Closing it ends it."""
    ready: queue.Queue[tuple[Batch, BaseException | None]] = queue.Queue(ahead)
    is_over = threading.Event()

    def work() -> None:
        try:
            for batch in batches:
                if is_over.is_set():
                    return
                ready.put((batch, None))
        except BaseException as error:
            ready.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            batch, error = ready.get()
            if error is not None:
                raise error
            yield batch
    finally:
        is_over.set()
        while not ready.empty():  # the thread may wait for room
            ready.get()
