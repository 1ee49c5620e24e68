"""What does an hour of audio cost before a model hears it, and how many bytes a second does one ingress take in?

    OMP_NUM_THREADS=1 python -m benchmarks.audio_path --files tests/data/conversations/*.opus
    python -m benchmarks.audio_path --url http://127.0.0.1:8000

Files are decoded and searched for speech as the audio deployment does it, in this process, on one CPU thread each, as
Ray gives it to a replica.
With --url a running server is sent files of --megabytes for a model that it does not have: it reads all of the form,
and refuses. Prints one table. --reference-vad also reads each file with Silero VAD's own network run by onnxruntime.
"""

import argparse
import asyncio
import time
from itertools import product
from pathlib import Path

import httpx
import numpy as np
import onnxruntime

from deployments.audio.reader import UploadReader
from deployments.audio.silero import Floats, Memory, SileroModel
from deployments.compat.silero import folder
from pipelines.audio_types import DecodeLimits, VadOptions

NO_MODEL = "there-is-no-such-model"


class ReferenceModel(SileroModel):
    """The package's export for many frames in one call, by onnxruntime."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = folder() / "silero_vad_16k_sequence.onnx"
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, frames: Floats, memory: Memory) -> Floats:
        inputs = {"input": frames, "h": memory.hidden.reshape(1, 1, -1), "c": memory.cell.reshape(1, 1, -1)}
        found, memory.hidden, memory.cell = self._session.run(["speech_probs", "hn", "cn"], inputs)
        return np.asarray(found, np.float32).reshape(-1)


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
    parser.add_argument("--reference-vad", action="store_true")
    options = parser.parse_args()
    models = {"ours": SileroModel(), **({"reference": ReferenceModel()} if options.reference_vad else {})}
    if options.files:
        for model in models.values():
            hear(options.files[0].read_bytes(), model)  # warm up
        print("| file | VAD | audio, s | times real time on one core | MB of an hour, sent | … to a model |")
        print("|---|---|---|---|---|---|")
    for path, name in product(options.files, models):
        upload = path.read_bytes()
        audio_s, cpu_s, megabytes = hear(upload, models[name])
        hourly = f"{len(upload) / 1e6 * 3_600 / audio_s:.0f} | {megabytes * 3_600 / audio_s:.0f}"
        print(f"| {path.name} | {name} | {audio_s:.0f} | {audio_s / cpu_s:.0f} | {hourly} |", flush=True)
    for num_clients in options.clients if options.url else []:
        seconds = asyncio.run(send(options.url, round(options.megabytes * 1e6), num_clients, options.requests))
        print(f"{num_clients} clients: {options.megabytes * options.requests / seconds:.0f} MB a second")


if __name__ == "__main__":
    main()
