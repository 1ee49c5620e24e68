"""How soon is what somebody says written, in many sessions at once?

    python -m deployments configs/embedded.yaml &
    python -m benchmarks.realtime --sessions 1 4 8 32 --delay low
    python -m benchmarks.realtime --sessions 1 4 --delay low --upload tests/data/jfk.flac

Every session speaks another order of the same recordings, at the pace of speech, with pauses between them. Told of:

- first text: from the beginning of a turn's first word (its `audio_start_ms` and the padding before it) to its first
  delta;
- completed: from the end of a turn's silence (its `audio_end_ms`) to its transcript;
- word error rate, to what the server hears in an upload of the same recording;
- sessions that were refused, and turns that failed;
- with --upload, how long an upload takes alone, and one after the other beside the sessions.
"""

import argparse
import asyncio
import base64
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
import soxr
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from benchmarks.scoring import word_error_rate
from pipelines.audio_types import Samples

RATE_HZ = 24_000
PIECE_S = 0.1
PREFIX_S = 0.3
END_S = 30.0
"""How long the last turns are waited for."""

TRANSCRIPTION = "conversation.item.input_audio_transcription"


@dataclass
class Heard:
    """Seconds of each turn; `texts` in order."""

    first_text_s: list[float] = field(default_factory=list)
    completed_s: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    num_failed: int = 0
    num_refused: int = 0
    num_cut_off: int = 0

    def row(self, num_sessions: int) -> str:
        wer = word_error_rate(self.expected, self.texts) if self.texts else float("nan")
        cells = [str(num_sessions), _both(self.first_text_s), _both(self.completed_s), f"{wer:.1%}"]
        cells += [str(len(self.completed_s)), str(self.num_failed), str(self.num_refused), str(self.num_cut_off)]
        return "| " + " | ".join(cells) + " |"


@dataclass
class Recording:
    samples: Samples
    text: str = ""


def _both(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    return f"{statistics.median(seconds):.2f} / {float(np.quantile(seconds, 0.95)):.2f}"


def load(path: Path) -> Recording:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return Recording(np.asarray(soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ), np.float32))


async def upload(client: httpx.AsyncClient, path: Path, model: str) -> str:
    response = await client.post("/v1/audio/transcriptions", files={"file": path.read_bytes()}, data={"model": model})
    response.raise_for_status()
    return str(response.json()["text"])


