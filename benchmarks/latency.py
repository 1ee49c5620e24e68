"""How long does a request take whose model has nothing to do?

    python -m benchmarks.latency http://127.0.0.1:8000 http://127.0.0.1:8001

Uploads 0.1 s of silence, in which there is no speech, so what is timed is the way of an upload through the graph:
proxy, ingress, decoding, voice activity detection, answer. One client, one connection that stays; several servers are
asked in turns, one request each. Prints one table, in milliseconds.
"""

import argparse
import io
import statistics
import time
import wave
from collections.abc import Sequence
from contextlib import ExitStack

import httpx

from benchmarks.serve_load import percentile

SILENCE_S, SAMPLE_RATE_HZ = 0.1, 16_000
WARM_UP = 30


def silence() -> bytes:
    """A WAV file of 16-bit mono."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(bytes(2 * int(SILENCE_S * SAMPLE_RATE_HZ)))
    return written.getvalue()


def ask(client: httpx.Client, model: str, data: bytes) -> float:
    """Seconds for one answer. RuntimeError where it is not that nothing was said."""
    started_at = time.perf_counter()
    response = client.post("/v1/audio/transcriptions", data={"model": model}, files={"file": ("silence.wav", data)})
    seconds = time.perf_counter() - started_at
    if response.status_code != 200 or response.json()["text"] != "":
        raise RuntimeError(f"{client.base_url} answered {response.status_code}: {response.text[:200]}")
    return seconds


def measure(urls: Sequence[str], model: str, num_requests: int, api_key: str = "unused") -> dict[str, list[float]]:
    data = silence()
    headers = {"Authorization": f"Bearer {api_key}"}
    seconds: dict[str, list[float]] = {url: [] for url in urls}
    with ExitStack() as stack:
        clients = {url: stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=30)) for url in urls}
        for number in range(WARM_UP + num_requests):
            for url, client in clients.items():
                taken = ask(client, model, data)
                if number >= WARM_UP:
                    seconds[url].append(taken)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("urls", nargs="*", default=["http://127.0.0.1:8000"], metavar="URL")
    parser.add_argument("--model", default="whisper-1")
    parser.add_argument("--requests", type=int, default=200, help="of each server")
    parser.add_argument("--api-key", default="unused", help="where a server asks for one")
    options = parser.parse_args()
    measured = measure(options.urls, options.model, options.requests, options.api_key)
    print(f"{'server':<30} {'p50':>7} {'p95':>7}")
    for url, seconds in measured.items():
        print(f"{url:<30} {1e3 * statistics.median(seconds):>7.1f} {1e3 * percentile(seconds, 0.95):>7.1f}")


if __name__ == "__main__":
    main()
