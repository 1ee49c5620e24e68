"""What does an upload of hours cost, and how soon does its text begin?

    python -m benchmarks.reliability.long_upload --hours 4 --kinds whole stream speakers

Starts a cluster of its own with Whisper, speakers and limits that allow it, and sends an Opus file of a conversation
that is repeated for so long: whole, as a stream, and as a stream with speakers. Meanwhile the memory of all of its
processes is looked at each second (proportional set sizes); idle is what they have after the same requests of 30 s.
With speakers a stream's text begins behind the first stretch of at most ten minutes, so that is only told.
"""

import argparse
import io
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import httpx

from benchmarks.reliability.local_graph import Verdict, memory_bytes
from benchmarks.reliability.own_cluster import UNCACHED, Config, OwnCluster, application, deployment

MAX_GROWTH_BYTES = 1e9
MAX_RATIO = 1.5
SHORT_S = 30.0
NUM_SHORT = 3
EVERY_S = 1.0
TIMEOUT_S = 7_200.0
OPUS_HZ = 48_000
SPEAKERS = {"model": "gpt-4o-transcribe-diarize", "response_format": "diarized_json", "chunking_strategy": "auto"}
KINDS: dict[str, dict[str, str]] = {
    "whole": {"model": "whisper-1"},
    "stream": {"model": "gpt-4o-transcribe", "stream": "true"},
    "speakers": {**SPEAKERS, "stream": "true"},
}


def config(whisper: str) -> Config:
    aliases = ["whisper-1", "gpt-4o-transcribe", "gpt-4o-transcribe-diarize"]
    model = {"id": whisper, "name": "whisper", "source": f"embedded:{whisper}", "threads": 2, **UNCACHED}
    return application(
        [{**model, "aliases": aliases}],
        [deployment(name) for name in ("ingress", "audio", "asr-whisper", "diarization")],
        diarization={"source": "embedded:speaker-diarization", "device": "cpu"},
        limits={"max_upload_bytes": 1 << 27, "max_request_s": TIMEOUT_S},
    )


def repeated(path: Path, seconds: float) -> bytes:
    """An Opus file over and over again, packet by packet, up to `seconds`."""
    file, at = io.BytesIO(), 0
    with av.open(file, "w", format="ogg") as target:
        track = None
        while at < seconds * OPUS_HZ:
            with av.open(str(path)) as source:
                track = track or target.add_stream_from_template(source.streams.audio[0])
                for packet in source.demux(source.streams.audio[0]):
                    if packet.size and at < seconds * OPUS_HZ:
                        packet.pts = packet.dts = at
                        packet.stream, at = track, at + (packet.duration or 0)
                        target.mux(packet)
    return file.getvalue()


@contextmanager
def watched() -> Iterator[list[int]]:
    """Bytes of all processes, while it goes on."""
    found, is_over = [memory_bytes(os.getpid())], threading.Event()

    def watch() -> None:
        while not is_over.wait(EVERY_S):
            found.append(memory_bytes(os.getpid()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()


def ask(url: str, file: bytes, fields: dict[str, str]) -> tuple[float, float, str]:
    """Seconds to the first text and to the last, and all of it.

    Raises:
        httpx.HTTPError
        RuntimeError: the stream ended with an error.
    """
    started_at, first_s = time.monotonic(), 0.0
    events: list[dict[str, Any]] = []
    files = {"file": file}
    with httpx.stream("POST", f"{url}/v1/audio/transcriptions", files=files, data=fields, timeout=TIMEOUT_S) as answer:
        if "stream" not in fields:
            answer.read()
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line.startswith(("{", "data: {")):
                first_s = first_s or time.monotonic() - started_at
                events.append(json.loads(line.removeprefix("data: ")))
    if "error" in events[-1]:
        raise RuntimeError(events[-1]["error"]["message"])
    return first_s, time.monotonic() - started_at, str(events[-1]["text"])


def judge(verdict: Verdict, kind: str, url: str, long: bytes, short: bytes, name: str) -> None:
    fields = KINDS[kind]
    short_s = statistics.median(ask(url, short, fields)[0] for _ in range(NUM_SHORT))
    idle = memory_bytes(os.getpid())
    with watched() as found:
        first_s, all_s, text = ask(url, long, fields)
    grown = max(found) - idle
    verdict.add(f"{kind}: {name}", f"{len(text.split())} words in {all_s:.0f} s", "some", bool(text))
    told = f"{idle / 1e9:.2f} GB idle, {grown / 1e9:+.2f} GB at the peak"
    verdict.add(f"{kind}: memory", told, f"at most {MAX_GROWTH_BYTES / 1e9:+g} GB", grown <= MAX_GROWTH_BYTES)
    if "stream" in fields:
        is_good = kind == "speakers" or first_s <= MAX_RATIO * short_s
        bar = "" if kind == "speakers" else f"at most {MAX_RATIO:g} times"
        told = f"{first_s:.2f} s, of {SHORT_S:.0f} s of audio {short_s:.2f} s"
        verdict.add(f"{kind}: first text", told, bar, is_good)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=3.99, help="a little less than the default limit of 4")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--whisper", default="whisper-base", help="which of the embedded ones")
    parser.add_argument("--file", type=Path, default=Path("tests/data/conversations/libri-00.opus"), help="of Opus")
    options = parser.parse_args()
    long, short = repeated(options.file, options.hours * 3_600), repeated(options.file, SHORT_S)
    name = f"{options.hours:g} h, {len(long) / 1e6:.0f} MB"
    verdict = Verdict()
    with OwnCluster(num_cpus=4) as cluster:
        cluster.deploy(config(options.whisper))
        cluster.wait_until_up()
        for kind in options.kinds:
            judge(verdict, kind, cluster.url, long, short, name)
    verdict.finish()


if __name__ == "__main__":
    main()
