"""Is everything right on this GPU, and how fast is it?

    python -m benchmarks.gpu_check
    python -m benchmarks.gpu_check --device cpu --quick

One table, row by row as it is found:

- words: Whisper base in each type, with graphs and without, beside float32 on the CPU: how many words differ;
- steps: the encoder, and one step of the decoder, plain and from a CUDA graph, and how far their logits are apart;
- engine: windows of 30 s, each answered by 60 tokens, and how often a step waits for the GPU;
- served: short clips, asked of a server of its own over HTTP.

Steps and engine are those of random weights in the shapes of turbo and large-v3. A part that fails is a row of the
table, and the others follow.
"""

import argparse
import asyncio
import json
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.engine import read_chunks, run_engine
from benchmarks.gpu_check_server import serving
from benchmarks.limit import TYPICAL_LENGTH, median_s
from benchmarks.random_whispers import save_random_whisper
from benchmarks.scoring import word_error_rate
from benchmarks.serve_load import load, percentile
from deployments.asr.alignment import alignment_heads
from deployments.asr.checkpoints import load_whisper
from deployments.asr.engine import AsrEngineArgs, CudaGraphs
from deployments.asr.network import WhisperNetwork
from deployments.asr.slots import Slots
from deployments.asr.steps import GraphRecorder, PlainStep, RecordedStep
from deployments.asr.whisper import WhisperEngine
from deployments.decoding.devices import Precision
from models.sources import resolve
from pipelines.audio_types import MAX_CHUNK_S, SAMPLE_RATE_HZ, AudioChunk, SpeechSegment, Waveform
from pipelines.transcript_types import DecodingOptions

DATA = Path(__file__).parents[1] / "tests" / "data"
BASE = "embedded:whisper-base"
ANSWER = DecodingOptions(language="en", max_tokens=60, frequency_penalty=2.0)
"""The penalty keeps random weights from loops, which would be cut."""

MAX_DIFFERING = 0.1
"""Of the words, between two types of numbers; more is a fault."""


