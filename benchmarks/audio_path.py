"""What does an hour of audio cost before a model hears it, and how many bytes a second does one ingress take in?

    python -m benchmarks.audio_path --files tests/data/conversations/*.opus
    python -m benchmarks.audio_path --url http://127.0.0.1:8000

Files are decoded and searched for speech as the audio deployment does it, in this process, on one CPU thread each.
With --url a running server is sent files of --megabytes for a model that it does not have: it reads all of the form,
and refuses. Prints one table.
"""

import argparse
import asyncio
import time
from pathlib import Path

import httpx
import numpy as np

from deployments.audio.reader import UploadReader
from deployments.audio.silero import SileroModel
from pipelines.audio_types import DecodeLimits, VadOptions

NO_MODEL = "there-is-no-such-model"


def hear(upload: bytes, model: SileroModel) -> tuple[float, float, float]:
    """Seconds of audio, CPU seconds, and megabytes of the samples that go to a model."""
    started_at, num_bytes, is_last = time.process_time(), 0, False
    reader = UploadReader(upload, VadOptions(), model, DecodeLimits())
    while not is_last:
        page = reader.next_page()
        num_bytes += sum(chunk.waveform.samples.nbytes for chunk in page.chunks)
        is_last = page.is_last
    return page.info.duration_s, time.process_time() - started_at, num_bytes / 1e6


async def send(url: str, num_bytes: int, num_clients: int, num_requests: int) -> float:
    """Seconds until all were refused."""
    upload = np.random.default_rng(0).bytes(num_bytes)
    waiting = iter(range(num_requests))

    async def send_some(client: httpx.AsyncClient) -> None:
        for _ in waiting:
            answer = await client.post(
                f"{url}/v1/audio/transcriptions", data={"model": NO_MODEL}, files={"file": ("audio.wav", upload)}
            )
            if answer.status_code != 404:
                raise RuntimeError(f"{answer.status_code} instead of a 404: {answer.text}")

    async with httpx.AsyncClient(timeout=600) as client:
        started_at = time.perf_counter()
        await asyncio.gather(*(send_some(client) for _ in range(num_clients)))
        return time.perf_counter() - started_at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, nargs="*", default=[])
    parser.add_argument("--url")
    parser.add_argument("--megabytes", type=float, default=24)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--requests", type=int, default=40, help="in all, for each number of clients")
    options = parser.parse_args()
    if options.files:
        model = SileroModel()
        hear(options.files[0].read_bytes(), model)  # warm up
        print("| file | audio, s | times real time on one core | MB of an hour, sent | … to a model |")
        print("|---|---|---|---|---|")
    for path in options.files:
        upload = path.read_bytes()
        audio_s, cpu_s, megabytes = hear(upload, model)
        hourly = f"{len(upload) / 1e6 * 3_600 / audio_s:.0f} | {megabytes * 3_600 / audio_s:.0f}"
        print(f"| {path.name} | {audio_s:.0f} | {audio_s / cpu_s:.0f} | {hourly} |", flush=True)
    for num_clients in options.clients if options.url else []:
        seconds = asyncio.run(send(options.url, round(options.megabytes * 1e6), num_clients, options.requests))
        print(f"{num_clients} clients: {options.megabytes * options.requests / seconds:.0f} MB a second")


if __name__ == "__main__":
    main()
