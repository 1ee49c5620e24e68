"""Does it grow?

    python -m benchmarks.reliability.soak --minutes 60

Starts a cluster of its own with Whisper tiny.en, speakers and SmolLM2, and lets clients ask for everything in a random
order: whole and streamed transcriptions, speakers, chats, realtime sessions, uploads that are broken, and each of these
by clients that leave in the middle. The memory of all processes (proportional set sizes) is looked at all the while;
its slope is that of the line through what was found after the first --warm-up minutes. In the end nothing may be left:
no temporary file, no gauge above 0, and as many uploads and sessions at once as the limits allow are let in.
"""

import argparse
import asyncio
import os
import random
import re
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
from websockets.exceptions import WebSocketException

from benchmarks.reliability.kills import chat, stream, transcription
from benchmarks.reliability.local_graph import Verdict, memory_bytes, replicas
from benchmarks.reliability.own_cluster import Config, OwnCluster, application, deployment, tiny_english
from benchmarks.reliability.turns import TurnClient, spoken

MAX_SLOPE_BYTES = 20e6
EVERY_S = 10.0
IDLE_S = 15.0
MAX_PATIENCE_S = 2.0
MAX_UPLOADS, MAX_SESSIONS = 8, 4
BROKEN = {"damaged", "no audio"}
GAUGES = re.compile(r"^(vllm:num_requests_\w+|auricle_realtime_sessions)\S* (\S+)$", re.M)
DIARIZED = {"model": "gpt-4o-transcribe-diarize", "response_format": "diarized_json", "chunking_strategy": "auto"}


def config() -> Config:
    chat_model = {"id": "smollm2", "task": "chat", "name": "smollm2", "source": "embedded:smollm2-135m-instruct"}
    return application(
        [
            tiny_english(["whisper-1", "gpt-4o-transcribe-diarize"]),
            {**chat_model, "device": "cpu", "hears": "whisper-tiny.en", "max_context_tokens": 1024},
        ],
        [deployment(name) for name in ("ingress", "audio", "asr-tiny", "chat-smollm2", "diarization")],
        diarization={"source": "embedded:speaker-diarization", "device": "cpu"},
        limits={"max_concurrent_requests": MAX_UPLOADS, "max_sessions": MAX_SESSIONS},
    )


class Traffic:
    """Clients that do one thing after another; what came of each is counted."""

    def __init__(self, url: str, file: Path, seed: int) -> None:
        self.found: Counter[str] = Counter()
        self._url = url
        self._chance = random.Random(seed)
        self._pcm = spoken(file)
        data = file.read_bytes()
        damaged = data[:2_000] + os.urandom(2_000) + data[4_000:]
        self._asks = {
            "whole": transcription(data),
            "stream": stream(data),
            "speakers": transcription(data, **DIARIZED),
            "damaged": transcription(damaged),
            "no audio": transcription(os.urandom(20_000)),
            "chat": chat,
            "turn": self._turn,
        }

    async def run(self, num_clients: int, pause_s: float, end_s: float) -> None:
        await asyncio.gather(*(self._loop(pause_s, end_s) for _ in range(num_clients)))

    async def _loop(self, pause_s: float, end_s: float) -> None:
        while time.monotonic() < end_s:
            name = self._chance.choice(list(self._asks))
            patience_s = self._chance.uniform(0, MAX_PATIENCE_S) if self._chance.random() < 0.4 else None
            async with httpx.AsyncClient(base_url=self._url, timeout=600) as client:
                self.found[f"{name}: {await self._come_of(name, client, patience_s)}"] += 1
            await asyncio.sleep(self._chance.uniform(0, 2 * pause_s))

    async def _come_of(self, name: str, client: httpx.AsyncClient, patience_s: float | None) -> str:
        try:
            text = await asyncio.wait_for(self._asks[name](client), patience_s)
        except TimeoutError:
            return "left"
        except httpx.HTTPStatusError as error:
            return f"{error.response.status_code}"
        except (httpx.HTTPError, WebSocketException, OSError) as error:
            return type(error).__name__
        return "failed" if text is None else "answered"

    async def _turn(self, _: httpx.AsyncClient) -> str | None:
        async with TurnClient(self._url, "whisper-1") as session:
            return await session.say(self._pcm)


async def look(found: list[tuple[float, int]], end_s: float) -> None:
    """Seconds and bytes."""
    while time.monotonic() < end_s:
        found.append((time.monotonic(), await asyncio.to_thread(memory_bytes, os.getpid())))
        await asyncio.sleep(EVERY_S)


