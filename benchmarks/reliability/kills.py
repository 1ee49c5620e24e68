"""Does anybody notice when replicas die?

    sed 's/threads: 2/cache_mb: 0/' configs/embedded.yaml > uncached.yaml  # or the same answer is told from memory
    python -m deployments uncached.yaml &
    python -m benchmarks.reliability.kills --seconds 600 --clients 8

Every few seconds a replica of the next deployment is killed (SIGKILL), under clients that ask for transcriptions whole
and streamed, with speakers, and for chats. A whole answer must be the undisturbed one; a stream must be so, or end with
an error event; nobody may wait for ever. What fails is asked again where OpenAI's SDK would do so: for 429 and 503, and
for what the death of an ingress replica breaks off, a plain 500 of Serve's proxy or a lost connection. The server's own
500 forbids it (`x-should-retry`) and counts. The server runs on this machine.
"""

import argparse
import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from benchmarks.reliability.local_graph import Verdict, replicas

MAX_WAIT_S = 300.0
QUESTION = "What is the capital of France?"

Ask = Callable[[httpx.AsyncClient], Awaitable[str | None]]
"""A text; None where a stream said itself that it failed."""


def transcription(file: bytes, **fields: str) -> Ask:
    async def ask(client: httpx.AsyncClient) -> str | None:
        data = {"model": "whisper-1", **fields}
        response = await client.post("/v1/audio/transcriptions", files={"file": file}, data=data)
        response.raise_for_status()
        return spoken(response.json())

    return ask


def spoken(answer: dict[str, Any]) -> str:
    """Who says what, where it is told."""
    if segments := answer.get("segments"):
        return " ".join(f"{segment['speaker']}: {segment['text']}" for segment in segments)
    return str(answer["text"])


def stream(file: bytes) -> Ask:
    async def ask(client: httpx.AsyncClient) -> str | None:
        data = {"model": "whisper-1", "stream": "true"}
        response = await client.post("/v1/audio/transcriptions", files={"file": file}, data=data)
        response.raise_for_status()
        lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
        last = json.loads(lines[-1])
        return None if "error" in last else str(last["text"])

    return ask


async def chat(client: httpx.AsyncClient) -> str | None:
    models = (await client.get("/v1/models")).json()["data"]
    body = {"model": models[0]["id"], "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    response = await client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    return str(response.json()["choices"][0]["message"]["content"])


async def patient(ask: Ask, client: httpx.AsyncClient, found: Counter[str]) -> str | None:
    """Asked again for what the SDK asks again."""
    deadline = time.monotonic() + MAX_WAIT_S
    while True:
        try:
            return await ask(client)
        except httpx.HTTPStatusError as error:
            headers, status = error.response.headers, error.response.status_code
            is_final = headers.get("x-should-retry") == "false" or (status < 500 and status != 429)
            if is_final or time.monotonic() > deadline:
                raise
            found[f"again: {status}"] += 1
            await asyncio.sleep(float(headers.get("retry-after", 1)))
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            if time.monotonic() > deadline:
                raise
            found["again: connection"] += 1
            await asyncio.sleep(1)


async def client_loop(
    asks: dict[str, Ask], expected: dict[str, str | None], client: httpx.AsyncClient, end_s: float, found: Counter[str]
) -> None:
    while time.monotonic() < end_s:
        for name, ask in asks.items():
            try:
                text = await asyncio.wait_for(patient(ask, client, found), 2 * MAX_WAIT_S)
            except TimeoutError:
                found[f"{name}: hung"] += 1
            except httpx.HTTPStatusError as error:
                found[f"{name}: {error.response.status_code}"] += 1
            except httpx.HTTPError as error:
                found[f"{name}: {type(error).__name__}"] += 1
            else:
                told = "told" if text is None else "right" if text == expected[name] else "wrong"
                found[f"{name}: {told}"] += 1


async def kill_in_turn(names: list[str], every_s: float, end_s: float) -> int:
    num_killed = 0
    while time.monotonic() < end_s:
        for name in names:
            await asyncio.sleep(every_s)
            pids = replicas().get(name, set())
            with suppress(ProcessLookupError):
                for pid in sorted(pids)[:1]:
                    os.kill(pid, signal.SIGKILL)
                    num_killed += 1
    return num_killed


async def run(options: argparse.Namespace) -> tuple[Counter[str], int]:
    file = options.file.read_bytes()
    diarized = {"model": "gpt-4o-transcribe-diarize", "response_format": "diarized_json", "chunking_strategy": "auto"}
    asks = {
        "whole": transcription(file),
        "stream": stream(file),
        "speakers": transcription(file, **diarized),
        "chat": chat,
    }
    async with httpx.AsyncClient(base_url=options.url, timeout=MAX_WAIT_S) as client:
        expected = {name: await ask(client) for name, ask in asks.items()}
        end_s = time.monotonic() + options.seconds
        found: Counter[str] = Counter()
        loops = [client_loop(asks, expected, client, end_s, found) for _ in range(options.clients)]
        *_, num_killed = await asyncio.gather(*loops, kill_in_turn(options.deployments, options.every, end_s))
    return found, int(num_killed or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--every", type=float, default=5, help="seconds between two kills")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--file", type=Path, default=Path("tests/data/jfk.flac"))
    parser.add_argument("--deployments", nargs="+", default=sorted(replicas()) or ["audio"])
    options = parser.parse_args()
    found, num_killed = asyncio.run(run(options))
    verdict = Verdict()
    verdict.add("replicas killed", str(num_killed), "some", num_killed > 0)
    for kind in ("whole", "stream", "speakers", "chat", "again"):
        its = {name.partition(": ")[2]: count for name, count in found.items() if name.startswith(kind)}
        allowed = {"right", "told"} if kind == "stream" else {"right"}
        answers = ", ".join(f"{name}: {count}" for name, count in sorted(its.items()))
        if kind == "again":
            verdict.add("asked again", answers or "none", "", is_good=True)
        else:
            verdict.add(kind, answers or "none", " or ".join(sorted(allowed)), bool(its) and its.keys() <= allowed)
    verdict.finish()


if __name__ == "__main__":
    main()
