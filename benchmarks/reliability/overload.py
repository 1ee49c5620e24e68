"""What does a server say that is asked for ten times what it can do?

    python -m deployments configs/embedded.yaml &
    python -m benchmarks.reliability.overload --seconds 300

First as many clients as fill a batch, then --times as many for --seconds, each with the next of some recordings, none
of which comes twice: it begins some samples later, so that no cache knows it. Only 200, and 429 or 503 with
Retry-After, may be answered; those that are taken must not wait much longer than at a full batch; and `/health` must
answer all the while. A client that is refused comes again when it was told to.
"""

import argparse
import asyncio
import io
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import soundfile

from benchmarks.reliability.local_graph import Verdict
from benchmarks.serve_load import percentile
from pipelines.audio_types import SAMPLE_RATE_HZ, PcmSamples

MAX_RATIO = 3.0
MAX_HEALTH_S = 1.0


@dataclass
class Found:
    answers: Counter[str] = field(default_factory=Counter)
    taken_s: list[float] = field(default_factory=list)
    health_s: list[float] = field(default_factory=list)


def recordings(paths: list[Path]) -> Iterator[bytes]:
    """Without an end, and never the same one."""
    spoken: list[PcmSamples] = [soundfile.read(path, dtype="int16")[0] for path in paths]
    for number in itertools.count():
        wav = io.BytesIO()
        pcm = np.concatenate([np.zeros(number, np.int16), spoken[number % len(spoken)]])
        soundfile.write(wav, pcm, SAMPLE_RATE_HZ, format="WAV")
        yield wav.getvalue()


async def ask_on(client: httpx.AsyncClient, files: Iterator[bytes], end_s: float, found: Found) -> None:
    while time.monotonic() < end_s:
        started_at = time.monotonic()
        try:
            response = await client.post(
                "/v1/audio/transcriptions", files={"file": next(files)}, data={"model": "whisper-1"}
            )
        except httpx.HTTPError as error:
            found.answers[type(error).__name__] += 1
            continue
        retry_after = response.headers.get("retry-after")
        if response.status_code == 200:
            found.taken_s.append(time.monotonic() - started_at)
        name = str(response.status_code)
        is_told = response.status_code not in (429, 503) or retry_after is not None
        found.answers[name if is_told else f"{name} without Retry-After"] += 1
        if retry_after is not None:
            await asyncio.sleep(float(retry_after))


async def watch(client: httpx.AsyncClient, end_s: float, found: Found) -> None:
    while time.monotonic() < end_s:
        started_at = time.monotonic()
        response = await client.get("/health")
        found.health_s.append(time.monotonic() - started_at if response.status_code == 200 else float("inf"))
        await asyncio.sleep(0.5)


async def load(url: str, files: Iterator[bytes], num_clients: int, seconds: float) -> Found:
    found, end_s = Found(), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=num_clients + 1)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        loops = [ask_on(client, files, end_s, found) for _ in range(num_clients)]
        await asyncio.gather(*loops, watch(client, end_s, found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=8, help="that fill a batch")
    parser.add_argument("--times", type=int, default=10, help="as many clients in all")
    parser.add_argument(
        "--files", type=Path, nargs="+", help="mono, 16 kHz", default=sorted(Path("tests/data").glob("en-*.flac"))
    )
    options = parser.parse_args()
    files = recordings(options.files)
    num_clients = options.times * options.clients
    full = asyncio.run(load(options.url, files, options.clients, max(options.seconds / 5, 20)))
    over = asyncio.run(load(options.url, files, num_clients, options.seconds))
    verdict = Verdict()
    answers = ", ".join(f"{name}: {count}" for name, count in sorted(over.answers.items()))
    bar = "200, or 429 and 503 with Retry-After"
    verdict.add(f"answers to {num_clients} clients", answers, bar, over.answers.keys() <= {"200", "429", "503"})
    before_s, after_s = percentile(full.taken_s, 0.99), percentile(over.taken_s, 0.99)
    ratio = after_s / before_s
    verdict.add(
        f"p99 of those taken, of {options.clients} clients and of all",
        f"{before_s:.2f} s, {after_s:.2f} s",
        f"at most {MAX_RATIO:g} times",
        ratio <= MAX_RATIO,
    )
    worst_s = max(over.health_s)
    verdict.add("/health at worst", f"{worst_s:.2f} s", f"under {MAX_HEALTH_S:g} s", worst_s < MAX_HEALTH_S)
    verdict.finish()


if __name__ == "__main__":
    main()
