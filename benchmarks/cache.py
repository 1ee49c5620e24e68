"""What does a window cost that was never heard, that was heard and asked for otherwise, and that was asked for so?

    python -m benchmarks.cache tests/data/en-*.flac

One engine, one window after the other, through the engine's loop and its deployment's cache, as one replica does it;
medians. A lookup that finds nothing is what the others pay beside. Prints one table.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.engine import read_chunks
from deployments.asr.engine import AsrEngineArgs
from deployments.asr.text_cache import TextCache, Transcribed
from deployments.asr.whisper import WhisperEngine
from deployments.decoding.loop import EngineLoop
from models.sources import resolve
from pipelines.audio_types import AudioChunk
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, Work

OPTIONS = DecodingOptions(language="en")
CACHE_MB = 1_000


async def seconds_each(
    loop: EngineLoop[ChunkTranscript], cache: TextCache, chunks: Sequence[AudioChunk], options: DecodingOptions
) -> float:
    seconds = []
    for chunk in chunks:
        started_at = time.perf_counter()
        await cache.transcribed(chunk, options, partial(loop.run, chunk, options))
        seconds.append(time.perf_counter() - started_at)
    return statistics.median(seconds)


async def lookup_s(chunks: Sequence[AudioChunk]) -> float:
    """Of what is not there, and keeping an answer without text."""

    async def nothing() -> Transcribed:
        return ChunkTranscript(0, "en"), Work(0.0, 0.0, 0.0)

    cache, seconds = TextCache(CACHE_MB * 1_000_000), []
    for chunk in chunks:
        started_at = time.perf_counter()
        await cache.transcribed(chunk, OPTIONS, nothing)
        seconds.append(time.perf_counter() - started_at)
    return statistics.median(seconds)


async def measure(args: AsrEngineArgs, chunks: Sequence[AudioChunk]) -> None:
    loop: EngineLoop[ChunkTranscript] = EngineLoop(
        WhisperEngine(args), max_batch_size=8, max_step_s=300, is_serial=True
    )
    cache = TextCache(CACHE_MB * 1_000_000)
    rows = {
        "never heard": await seconds_each(loop, cache, chunks, OPTIONS),
        "heard, asked for with another seed": await seconds_each(loop, cache, chunks, replace(OPTIONS, seed=1)),
        "heard and asked for": await seconds_each(loop, cache, chunks, OPTIONS),
        "a lookup that finds nothing": await lookup_s(chunks),
    }
    loop.stop()
    audio_s = statistics.mean(chunk.waveform.duration_s for chunk in chunks)
    print(f"{len(chunks)} windows, {audio_s:.1f} s in the mean, {args.num_threads} thread(s)\n")
    print("| a window | ms |\n|---|---|")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds * 1e3:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--source", default="embedded:whisper-base")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    args = AsrEngineArgs(resolve(options.source), num_threads=options.threads, cache_mb=CACHE_MB)
    asyncio.run(measure(args, read_chunks(options.files)))


if __name__ == "__main__":
    main()