async def soak(traffic: Traffic, options: argparse.Namespace) -> list[tuple[float, int]]:
    found: list[tuple[float, int]] = []
    end_s = time.monotonic() + options.minutes * 60
    await asyncio.gather(traffic.run(options.clients, options.pause, end_s), look(found, end_s))
    return found


def slope(found: list[tuple[float, int]], warm_up_s: float) -> float:
    """Bytes an hour."""
    times, sizes = np.array([one for one in found if one[0] >= found[0][0] + warm_up_s], np.float64).T
    return float(np.polyfit(times - times[0], sizes, 1)[0]) * 3_600


async def let_in(url: str, file: Path) -> tuple[int, int]:
    """How many uploads and sessions of as many as there may be at once."""
    ask = transcription(file.read_bytes())
    sessions = 0
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        answers = await asyncio.gather(*(ask(client) for _ in range(MAX_UPLOADS)), return_exceptions=True)
    held = [TurnClient(url, "whisper-1") for _ in range(MAX_SESSIONS)]
    for session in held:
        with suppress(WebSocketException):
            await session.__aenter__()
            sessions += 1
    for session in held[:sessions]:
        await session.__aexit__(None, None, None)
    return sum(isinstance(answer, str) for answer in answers), sessions


def gauges(url: str) -> dict[str, float]:
    return {name: float(value) for name, value in GAUGES.findall(httpx.get(f"{url}/metrics", timeout=30).text)}


def files_in(directory: str) -> set[str]:
    """Of programs; Ray's own are elsewhere."""
    return {str(path) for path in Path(directory).rglob("*") if path.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=10)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--pause", type=float, default=1, help="of a client between two requests, in the mean")
    parser.add_argument("--file", type=Path, default=Path("tests/data/jfk.flac"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    verdict = Verdict()
    with tempfile.TemporaryDirectory(prefix="auricle-soak-") as directory:
        os.environ["TMPDIR"] = directory
        with OwnCluster(num_cpus=4) as cluster:
            cluster.deploy(config())
            cluster.wait_until_up()
            judge(verdict, cluster, directory, options)
    verdict.finish()


def judge_answers(verdict: Verdict, found: Counter[str]) -> None:
    for name in sorted({key.partition(": ")[0] for key in found}):
        its = {key.partition(": ")[2]: count for key, count in found.items() if key.startswith(f"{name}: ")}
        is_broken = name in BROKEN
        bar = {"answered", "left", *({"400"} if is_broken else ())}
        told = ", ".join(f"{count} {what}" for what, count in sorted(its.items()))
        verdict.add(name, told, ", ".join(sorted(bar)), its.keys() <= bar and (is_broken or "answered" in its))


def judge(verdict: Verdict, cluster: OwnCluster, directory: str, options: argparse.Namespace) -> None:
    traffic = Traffic(cluster.url, options.file, options.seed)
    before, files = _pids(), files_in(directory)
    found = asyncio.run(soak(traffic, options))
    time.sleep(IDLE_S)
    judge_answers(verdict, traffic.found)
    grown = slope(found, options.warm_up * 60)
    told = f"{grown / 1e6:+.0f} MB/h, from {found[0][1] / 1e9:.2f} to {found[-1][1] / 1e9:.2f} GB in all"
    verdict.add(f"memory after {options.warm_up:g} min", told, "at most +20 MB/h", grown <= MAX_SLOPE_BYTES)
    num_lost = len(before - _pids())
    verdict.add("replicas lost", str(num_lost), "0", not num_lost)
    left = {name: value for name, value in gauges(cluster.url).items() if value}
    verdict.add("gauges", ", ".join(left) or "all 0", "all 0", not left)
    new = files_in(directory) - files
    verdict.add("temporary files", ", ".join(sorted(new)) or "none", "none", not new)
    uploads, sessions = asyncio.run(let_in(cluster.url, options.file))
    told = f"{uploads} uploads, {sessions} sessions"
    is_good = (uploads, sessions) == (MAX_UPLOADS, MAX_SESSIONS)
    verdict.add("let in at once", told, f"{MAX_UPLOADS} and {MAX_SESSIONS}", is_good)


def _pids() -> set[int]:
    return set[int]().union(*replicas(os.getpid()).values())


if __name__ == "__main__":
    main()
