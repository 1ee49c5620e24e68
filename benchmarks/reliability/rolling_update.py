"""Does anybody notice when a new configuration is deployed?

    python -m benchmarks.reliability.rolling_update --seconds 60
    python -m benchmarks.reliability.rolling_update --replicas 1 --surge 100

Starts a cluster of its own with --replicas of everything and Whisper tiny.en, and deploys three times under clients
that ask for whole and streamed transcriptions and hold realtime sessions: a changed `user_config`, which replaces
nothing; another `num_cpus`, which replaces the replicas of Whisper; and a changed argument, which replaces all. No
request may fail, not even to be asked again; every answer must be the undisturbed one; a session may be closed with
1012 only, and with no turn untold that the server has said to have. --surge is Serve's `max_surge_percent`: so many new
replicas are started before old ones are stopped.
"""

import argparse
import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from benchmarks.reliability.kills import Ask, stream, transcription
from benchmarks.reliability.local_graph import Verdict, replicas
from benchmarks.reliability.own_cluster import Config, OwnCluster, application, deployment, tiny_english, wait_until
from benchmarks.reliability.turns import TurnClient, spoken

RESTARTS = 1012
SETTLE_S = 5.0
PAUSE_S = 0.2
MAX_WAIT_S = 120.0
ALLOWED = {"right", f"closed with {RESTARTS}"}


def config(max_batch_size: int = 8, num_cpus: float = 0.1, max_channels: int = 64, **scale: int) -> Config:
    asr = deployment("asr-tiny", num_cpus, user_config={"max_batch_size": max_batch_size}, **scale)
    return application(
        [tiny_english(["whisper-1"])],
        [deployment("ingress", **scale), deployment("audio", **scale), asr],
        limits={"max_channels": max_channels},
    )


UPDATES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "user_config": ({"max_batch_size": 4}, ()),
    "num_cpus of Whisper": ({"max_batch_size": 4, "num_cpus": 0.2}, ("asr-tiny",)),
    "args": ({"max_batch_size": 4, "num_cpus": 0.2, "max_channels": 32}, ("asr-tiny", "audio", "ingress")),
}
"""What each has in the place of `config`'s defaults, and the deployments whose replicas it replaces."""


class Load:
    """Clients that ask until they are stopped, each for one kind of answer, and count what they get."""

    def __init__(self, url: str, file: Path) -> None:
        self.found: Counter[str] = Counter()
        self._url = url
        self._pcm = spoken(file)
        self._asks: dict[str, Ask] = {"whole": transcription(file.read_bytes()), "stream": stream(file.read_bytes())}
        self._expected: dict[str, str | None] = {}
        self._is_over = False

    async def ask_undisturbed(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=MAX_WAIT_S) as client:
            self._expected = {name: await ask(client) for name, ask in self._asks.items()}
        async with TurnClient(self._url, "whisper-1") as session:
            self._expected["turn"] = await session.say(self._pcm)

    async def run(self, num_clients: int, num_sessions: int) -> None:
        loops = [self._request_loop(name) for name in self._asks for _ in range(num_clients)]
        await asyncio.gather(*loops, *(self._session_loop() for _ in range(num_sessions)))

    def stop(self) -> None:
        self._is_over = True

    async def _request_loop(self, name: str) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=MAX_WAIT_S) as client:
            while not self._is_over:
                try:
                    self._count(name, await self._asks[name](client))
                except httpx.HTTPStatusError as error:
                    await self._failed(f"{name}: {error.response.status_code}")
                except httpx.HTTPError as error:
                    await self._failed(f"{name}: {type(error).__name__}")

    async def _session_loop(self) -> None:
        """Sessions one after the other, each for as long as its replica lives."""
        while not self._is_over:
            session = TurnClient(self._url, "whisper-1")
            try:
                async with session:
                    while not self._is_over:
                        self._count("turn", await asyncio.wait_for(session.say(self._pcm), MAX_WAIT_S))
            except ConnectionClosed as closed:
                self.found[f"turn: closed with {closed.rcvd.code if closed.rcvd else 'nothing'}"] += 1
                self.found["turn: lost"] += len(session.untold)
            except (InvalidHandshake, OSError, TimeoutError) as error:
                await self._failed(f"turn: {type(error).__name__}")

    async def _failed(self, what: str) -> None:
        self.found[what] += 1
        await asyncio.sleep(PAUSE_S)

    def _count(self, name: str, text: str | None) -> None:
        self.found[f"{name}: {'right' if text == self._expected[name] else 'wrong' if text else 'failed'}"] += 1


async def update(cluster: OwnCluster, name: str, options: argparse.Namespace) -> tuple[Counter[str], float]:
    """What clients found, and after how many seconds all was as the configuration says."""
    changed, replaced = UPDATES[name]
    load = Load(cluster.url, options.file)
    await load.ask_undisturbed()
    running = asyncio.create_task(load.run(options.clients, options.sessions))
    await asyncio.sleep(SETTLE_S)
    before, started_at_s = replicas(os.getpid()), time.monotonic()
    old = {pid for part, pids in before.items() if part.partition(".")[0] in replaced for pid in pids}
    await asyncio.to_thread(cluster.deploy, config(**changed, **scale(options)))
    await asyncio.to_thread(wait_until, lambda: _is_through(cluster, old), "all is as the configuration says")
    seconds = time.monotonic() - started_at_s
    await asyncio.sleep(max(options.seconds - seconds, SETTLE_S))
    load.stop()
    await running
    return load.found, seconds


def scale(options: argparse.Namespace) -> dict[str, int]:
    return {"num_replicas": options.replicas, "max_surge_percent": options.surge}


def _is_through(cluster: OwnCluster, old: set[int]) -> bool:
    return not old & set[int]().union(*replicas(os.getpid()).values()) and cluster.is_settled()


def judge(verdict: Verdict, name: str, found: Counter[str], seconds: float) -> None:
    for kind in ("whole", "stream", "turn"):
        its = {key.partition(": ")[2]: count for key, count in found.items() if key.startswith(kind) and count}
        answers = ", ".join(f"{count} {key}" for key, count in sorted(its.items()))
        bar = "right" if kind != "turn" else f"right, or closed with {RESTARTS} between turns"
        verdict.add(f"{name}: {kind}", answers or "none", bar, "right" in its and its.keys() <= ALLOWED)
    verdict.add(f"{name}: through", f"{seconds:.0f} s", "", is_good=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of load for each update, at least")
    parser.add_argument("--replicas", type=int, default=2, help="of each deployment")
    parser.add_argument("--surge", type=int, default=0, help="percent")
    parser.add_argument("--clients", type=int, default=2, help="of each kind")
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--file", type=Path, default=Path("tests/data/jfk.flac"))
    parser.add_argument("--updates", nargs="+", choices=UPDATES, default=list(UPDATES))
    options = parser.parse_args()
    verdict = Verdict()
    with OwnCluster(num_cpus=4) as cluster:
        cluster.deploy(config(**scale(options)))
        cluster.wait_until_up()
        for name in options.updates:
            judge(verdict, name, *asyncio.run(update(cluster, name, options)))
    verdict.finish()


if __name__ == "__main__":
    main()
