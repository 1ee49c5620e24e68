"""How fast is the bare engine, offline, at several batch sizes, and how does another one do beside it?

    python -m benchmarks.engine --files tests/data/en-*.flac
    python -m benchmarks.engine --files talk.flac --reference talk.txt --words --beside faster-whisper

From file to text, each with its own voice activity detection, in turns; the median of several rounds is told. With the
text of all files, one after the other, also how many words are wrong and how many are left out (English, after
Whisper's own normaliser). faster-whisper needs the extra benchmark. Prints one table.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jiwer
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from deployments.asr.engine import ENGINES, AsrEngine, AsrEngineArgs
from deployments.audio.reader import UploadReader
from deployments.audio.silero import SileroModel
from deployments.engines import load_engine
from models.sources import resolve
from pipelines.audio_types import AudioChunk, DecodeLimits, VadOptions
from pipelines.transcript_types import ChunkTranscript, DecodingOptions

Run = Callable[[Sequence[Path], int], str]
"""From files and a batch size to their text."""


def read_chunks(paths: Sequence[Path]) -> list[AudioChunk]:
    model = SileroModel()
    return [chunk for path in paths for chunk in chunks_of(path.read_bytes(), model)]


def chunks_of(upload: bytes, model: SileroModel) -> list[AudioChunk]:
    reader = UploadReader(upload, VadOptions(), model, DecodeLimits())
    pages = [reader.next_page()]
    while not pages[-1].is_last:
        pages.append(reader.next_page())
    return [chunk for page in pages for chunk in page.chunks]


def run_engine(
    engine: AsrEngine, chunks: Sequence[AudioChunk], batch_size: int, options: DecodingOptions
) -> list[ChunkTranscript]:
    """All answers in order, `batch_size` windows being aboard."""
    waiting, answers, num_aboard = list(enumerate(chunks)), dict[int, ChunkTranscript](), 0
    while waiting or num_aboard:
        while waiting and num_aboard < batch_size:
            number, chunk = waiting.pop(0)
            engine.add(str(number), chunk, options)
            num_aboard += 1
        for output in engine.step():
            assert isinstance(output.result, ChunkTranscript), output.result
            answers[int(output.request_id)] = output.result
            num_aboard -= 1
    return [answers[number] for number in sorted(answers)]


def own(engine: AsrEngine, options: DecodingOptions) -> Run:
    def run(paths: Sequence[Path], batch_size: int) -> str:
        answers = run_engine(engine, read_chunks(paths), batch_size, options)
        return " ".join(segment.text for answer in answers for segment in answer.segments)

    return run


def seconds_for(args: AsrEngineArgs, chunks: Sequence[AudioChunk], batch_size: int) -> float:
    """Wall seconds to transcribe all chunks, after one chunk to warm up."""
    engine, options = load_engine("transformers", ENGINES)(args), DecodingOptions()
    run_engine(engine, chunks[:1], 1, options)
    started_at = time.perf_counter()
    run_engine(engine, chunks, batch_size, options)
    return time.perf_counter() - started_at


def errors(reference: str, heard: str) -> tuple[float, int]:
    """Word error rate, and words that are missing."""
    same = EnglishTextNormalizer({})
    found = jiwer.process_words(same(reference), same(heard))
    return float(found.wer), int(found.deletions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="embedded:whisper-base")
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--timestamps", choices=("attention", "tokens"), default="attention")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--files", type=Path, nargs="+", required=True)
    parser.add_argument("--language", default="en")
    parser.add_argument("--words", action="store_true", help="ask for the times of words")
    parser.add_argument("--reference", type=Path, help="a file with what is said in all files")
    parser.add_argument("--beside", choices=("faster-whisper",))
    parser.add_argument("--beside-dtype", default="int8", help="of the other engine, in its own words")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    chunks = read_chunks(options.files)
    audio_s = sum(chunk.waveform.duration_s for chunk in chunks)
    print(f"{options.source}, {options.threads} thread(s): {len(chunks)} windows, {audio_s:.0f} s of audio")
    print("| engine | batch | audio s/s | ratio | WER | words left out |\n|---|---|---|---|---|---|", flush=True)
    runs = runners(options)
    for run in runs.values():
        run(options.files[:1], 8)
    for batch_size in options.batch_sizes:
        compare(runs, options.files, audio_s, batch_size, options.rounds, options.reference)


def runners(options: Any) -> dict[str, Run]:
    """The other engine, when there is one, comes first: ratios are to it."""
    args = AsrEngineArgs(
        resolve(options.source), options.device, options.dtype, options.threads, timestamps=options.timestamps
    )
    decoding = DecodingOptions(language=options.language, timestamps=options.words, word_timestamps=options.words)
    runs: dict[str, Run] = {}
    if options.beside:
        from benchmarks.peers import faster_whisper

        name = f"{options.beside}, {options.beside_dtype}"
        runs[name] = faster_whisper(args.source, options.beside_dtype, options.threads, options.language, options.words)
    runs[f"Auricle, {options.dtype}"] = own(load_engine(options.engine, ENGINES)(args), decoding)
    return runs


def compare(
    runs: dict[str, Run],
    paths: Sequence[Path],
    audio_s: float,
    batch_size: int,
    num_rounds: int,
    reference: Path | None,
) -> None:
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    texts: dict[str, str] = {}
    for _ in range(num_rounds):
        for name, run in runs.items():
            started_at = time.perf_counter()
            texts[name] = run(paths, batch_size)
            speeds[name].append(audio_s / (time.perf_counter() - started_at))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    first = next(iter(medians.values()))
    for name, speed in medians.items():
        wrong, left_out = errors(reference.read_text(), texts[name]) if reference else (None, None)
        told = ("", "") if wrong is None else (f"{wrong:.1%}", str(left_out))
        print(f"| {name} | {batch_size} | {speed:.1f} | {speed / first:.2f} | {told[0]} | {told[1]} |", flush=True)


if __name__ == "__main__":
    main()
