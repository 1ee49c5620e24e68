"""How fast does a running server chat with N clients, and how fast does `transformers serve` with the same checkpoint?

    python -m benchmarks.chat_load --peer ~/smollm2-135m-instruct
    python -m benchmarks.chat_load --files tests/data/en-*.flac
    python -m benchmarks.chat_load --files tests/data/en-*.flac --model Qwen/Qwen2-Audio-7B-Instruct \\
        --peer Qwen/Qwen2-Audio-7B-Instruct --tokenizer Qwen/Qwen2-Audio-7B-Instruct

Every request is a stream about one of the files, or without files a short question, each another one. With --peer,
`transformers serve` is started on loopback on one thread, and for each number of clients both servers are asked the
same, one after the other, so that a ratio is of one machine in one state. Bounded by --requests per row. Prints one
table.
"""

import argparse
import asyncio
import base64
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from transformers import AutoTokenizer

from benchmarks.serve_load import percentile
from deployments.chat.gguf_checkpoint import find_gguf, load_gguf_tokenizer
from models.sources import resolve

TOPICS = "Rome,Kyoto,Lima,Cairo,Oslo,Delhi,Paris,Quito,bridges,violins,whales,bread,glaciers,maps,bees,coal".split(",")
ASKED = ("Tell me about {}.", "What should a child know about {}?", "Write a short story about {}.")
QUESTIONS = ("What's in this audio?", "Transcribe this.", "How many words?")
START_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Outcome:
    first_text_s: float | None
    text: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    url: str
    model: str


def questions(files: Sequence[Path], num_requests: int) -> list[list[dict[str, Any]]]:
    """Conversations of one message each, about every file in turn, or about topics."""
    if not files:
        texts = itertools.cycle(text.format(topic) for text in ASKED for topic in TOPICS)
        return [[{"role": "user", "content": text}] for text in itertools.islice(texts, num_requests)]
    asked = itertools.islice(zip(itertools.cycle(files), itertools.cycle(QUESTIONS), strict=False), num_requests)
    return [[{"role": "user", "content": [audio_part(path), {"type": "text", "text": text}]}] for path, text in asked]


def audio_part(path: Path) -> dict[str, Any]:
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": path.suffix.lstrip(".")}}


async def one_request(client: httpx.AsyncClient, server: Server, messages: list[dict[str, Any]]) -> Outcome:
    body = {"model": server.model, "messages": messages, "stream": True, "temperature": 0, "max_tokens": 64}
    started_at = time.perf_counter()
    first_text_s, text = None, ""
    async with client.stream("POST", f"{server.url}/v1/chat/completions", json=body) as response:
        is_error = response.status_code != 200
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            is_error |= "error" in event
            piece = "".join(choice["delta"].get("content") or "" for choice in event.get("choices", []))
            if piece and first_text_s is None:
                first_text_s = time.perf_counter() - started_at
            text += piece
    return Outcome(first_text_s, text, is_error or first_text_s is None)


async def load(server: Server, asked: list[list[dict[str, Any]]], num_clients: int) -> list[Outcome]:
    """`num_clients` at a time, each starting its next request when its last one has ended."""
    work = iter(asked)

    async def client_loop(client: httpx.AsyncClient) -> list[Outcome]:
        return [await one_request(client, server, messages) for messages in work]

    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=num_clients)) as client:
        outcomes = await asyncio.gather(*(client_loop(client) for _ in range(num_clients)))
    return [outcome for part in outcomes for outcome in part]


@contextmanager
def transformers_serve(source: str, log: Path) -> Iterator[Server]:
    """`transformers serve` as a process of its own, with the one thread that our replica has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", source, "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, process, log)
        yield Server("transformers", url, source)
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise SystemExit(f"`transformers serve` did not start; see {log}")


def measure(server: Server, asked: list[list[dict[str, Any]]], num_clients: int, tokenizer: Any) -> float:
    """Print one row and return the tokens per second."""
    started_at = time.perf_counter()
    outcomes = asyncio.run(load(server, asked, num_clients))
    wall_s = time.perf_counter() - started_at
    first = [outcome.first_text_s for outcome in outcomes if outcome.first_text_s is not None]
    tokens_per_s = sum(len(tokenizer.encode(outcome.text)) for outcome in outcomes) / wall_s
    errors = sum(outcome.is_error for outcome in outcomes)
    print(
        f"{num_clients:>7} {server.name:>13} {len(outcomes) / wall_s:>7.2f} {tokens_per_s:>9.1f} "
        f"{percentile(first, 0.5):>15.3f} {percentile(first, 0.95):>15.3f} {errors:>7}",
        flush=True,
    )
    return tokens_per_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=48, help="in all, for each number of clients")
    parser.add_argument("--files", type=Path, nargs="+", default=[])
    parser.add_argument("--peer", metavar="SOURCE", help="also ask `transformers serve` with this checkpoint")
    parser.add_argument("--peer-log", type=Path, default=Path("transformers-serve.log"))
    parser.add_argument(
        "--tokenizer", default="embedded:smollm2-135m-instruct", help="counts the tokens of all answers"
    )
    options = parser.parse_args()
    asked = questions(options.files, options.requests)
    tokenizer = load_tokenizer(options.tokenizer)
    ours = Server("auricle", options.url, options.model)
    print(f"{options.requests} requests for each row, streamed, greedy; seconds unless named")
    print(
        f"{'clients':>7} {'server':>13} {'req/s':>7} {'tokens/s':>9} {'first text p50':>15} {'first text p95':>15} "
        f"{'errors':>7}"
    )
    if options.peer is None:
        compare([ours], asked, options.clients, tokenizer)
        return
    with transformers_serve(str(options.peer), options.peer_log) as peer:
        compare([ours, peer], asked, options.clients, tokenizer)


def load_tokenizer(source: str) -> Any:
    """Of whatever a configuration may name: an embedded model, a GGUF file, a directory, the hub."""
    source = resolve(source)
    path = find_gguf(source)
    return load_gguf_tokenizer(path) if path else AutoTokenizer.from_pretrained(source)


def compare(servers: list[Server], asked: list[list[dict[str, Any]]], clients: list[int], tokenizer: Any) -> None:
    for server in servers:
        asyncio.run(load(server, asked[:1], 1))  # warm up
    for num_clients in clients:
        speeds = [measure(server, asked, num_clients, tokenizer) for server in servers]
        if len(speeds) == 2:
            print(f"{num_clients:>7} {'ratio':>13} {'':>7} {speeds[0] / speeds[1]:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
