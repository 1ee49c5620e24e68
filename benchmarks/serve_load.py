"""How much does a running server do for N clients, and how does that compare with its bare engine?

    python -m benchmarks.serve_load --clients 1 8 --files tests/data/en-*.flac --bare embedded:whisper-base

Every request is a stream over HTTP. Bounded by --requests per row; the bare engine runs in this process on
the same files, right after the load, so that the ratio is of one machine in one state. With --beside URL another server
that speaks the same API is asked the same, in turns. What is asked twice may be answered from a cache: give as many
files as requests, or serve with `cache_mb: 0`. Prints one table.
"""

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.engine import read_chunks, seconds_for
from deployments.asr.engine import AsrEngineArgs
from deployments.audio.decode import probe
from models.sources import resolve
from pipelines.audio_types import DecodeLimits


@dataclass(frozen=True, slots=True)
class Outcome:
    path: Path
    seconds: float
    first_delta_s: float | None
    is_error: bool


async def one_request(client: httpx.AsyncClient, url: str, model: str, path: Path, data: bytes) -> Outcome:
    started_at = time.perf_counter()
    first_delta_s = None
    is_error = False
    files = {"file": (path.name, data)}
    async with client.stream("POST", url, data={"model": model, "stream": "true"}, files=files) as response:
        is_error = response.status_code != 200
        async for line in response.aiter_lines():
            is_error |= '"error"' in line
            if first_delta_s is None and "transcript.text.delta" in line:
                first_delta_s = time.perf_counter() - started_at
    return Outcome(path, time.perf_counter() - started_at, first_delta_s, is_error)


async def load(url: str, model: str, files: dict[Path, bytes], num_clients: int, num_requests: int) -> list[Outcome]:
    """`num_clients` at a time, each starting its next request when its last one has ended."""
    work = iter(list(itertools.islice(itertools.cycle(files.items()), num_requests)))

    async def client_loop(client: httpx.AsyncClient) -> list[Outcome]:
        return [await one_request(client, url, model, path, data) for path, data in work]

    limits = httpx.Limits(max_connections=num_clients)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:
        outcomes = await asyncio.gather(*(client_loop(client) for _ in range(num_clients)))
    return [outcome for part in outcomes for outcome in part]


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else float("nan")


def row(num_clients: int, outcomes: Sequence[Outcome], wall_s: float, audio_s: float) -> str:
    """Of those who got an answer; audio_s: theirs."""
    answered = [outcome for outcome in outcomes if not outcome.is_error]
    seconds = [outcome.seconds for outcome in answered]
    first = [outcome.first_delta_s for outcome in answered if outcome.first_delta_s is not None]
    return (
        f"{num_clients:>7} {len(answered) / wall_s:>7.2f} {audio_s / wall_s:>9.1f} {percentile(seconds, 0.5):>8.3f} "
        f"{percentile(seconds, 0.95):>8.3f} {statistics.median(first) if first else float('nan'):>12.3f} "
        f"{len(outcomes) - len(answered):>7}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="whisper-1")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--requests", type=int, default=64, help="in all, for each number of clients")
    parser.add_argument("--files", type=Path, nargs="+", required=True)
    parser.add_argument("--beside", metavar="URL", help="another server, up to and without its /v1")
    parser.add_argument("--beside-model", default="whisper-1")
    parser.add_argument("--bare", metavar="SOURCE", help="also time the bare engine on this checkpoint")
    parser.add_argument("--threads", type=int, default=1, help="of the bare engine: what the replica has")
    parser.add_argument("--batch-size", type=int, default=8, help="of the bare engine: what the replica has")
    options = parser.parse_args()
    files = {path: path.read_bytes() for path in options.files}
    durations = {path: probe(data, DecodeLimits()).duration_s for path, data in files.items()}
    asked = list(itertools.islice(itertools.cycle(files), options.requests))
    audio_s = sum(durations[path] for path in asked)
    servers = {"": (options.url, options.model)}
    if options.beside:
        servers["beside"] = (options.beside, options.beside_model)
    for url, model in servers.values():
        asyncio.run(load(f"{url}/v1/audio/transcriptions", model, files, 1, 1))  # warm up
    print(f"{options.requests} requests for each row, {audio_s:.0f} s of audio, streamed; seconds unless named")
    print(f"{'clients':>7} {'req/s':>7} {'audio s/s':>9} {'p50':>8} {'p95':>8} {'first delta':>12} {'errors':>7}")
    best = 0.0
    for num_clients in options.clients:
        speeds = []
        for name, (url, model) in servers.items():
            started_at = time.perf_counter()
            outcomes = asyncio.run(load(f"{url}/v1/audio/transcriptions", model, files, num_clients, options.requests))
            wall_s = time.perf_counter() - started_at
            answered_s = sum(durations[outcome.path] for outcome in outcomes if not outcome.is_error)
            speeds.append(answered_s / wall_s)
            print(row(num_clients, outcomes, wall_s, answered_s), name, flush=True)
        best = max(best, speeds[0])
        if options.beside:
            print(f"this one / the one beside: {speeds[0] / speeds[1]:.2f}")
    if options.bare:
        args = AsrEngineArgs(resolve(options.bare), num_threads=options.threads)
        bare_s = seconds_for(args, read_chunks(asked), options.batch_size)
        print(f"bare engine, batch {options.batch_size}: {audio_s / bare_s:.1f} audio s/s")
        print(f"served / bare: {best / (audio_s / bare_s):.2f}")


if __name__ == "__main__":
    main()
