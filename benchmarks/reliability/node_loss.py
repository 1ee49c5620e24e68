"""What do clients notice when a node is lost?

    python -m benchmarks.reliability.node_loss --seconds 60

Starts a cluster of its own of three nodes: a head with the proxy, and two with one replica each of the ingress, of
audio and of Whisper tiny.en. Under clients that ask for whole and streamed transcriptions all processes of one of the
two are killed (SIGKILL), so what ran there starts anew on the other. A whole answer must be the undisturbed one; a
stream must be so, end with an error event, or break off with its ingress. What fails is asked again where OpenAI's SDK
would do so. Service is back when the last request has ended that failed or took twice as long as any before the loss.
"""

import argparse
import asyncio
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.reliability.kills import Ask, stream, transcription
from benchmarks.reliability.local_graph import Verdict
from benchmarks.reliability.own_cluster import Config, OwnCluster, application, deployment, tiny_english

MAX_BACK_S = 30.0
SETTLE_S = 10.0
PAUSE_S = 0.5
WORKER = "worker"
ASKED_AGAIN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.TimeoutException)


def config() -> Config:
    parts = [
        {**deployment(name, num_replicas=2), "ray_actor_options": {"num_cpus": 0.1, "resources": {WORKER: 0.01}}}
        for name in ("ingress", "audio", "asr-tiny")
    ]
    return {"proxy_location": "HeadOnly", **application([tiny_english(["whisper-1"])], parts)}


@dataclass
class Found:
    """slow_s: what takes longer is slow. bad_until_s: when the last request ended that failed or was slow, on the
    monotonic clock."""

    answers: Counter[str] = field(default_factory=Counter)
    slow_s: float = float("inf")
    slowest_s: float = 0.0
    bad_until_s: float = 0.0


class Client:
    """Asks the same again and again."""

    def __init__(self, name: str, ask: Ask, expected: str | None, found: Found) -> None:
        self._name = name
        self._ask = ask
        self._expected = expected
        self._found = found

    async def run(self, client: httpx.AsyncClient, end_s: float) -> None:
        while time.monotonic() < end_s:
            started_at_s = time.monotonic()
            answer, is_good = await self._once(client)
            took_s = time.monotonic() - started_at_s
            self._found.answers[f"{self._name}: {answer}"] += 1
            self._found.slowest_s = max(self._found.slowest_s, took_s)
            if not is_good or took_s > self._found.slow_s:
                self._found.bad_until_s = time.monotonic()
            if not is_good:
                await asyncio.sleep(PAUSE_S)

    async def _once(self, client: httpx.AsyncClient) -> tuple[str, bool]:
        """What came of it, and whether it is the undisturbed answer."""
        try:
            text = await self._ask(client)
        except httpx.HTTPStatusError as error:
            is_final = error.response.headers.get("x-should-retry") == "false"
            return f"{error.response.status_code}, {'final' if is_final else 'asked again'}", False
        except ASKED_AGAIN as error:
            return f"{type(error).__name__}, asked again", False
        if text is None:
            return "error event", False
        return ("right", True) if text == self._expected else ("wrong", False)


def kill(node: Any) -> int:
    """All processes of a node at once. Returns how many."""
    raylets = [psutil.Process(started.process.pid) for started in node.all_processes["raylet"]]
    processes = [*raylets, *(child for raylet in raylets for child in raylet.children(recursive=True))]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    return len(processes)


async def run(cluster: OwnCluster, node: Any, options: argparse.Namespace) -> tuple[Found, int, float]:
    """What clients found, how many processes were killed, and after how many seconds all was as before."""
    file, found = options.file.read_bytes(), Found()
    asks: dict[str, Ask] = {"whole": transcription(file), "stream": stream(file)}
    async with httpx.AsyncClient(base_url=cluster.url, timeout=options.timeout) as client:
        expected = {name: await ask(client) for name, ask in asks.items()}
        end_s = time.monotonic() + SETTLE_S + options.seconds
        clients = [
            Client(name, ask, expected[name], found) for name, ask in asks.items() for _ in range(options.clients)
        ]
        running = asyncio.gather(*(one.run(client, end_s) for one in clients))
        await asyncio.sleep(SETTLE_S)
        found.bad_until_s, found.slow_s = time.monotonic(), 2 * found.slowest_s
        killed_at_s = found.bad_until_s
        num_killed = kill(node)
        await running
    return found, num_killed, found.bad_until_s - killed_at_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of load behind the loss")
    parser.add_argument("--clients", type=int, default=4, help="of each kind")
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--file", type=Path, default=Path("tests/data/jfk.flac"))
    options = parser.parse_args()
    verdict = Verdict()
    with OwnCluster(num_cpus=1) as cluster:
        first, _ = (cluster.add_node(num_cpus=2, **{WORKER: 1}) for _ in range(2))
        cluster.deploy(config())
        cluster.wait_until_up()
        found, num_killed, back_s = asyncio.run(run(cluster, first, options))
        verdict.add("processes of the lost node", str(num_killed), "some", num_killed > 1)
        for kind in ("whole", "stream"):
            its = {name.partition(": ")[2]: count for name, count in found.answers.items() if name.startswith(kind)}
            is_good = "right" in its and not any(name == "wrong" or name.endswith("final") for name in its)
            bar = "right, or asked again" + ("" if kind == "whole" else ", or an error event")
            is_good &= kind == "stream" or "error event" not in its
            answers = ", ".join(f"{count} {name}" for name, count in sorted(its.items()))
            verdict.add(kind, answers, bar, is_good)
        verdict.add("slowest request", f"{found.slowest_s:.1f} s", "", is_good=True)
        verdict.add("service is back", f"{back_s:.1f} s", f"within {MAX_BACK_S:g} s", back_s <= MAX_BACK_S)
    verdict.finish()


if __name__ == "__main__":
    main()