@dataclass(frozen=True, slots=True)
class Plan:
    device: torch.device
    shapes: Sequence[str]
    rows: Sequence[int]
    dtypes: Sequence[str]
    clients: Sequence[int]
    num_files: int
    num_rounds: int

    @property
    def dtype(self) -> str:
        return "float16" if self.is_gpu else "float32"

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def files(self) -> list[Path]:
        return sorted(DATA.glob("en-*.flac"))[: self.num_files]

    def synchronise(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()

    def memory(self) -> str:
        """The most that was taken since it was asked last."""
        if not self.is_gpu:
            return ""
        taken = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return f"{taken:.1f} GB at most"


def full(device: torch.device) -> Plan:
    dtypes = ("float32", "float16", "bfloat16")
    return Plan(device, ("turbo", "large-v3"), (1, 2, 4, 8, 16, 32, 64), dtypes, (1, 16, 64), 20, 7)


def quick(device: torch.device) -> Plan:
    return Plan(device, ("tiny",), (1, 3), ("float32", "bfloat16"), (2,), 2, 1)


def tell(part: str, of: str, rows: object, found: str) -> None:
    print(f"| {part} | {of} | {rows} | {found} |", flush=True)


# Words


def words(plan: Plan) -> None:
    chunks = read_chunks(plan.files)
    spoken = json.loads((DATA / "clips.json").read_text())
    reference = [spoken[path.name]["text"] for path in plan.files]
    expected = heard(chunks, "cpu", "float32")
    tell("words", "CPU, float32", 8, f"WER {word_error_rate([' '.join(reference)], [expected]):.2%}")
    runs: list[tuple[str, CudaGraphs]] = [(dtype, "auto") for dtype in plan.dtypes]
    runs += [(dtype, "off") for dtype in plan.dtypes if plan.is_gpu]
    for dtype, graphs in runs:
        found = heard(chunks, plan.device.type, dtype, graphs)
        wrong = word_error_rate([" ".join(reference)], [found])
        differing = word_error_rate([expected], [found])
        name = f"{plan.device.type}, {dtype}, graphs {graphs}"
        tell("words", name, 8, f"WER {wrong:.2%}; {differing:.2%} of words are not those of the CPU")
        check(differing <= MAX_DIFFERING, f"{name}: other words than on the CPU")
    tell("words", "all", 8, plan.memory())


def heard(chunks: Sequence[AudioChunk], device: str, dtype: str, graphs: CudaGraphs = "auto") -> str:
    # all of a GPU: memory is counted as for a share of it, and the parts that follow are not bounded
    num_bytes = torch.cuda.get_device_properties(device).total_memory if device == "cuda" else None
    engine = WhisperEngine(
        AsrEngineArgs(resolve(BASE), device, dtype, torch.get_num_threads(), num_bytes, cuda_graphs=graphs)
    )
    answers = run_engine(engine, chunks, 8, DecodingOptions(language="en", word_timestamps=True))
    return "".join(segment.text for answer in answers for segment in answer.segments)


# Steps


@torch.inference_mode()
def steps(plan: Plan, name: str, source: Path) -> None:
    dtype = getattr(torch, plan.dtype)
    model = load_whisper(str(source), dtype).model.eval().to(plan.device)  # type: ignore[arg-type]
    network = WhisperNetwork(model, Precision(dtype, dtype), alignment_heads(model))
    shape = (model.config.num_mel_bins, 2 * model.config.max_source_positions)
    del model
    for num_windows in sorted({1, min(16, max(plan.rows))}):
        features = torch.randn(num_windows, *shape, device=plan.device)
        encode_s = plan_s(plan, lambda features=features: network.encode(features))  # type: ignore[misc]
        tell("encoder", name, num_windows, f"{1e3 * encode_s:.2f} ms, {num_windows / encode_s:.1f} windows/s")
    slots = Slots(network.slot_shape, max(plan.rows))
    recorder = GraphRecorder(plan.device) if plan.is_gpu else None
    for num_rows in plan.rows:
        rows = slice(0, num_rows)
        slots.lengths = []
        slots.take(num_rows)
        for row in range(num_rows):
            network.listen(network.encode(torch.randn(1, *shape, device=plan.device)), slots, slice(row, row + 1))
        tell("step", name, num_rows, one_step(plan, network, slots, rows, recorder))
    tell("steps", name, "all", plan.memory())


def one_step(plan: Plan, network: WhisperNetwork, slots: Slots, rows: slice, recorder: GraphRecorder | None) -> str:
    """`recorder`: where there is none, a step is done again as it was."""
    tokens = list(range(400, 400 + rows.stop))
    record = recorder or (lambda compute: compute)
    plain, recorded = PlainStep(network, slots), RecordedStep(network, slots, lambda: record)

    def again(step: Callable[[Sequence[int]], torch.Tensor]) -> torch.Tensor:
        slots.lengths[rows] = [TYPICAL_LENGTH] * rows.stop
        return step(tokens)

    expected, _ = again(plain).clone(), again(recorded)
    apart = float((again(recorded) - expected).abs().max() / expected.abs().max())
    plain_s, recorded_s = (plan_s(plan, lambda step=step: again(step)) for step in (plain, recorded))  # type: ignore[misc]
    check(recorded.is_on, f"{rows.stop} rows: no graph")
    name = "graph" if recorder else "done again"
    return f"plain {1e3 * plain_s:.2f} ms, {name} {1e3 * recorded_s:.2f} ms, logits {apart:.1e} of the largest apart"


def plan_s(plan: Plan, work: Callable[[], object]) -> float:
    def whole() -> None:
        work()
        plan.synchronise()

    return median_s(whole, plan.num_rounds)


# Engine


def engine(plan: Plan, name: str, source: Path) -> None:
    made = WhisperEngine(AsrEngineArgs(str(source), plan.device.type, plan.dtype, torch.get_num_threads()))
    for num_rows in plan.rows:
        run_engine(made, noise(num_rows), num_rows, ANSWER)  # graphs are recorded
        chunks = noise(max(2 * num_rows, 4))
        started_at = time.perf_counter()
        run_engine(made, chunks, num_rows, ANSWER)
        wall_s = time.perf_counter() - started_at
        rate = len(chunks) / wall_s
        tell("engine", name, num_rows, f"{rate * MAX_CHUNK_S:.0f} audio s/s, {rate:.2f} requests/s")
    if plan.is_gpu:
        tell("engine", name, 2, f"{waits_of_a_step(made)} wait(s) for the GPU in a step")
    tell("engine", name, "all", plan.memory())


def waits_of_a_step(made: WhisperEngine) -> int:
    for number, chunk in enumerate(noise(2)):
        made.add(f"counted {number}", chunk, ANSWER)
    for _ in range(4):
        made.step()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True, action="always") as told:
            made.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for number in range(2):
        made.abort(f"counted {number}")
    return len(told)


