"""How long would calls wait, and what would replicas cost, if Serve scaled by audio instead of by calls?

    python -m benchmarks.scale_simulation

Simulates days of recordings from 3.6 s to an hour, a thousandfold, event by event: Serve's built-in policy and its
delays are Ray's own functions, ours is `deployments.autoscaling`, what replicas report is `deployments.backlog`.
Replicas work at the speeds of one CPU thread that README.md and models/README.md tell. Their cold start, and when
which recordings come, are made up. Prints one table; the same seed gives the same one.
"""

import argparse
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from benchmarks.simulated_replica import Call, Part, Recording, Replica
from deployments.autoscaling import AudioBacklogPolicy
from deployments.compat.serve import decide

HOUR_S = 3_600.0
SHORT_S, LONG_S = (3.6, 60.0), (60.0, 3_600.0)
SHORT_PEAK_H = 14.0
SWING = 0.9
"""Of a rate about its mean, from the hour with the most to the one with the fewest, twelve hours later."""


ASR = Part("asr", piece_s=30, num_in_flight=4, speed=32.9, batch=8, max_ongoing=32, max_queued=256)
DIARIZATION = Part("diarization", 600, num_in_flight=1, speed=60 / 4.1, batch=1, max_ongoing=8, max_queued=128)
PARTS = {part.name: part for part in (ASR, DIARIZATION)}


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds that calls waited until they were worked on; replica hours from the beginning of cold starts."""

    wait_s: tuple[float, float, float]
    replica_h: float
    num_refused: int
    num_calls: int
    max_replicas: int

    def __str__(self) -> str:
        waits = " ".join(f"{wait_s:>8.1f}" for wait_s in self.wait_s)
        return f"{waits} {self.replica_h:>8.1f} {self.max_replicas:>5} {self.num_refused:>8}"


@dataclass(frozen=True, slots=True)
class Sample:
    taken_at: float
    num_queued: int
    num_ongoing: int
    stats: Mapping[Replica, Mapping[str, float]]


class Simulation:
    """One deployment through `recordings`, until all are done."""

    TICK_S = 1.0

    def __init__(self, part: Part, config: AutoscalingConfig, policy: Any, recordings: list[Recording]) -> None:
        self.now = 0.0
        self._part, self._config, self._policy = part, config, policy
        self._recordings = recordings
        self._random = random.Random(0)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._num_events = 0
        self._queue: deque[Call] = deque()
        self._waits: list[float] = []
        self._gone_s, self._num_refused, self._max_replicas = 0.0, 0, 0
        self._target, self._state = 1, dict[str, Any]()
        self._samples: deque[Sample] = deque()
        self._seen: list[Sample] = []
        self._replicas = [Replica(part, self._clock)]
        self._replicas[0].ready_at = 0.0

    def run(self) -> Row:
        for recording in self._recordings:
            self._at(recording.arrives_at, partial(self._arrive, recording))
        self._at(0.0, self._tick)
        while self._events:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        seconds = self._gone_s + sum(self.now - replica.started_at for replica in self._replicas)
        low, high, highest = (float(wait) for wait in np.percentile(self._waits, (50, 95, 99)))
        return Row((low, high, highest), seconds / HOUR_S, self._num_refused, len(self._waits), self._max_replicas)

    def _clock(self) -> float:
        return self.now

    def _at(self, when: float, what: Callable[[], None]) -> None:
        self._num_events += 1
        heapq.heappush(self._events, (when, self._num_events, what))

    def _arrive(self, recording: Recording) -> None:
        if not any(replica.is_open for replica in self._replicas) and len(self._queue) >= self._part.max_queued:
            self._num_refused += 1
            return
        for _ in range(min(self._part.num_in_flight, recording.num_left)):
            self._send(recording)
        self._hand_out()

    def _send(self, recording: Recording) -> None:
        recording.num_left -= 1
        self._queue.append(Call(recording, self.now))

    def _hand_out(self) -> None:
        """As Serve's router: of two replicas the one with fewer calls."""
        while self._queue and (free := [replica for replica in self._replicas if replica.is_open]):
            chosen = min(self._random.sample(free, min(2, len(free))), key=lambda replica: replica.num_calls)
            chosen.take(self._queue.popleft())
            self._go_on(chosen)

    def _go_on(self, replica: Replica) -> None:
        replica.look()
        self._waits += [self.now - call.sent_at for call in replica.board()]
        replica.version += 1
        if replica.aboard:
            self._at(self.now + replica.next_end_s(), partial(self._end, replica, replica.version))

    def _end(self, replica: Replica, version: int) -> None:
        if version != replica.version:  # somebody has joined since
            return
        replica.look()
        recording = replica.finish().recording
        if recording.num_left:
            self._send(recording)
        self._go_on(replica)
        self._hand_out()
        self._let_go()

    def _tick(self) -> None:
        self._report()
        self._hand_out()
        self._target, self._state = decide(self._policy, self._context())
        self._target = min(max(self._target, self._config.min_replicas), self._config.max_replicas)
        staying = [replica for replica in self._replicas if not replica.is_leaving]
        self._replicas += [Replica(self._part, self._clock) for _ in range(self._target - len(staying))]
        for replica in staying[self._target :]:
            replica.is_leaving = True
        self._let_go()
        self._max_replicas = max(self._max_replicas, len(self._replicas))
        if self._events or self._queue:
            self._at(self.now + self.TICK_S, self._tick)

    def _let_go(self) -> None:
        gone = [replica for replica in self._replicas if replica.is_leaving and not replica.num_calls]
        self._gone_s += sum(self.now - replica.started_at for replica in gone)
        self._replicas = [replica for replica in self._replicas if replica not in gone]

    def _ready(self) -> list[Replica]:
        return [replica for replica in self._replicas if replica.ready_at <= self.now and not replica.is_leaving]

    def _report(self) -> None:
        """Numbers are taken five times in the look-back, as Serve does, and sent every `metrics_interval_s`."""
        if self.now % (self._config.look_back_period_s / 5) < self.TICK_S:
            stats = {replica: replica.backlog.stats() for replica in self._ready()}
            ongoing = sum(replica.num_calls for replica in stats)
            self._samples.append(Sample(self.now, len(self._queue), ongoing + len(self._queue), stats))
        while self._samples and self._samples[0].taken_at <= self.now - self._config.look_back_period_s:
            self._samples.popleft()
        if self.now % self._config.metrics_interval_s < self.TICK_S:
            self._seen = list(self._samples)

    def _context(self) -> AutoscalingContext:
        ready = self._ready()
        return AutoscalingContext(
            deployment_id=None,
            deployment_name=self._part.name,
            app_name="auricle",
            current_num_replicas=len(ready),
            target_num_replicas=self._target,
            running_replicas=ready,
            total_num_requests=fmean([sample.num_ongoing for sample in self._seen] or [0]),
            total_queued_requests=fmean([sample.num_queued for sample in self._seen] or [0]),
            aggregated_metrics=partial(self._aggregated, ready),
            raw_metrics=None,
            capacity_adjusted_min_replicas=self._config.min_replicas,
            capacity_adjusted_max_replicas=self._config.max_replicas,
            policy_state=self._state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=self.now,
            config=self._config,
        )

    def _aggregated(self, ready: list[Replica]) -> dict[str, dict[Replica, float]]:
        told: dict[str, dict[Replica, list[float]]] = {}
        for sample in self._seen:
            for replica in ready:
                for name, value in sample.stats.get(replica, {}).items():
                    told.setdefault(name, {}).setdefault(replica, []).append(value)
        return {name: {replica: fmean(values) for replica, values in one.items()} for name, one in told.items()}


