"""What would the machine allow, if there were nothing but Whisper's encoder, or nothing but its memory?

    python -m benchmarks.limit --files tests/data/en-*.flac --threads 1 --batch-size 8

Times the encoder alone and one decoder step, adds up what the windows need of both, and holds the engine against it.
What a step must read (weights, and what all rows look at) divided by the speed of a plain copy is its lower bound.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.engine import read_chunks, run_engine
from deployments.asr.alignment import alignment_heads
from deployments.asr.checkpoints import load_whisper
from deployments.asr.engine import AsrEngineArgs
from deployments.asr.network import WhisperNetwork
from deployments.asr.slots import Slots
from deployments.asr.whisper import WhisperEngine
from deployments.decoding.devices import resolve_precision
from models.sources import resolve
from pipelines.audio_types import MAX_CHUNK_S
from pipelines.transcript_types import DecodingOptions

TYPICAL_LENGTH = 60
"""Tokens that a row has read, in the middle of its answer."""


def median_s(work: Callable[[], object], rounds: int = 7) -> float:
    work()
    seconds = []
    for _ in range(rounds):
        started_at = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started_at)
    return statistics.median(seconds)


def copied_bytes_per_s() -> float:
    """Bytes that a plain sum reads in a second, of far more than the caches hold."""
    block = torch.ones(64_000_000)
    return block.nbytes / median_s(block.sum)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="embedded:whisper-base")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--language", default="en")
    parser.add_argument("--files", type=Path, nargs="+", required=True)
    options = parser.parse_args()
    args = AsrEngineArgs(resolve(options.source), "cpu", options.dtype, options.threads)
    chunks, engine = read_chunks(options.files), WhisperEngine(args)
    decoding = DecodingOptions(language=options.language)
    run_engine(engine, chunks[:1], 1, decoding)
    started_at = time.perf_counter()
    answers = run_engine(engine, chunks, options.batch_size, decoding)
    whole_s = time.perf_counter() - started_at
    num_steps = sum(answer.num_output_tokens for answer in answers) / options.batch_size

    precision = resolve_precision(options.dtype, torch.device("cpu"), torch.float16)
    model = load_whisper(args.source, precision.dtype).model
    network = WhisperNetwork(model, precision, alignment_heads(model))
    features = torch.randn(1, model.config.num_mel_bins, round(MAX_CHUNK_S * 100))
    slots = Slots(network.slot_shape, options.batch_size)
    rows = slots.take(options.batch_size)
    encoded = network.encode(features)
    token_ids = torch.full((options.batch_size, 1), 400)

    def step() -> None:
        slots.lengths[rows] = [TYPICAL_LENGTH] * options.batch_size
        network.logits(network.read(token_ids, slots, rows)[:, 0])

    encode_s, listen_s = (
        median_s(lambda: network.encode(features)),
        median_s(lambda: network.listen(encoded, slots, slice(0, 1))),
    )
    step_s = median_s(step)
    of_a_row = sum(layer.audio_keys[0].nbytes + layer.audio_values[0].nbytes for layer in slots.layers)
    decoder = sum(parameter.numel() for parameter in model.model.decoder.parameters())
    of_a_weight = 1 if precision.has_int8_weights else precision.dtype.itemsize
    read_bytes = options.batch_size * of_a_row + decoder * of_a_weight
    bound_s = read_bytes / copied_bytes_per_s()
    audio_s = sum(chunk.waveform.duration_s for chunk in chunks)
    windows = len(chunks)
    print(f"{options.source}, {options.dtype}, {options.threads} thread(s), batch {options.batch_size}")
    print(f"{windows} windows, {audio_s:.0f} s of audio, {num_steps:.0f} full steps\n")
    print("| | s a window or step | s in all | audio s/s alone |\n|---|---|---|---|")
    parts = {
        "encoder": (encode_s, encode_s * windows),
        "keys and values of what was heard": (listen_s, listen_s * windows),
        "decoder, by its steps": (step_s, step_s * num_steps),
        "decoder, by what it must read": (bound_s, bound_s * num_steps),
    }
    for name, (one_s, all_s) in parts.items():
        print(f"| {name} | {one_s:.4f} | {all_s:.2f} | {audio_s / all_s:.1f} |")
    print(f"| the engine | | {whole_s:.2f} | {audio_s / whole_s:.1f} |\n")
    print(f"share of the encoder's bound: {encode_s * windows / whole_s:.2f}")
    both_s = sum(parts[name][1] for name in list(parts)[:2]) + parts["decoder, by what it must read"][1]
    print(f"share of the bound by encoder and memory: {both_s / whole_s:.2f}")


if __name__ == "__main__":
    main()