@asynccontextmanager
async def uploading(client: httpx.AsyncClient, path: Path, model: str) -> AsyncIterator[list[float]]:
    """One upload after the other, as long as this is open; the seconds that each has taken."""
    seconds: list[float] = []

    async def keep_on() -> None:
        while True:
            started_at = time.monotonic()
            await upload(client, path, model)
            seconds.append(time.monotonic() - started_at)

    task = asyncio.create_task(keep_on())
    try:
        yield seconds
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def speak(options: argparse.Namespace, recordings: Sequence[Recording], seed: int, heard: Heard) -> None:
    """One session."""
    await asyncio.sleep(random.Random(seed).uniform(0, options.stagger))
    said = random.Random(seed).sample(recordings, k=min(options.turns, len(recordings)))
    pause = np.zeros(round(options.pause * RATE_HZ), np.float32)
    samples = np.concatenate([pause, *(part for one in said for part in (one.samples, pause))])
    pcm = (np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes()
    address = options.url.replace("http", "ws", 1) + f"/v1/realtime?model={options.model}"
    try:
        async with connect(address, max_size=None, open_timeout=60) as socket:
            await socket.send(json.dumps({"type": "session.update", "session": _session(options)}))
            listening = asyncio.create_task(listen(socket, started_at := time.monotonic(), heard))
            await feed(socket, pcm, started_at)
            texts = await asyncio.wait_for(listening, END_S)
            heard.expected.append(" ".join(one.text for one in said))
            heard.texts.append(" ".join(texts))
    except InvalidStatus:
        heard.num_refused += 1
    except (ConnectionClosed, TimeoutError):
        heard.num_cut_off += 1


def _session(options: argparse.Namespace) -> dict[str, Any]:
    transcription = {"model": options.model, "language": options.language}
    if options.delay:
        transcription["delay"] = options.delay
    return {"type": "transcription", "audio": {"input": {"transcription": transcription}}}


async def feed(socket: Any, pcm: bytes, started_at: float) -> None:
    """A piece is sent when its last sample would have been recorded; then a commit ends the last turn, if any."""
    size = round(PIECE_S * RATE_HZ) * 2
    for number, first in enumerate(range(0, len(pcm), size), start=1):
        await asyncio.sleep(max(started_at + number * PIECE_S - time.monotonic(), 0))
        audio = base64.b64encode(pcm[first : first + size]).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
    await socket.send(json.dumps({"type": "session.update", "event_id": "last", "session": {}}))


async def listen(socket: Any, started_at: float, heard: Heard) -> list[str]:
    """Until all turns are known that began before the last piece of audio was taken in."""
    starts: dict[str, float] = {}
    ends: dict[str, float] = {}
    texts: dict[str, str] = {}
    open_turns: set[str] = set()
    num_updates = 0
    while num_updates < 2 or open_turns:
        event = json.loads(await socket.recv())
        now_s, item_id = time.monotonic() - started_at, event.get("item_id", "")
        match event["type"]:
            case "session.updated":
                num_updates += 1
            case "input_audio_buffer.speech_started":
                starts[item_id] = event["audio_start_ms"] / 1_000 + PREFIX_S
                texts[item_id] = ""
                open_turns.add(item_id)
            case "input_audio_buffer.speech_stopped":
                ends[item_id] = event["audio_end_ms"] / 1_000
            case kind if kind == f"{TRANSCRIPTION}.delta" and item_id in starts:
                heard.first_text_s.append(now_s - starts.pop(item_id))
            case kind if kind in (f"{TRANSCRIPTION}.completed", f"{TRANSCRIPTION}.failed"):
                open_turns.discard(item_id)
                texts[item_id] = event.get("transcript", "")
                heard.num_failed += kind.endswith("failed")
                if item_id in ends:
                    heard.completed_s.append(now_s - ends[item_id])
    return list(texts.values())


async def measure(options: argparse.Namespace) -> None:
    print(
        "| sessions | first text, s (p50 / p95) | completed, s (p50 / p95) | WER | turns | failed | refused | cut off |"
    )
    print("|---|---|---|---|---|---|---|---|")
    async with httpx.AsyncClient(base_url=options.url, timeout=600) as client:
        recordings = [load(path) for path in options.files]
        for recording, path in zip(recordings, options.files, strict=True):
            recording.text = await upload(client, path, options.model)
        if options.upload:
            async with uploading(client, options.upload, options.model) as alone_s:
                await asyncio.sleep(options.alone)
            print(f"{len(alone_s)} uploads alone, {_both(alone_s)} s", flush=True)
        for num_sessions in options.sessions:
            heard = Heard()
            beside: AbstractAsyncContextManager[list[float]] = nullcontext([])
            if options.upload:
                beside = uploading(client, options.upload, options.model)
            async with beside as beside_s:
                await asyncio.gather(*(speak(options, recordings, seed, heard) for seed in range(num_sessions)))
            print(heard.row(num_sessions), flush=True)
            if beside_s:
                print(f"{len(beside_s)} uploads beside them, {_both(beside_s)} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=sorted(Path("tests/data").glob("en-*.flac")))
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="whisper-1")
    parser.add_argument("--language", default="en")
    parser.add_argument("--delay", choices=["minimal", "low", "medium", "high", "xhigh"])
    parser.add_argument("--sessions", nargs="+", type=int, default=[1, 4, 8, 32])
    parser.add_argument("--turns", type=int, default=8, help="recordings that a session speaks")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between them")
    parser.add_argument("--stagger", type=float, default=3.0, help="seconds within which sessions begin")
    parser.add_argument("--alone", type=float, default=10.0, help="seconds of uploads before there are sessions")
    parser.add_argument("--upload", type=Path, help="a file that is uploaded again and again beside")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