def noise(num_windows: int) -> list[AudioChunk]:
    generator, length = np.random.default_rng(num_windows), round(MAX_CHUNK_S * SAMPLE_RATE_HZ)
    speech = (SpeechSegment(0.0, MAX_CHUNK_S),)
    return [
        AudioChunk(number, 0.0, Waveform(generator.normal(scale=0.1, size=length).astype(np.float32)), speech)
        for number in range(num_windows)
    ]


# Served


def served(plan: Plan) -> None:
    files = {path: path.read_bytes() for path in plan.files}
    audio_s = {path: chunk_s(path) for path in files}
    with serving(BASE, plan.device.type) as url:
        asyncio.run(load(url, "whisper-1", files, max(plan.clients), 2 * max(plan.clients)))
        for num_clients in plan.clients:
            num_requests = max(4 * num_clients, len(files))
            started_at = time.perf_counter()
            outcomes = asyncio.run(load(url, "whisper-1", files, num_clients, num_requests))
            wall_s = time.perf_counter() - started_at
            seconds = [outcome.seconds for outcome in outcomes]
            heard_s = sum(audio_s.values()) * num_requests / len(files)
            found = f"{num_requests / wall_s:.1f} requests/s, {heard_s / wall_s:.0f} audio s/s"
            found += f", p50 {percentile(seconds, 0.5):.3f} s, p95 {percentile(seconds, 0.95):.3f} s"
            num_errors = sum(outcome.is_error for outcome in outcomes)
            tell("served", f"whisper-base, {num_clients} client(s)", 64, f"{found}, {num_errors} errors")
            check(not num_errors, f"{num_errors} of {num_requests} requests failed")


def chunk_s(path: Path) -> float:
    return sum(chunk.waveform.duration_s for chunk in read_chunks([path]))


# All of it


def check(is_right: bool, fault: str) -> None:
    """
    Raises:
        ArithmeticError: what was found is not right.
    """
    if not is_right:
        raise ArithmeticError(fault)


@contextmanager
def failing(part: str, failed: list[str]) -> Iterator[None]:
    started_at = time.perf_counter()
    try:
        yield
    except Exception as error:
        failed.append(part)
        traceback.print_exc()
        tell(part, "", "", f"**failed**: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    tell(part, "", "", f"took {time.perf_counter() - started_at:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a small random model, and little of everything")
    parser.add_argument("--parts", nargs="+", default=["words", "shapes", "served"], help="by default all of these")
    options = parser.parse_args()
    plan = (quick if options.quick else full)(torch.device(options.device))
    torch.set_num_threads(1)  # of the CPU: others may be at work there
    name = torch.cuda.get_device_name() if plan.is_gpu else "CPU"
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}\n")
    print("| part | of | rows | found |\n|---|---|---|---|", flush=True)
    failed: list[str] = []
    if "words" in options.parts:
        with failing("words", failed):
            words(plan)
    for shape in plan.shapes if "shapes" in options.parts else ():
        with tempfile.TemporaryDirectory() as directory, failing(shape, failed):
            save_random_whisper(shape, Path(directory), plan.device, getattr(torch, plan.dtype))
            steps(plan, shape, Path(directory))
            engine(plan, shape, Path(directory))
    if "served" in options.parts:
        with failing("served", failed):
            served(plan)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
