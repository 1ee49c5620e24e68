"""How fast is the bare engine, offline, at several batch sizes?

    python -m benchmarks.engine --source embedded:whisper-base --files tests/data/en-*.flac

Every file is decoded and cut first; only the engine is timed. Prints one table.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from deployments.asr.engine import ENGINES
from deployments.audio.reader import UploadReader
from deployments.audio.silero import SileroModel
from deployments.engines import EngineArgs, load_engine
from models.sources import resolve
from pipelines.audio_types import AudioChunk, DecodeLimits, VadOptions
from pipelines.transcript_types import DecodingOptions


def read_chunks(paths: Sequence[Path]) -> list[AudioChunk]:
    model = SileroModel()
    chunks: list[AudioChunk] = []
    for path in paths:
        reader = UploadReader(path.read_bytes(), VadOptions(), model, DecodeLimits())
        is_last = False
        while not is_last:
            page = reader.next_page()
            chunks += page.chunks
            is_last = page.is_last
    return chunks


def seconds_for(
    engine_name: str, args: EngineArgs, chunks: Sequence[AudioChunk], batch_sizes: Sequence[int]
) -> list[float]:
    """Wall seconds to transcribe all chunks, for each batch size, after one chunk to warm up."""
    engine = load_engine(engine_name, ENGINES)(args)
    options = DecodingOptions()

    def run(batch: Sequence[AudioChunk], batch_size: int) -> float:
        waiting, num_aboard = list(enumerate(batch)), 0
        started_at = time.perf_counter()
        while waiting or num_aboard:
            while waiting and num_aboard < batch_size:
                number, chunk = waiting.pop(0)
                engine.add(str(number), chunk, options)
                num_aboard += 1
            num_aboard -= len(engine.step())
        return time.perf_counter() - started_at

    run(chunks[:1], 1)
    return [run(chunks, batch_size) for batch_size in batch_sizes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--source", default="embedded:whisper-base")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--files", type=Path, nargs="+", required=True)
    parser.add_argument("--repeat", type=int, default=2, help="how often every file is transcribed")
    options = parser.parse_args()
    chunks = read_chunks(options.files) * options.repeat
    audio_s = sum(chunk.waveform.duration_s for chunk in chunks)
    args = EngineArgs(resolve(options.source), options.device, num_threads=options.threads)
    print(f"{options.source}, {options.threads} thread(s): {len(chunks)} chunks, {audio_s:.0f} s of audio")
    print(f"{'batch':>6} {'seconds':>9} {'chunks/s':>9} {'audio s/s':>10}")
    seconds = seconds_for(options.engine, args, chunks, options.batch_sizes)
    for batch_size, wall_s in zip(options.batch_sizes, seconds, strict=True):
        print(f"{batch_size:>6} {wall_s:>9.2f} {len(chunks) / wall_s:>9.2f} {audio_s / wall_s:>10.1f}")


if __name__ == "__main__":
    main()