def day(part: Part, num_replicas: float, long_peak_h: float, hours: float = 24.0, seed: int = 0) -> list[Recording]:
    """Recordings whose work keeps `num_replicas` busy in the mean, half of it short ones and half long ones.

    Lengths are log-uniform; arrivals are Poisson's, their rate a sine with its peak at an hour.
    """
    numbers = random.Random(seed)
    recordings = []
    for (low, high), peak_h in ((SHORT_S, SHORT_PEAK_H), (LONG_S, long_peak_h)):
        mean_s = (high - low) / math.log(high / low)
        highest = (1 + SWING) * num_replicas / 2 * part.speed / mean_s
        now = 0.0
        while (now := now + numbers.expovariate(highest)) < hours * HOUR_S:
            wave = 1 + SWING * math.cos((now / HOUR_S - peak_h) / 24 * math.tau)
            length_s = math.exp(numbers.uniform(math.log(low), math.log(high)))
            if numbers.random() * (1 + SWING) < wave:
                num_pieces = math.ceil(length_s / part.piece_s)
                recordings.append(Recording(now, length_s / num_pieces, num_pieces))
    return sorted(recordings, key=lambda recording: recording.arrives_at)


def scaled_by_calls(target: float) -> tuple[AutoscalingConfig, Any]:
    return _config(target_ongoing_requests=target), replica_queue_length_autoscaling_policy


def scaled_by_audio(target_wait_s: float) -> tuple[AutoscalingConfig, Any]:
    return _config(), AudioBacklogPolicy(target_wait_s=target_wait_s)


def _config(**options: float) -> AutoscalingConfig:
    """As in configs/cluster.yaml."""
    return AutoscalingConfig(min_replicas=1, max_replicas=32, upscale_delay_s=10, downscale_delay_s=300, **options)


TARGETS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    ASR.name: ((4, 8, 16, 24), (5, 10, 20, 40)),
    DIARIZATION.name: ((2, 4, 8, 16), (30, 60, 120, 240)),
}
"""`target_ongoing_requests`, and `target_wait_s`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--replicas", type=float, default=4, help="that are busy in the mean")
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'':44} {'waits, seconds':>26} {'replica':>8}")
    print(f"{'':44} {'p50':>8} {'p95':>8} {'p99':>8} {'hours':>8} {'most':>5} {'refused':>8}")
    for part in (PARTS[name] for name in options.parts):
        for mix, long_peak_h in (("long by day", SHORT_PEAK_H), ("long at night", SHORT_PEAK_H - 12)):
            calls, waits = TARGETS[part.name]
            recordings = day(part, options.replicas, long_peak_h, options.hours, options.seed)
            ways = {f"calls, {target:g}": scaled_by_calls(target) for target in calls}
            ways |= {f"audio, {target:g} s": scaled_by_audio(target) for target in waits}
            work_h = sum(one.piece_s * one.num_left for one in recordings) / part.speed / HOUR_S
            print(f"{part.name:12} {mix:14} {'work alone':16} {work_h:>35.1f}")
            for name, (config, policy) in ways.items():
                row = Simulation(part, config, policy, deepcopy(recordings)).run()
                print(f"{part.name:12} {mix:14} {name:16} {row}", flush=True)


if __name__ == "__main__":
    main()
