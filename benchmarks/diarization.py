"""What does diarization cost, where does the time go, and how does memory grow with length?

    python -m benchmarks.diarization --minutes 1 10 60
    python -m benchmarks.diarization --minutes 3 --url http://127.0.0.1:8000
    python -m benchmarks.diarization --minutes 0.5 --source DIRECTORY --stock

Conversations of the tests are joined to the wanted length and looked at as one window, on one CPU thread, each length
in a process of its own, because peak memory is a process' own. Prints one table. With --stock also the same
pipeline as pyannote.audio runs it, with --url also a diarized request and its two halves alone: the server's
transcription with word times, and the diarizer in this process.
"""

import argparse
import io
import multiprocessing
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

from deployments.audio.decode import decode
from pipelines.audio import from_pcm, to_pcm
from pipelines.audio_types import SAMPLE_RATE_HZ, DecodeLimits, PcmSamples

CONVERSATIONS = Path("tests/data/conversations")


@dataclass(frozen=True, slots=True)
class Measurement:
    """Seconds of segmentation, embeddings, and clustering with all else; MiB before and at the peak."""

    steps: tuple[float, ...]
    before_mib: float
    peak_mib: float
    num_speakers: int

    @property
    def seconds(self) -> float:
        return sum(self.steps)


def conversation(minutes: float) -> PcmSamples:
    paths = [*sorted(CONVERSATIONS.glob("tts-*.opus")), *sorted(CONVERSATIONS.glob("libri-*.opus"))]
    parts = [to_pcm(block) for path in paths for block in decode(path.read_bytes(), DecodeLimits())]
    return np.resize(np.concatenate(parts), round(minutes * 60 * SAMPLE_RATE_HZ))


def measure(source: str, minutes: float, batch_size: int, is_stock: bool) -> Measurement:
    import torch

    from deployments.compat.pyannote import embedding_of, put_embedding
    from deployments.diarization.loading import load_pipeline
    from deployments.diarization.shared_trunk import SharedTrunkEmbedding
    from models.sources import resolve

    torch.set_num_threads(1)
    pipeline = load_pipeline(resolve(source))
    pipeline.segmentation_batch_size = pipeline.embedding_batch_size = batch_size
    if not is_stock and SharedTrunkEmbedding.suits(embedding_of(pipeline)):
        put_embedding(pipeline, SharedTrunkEmbedding(embedding_of(pipeline)))
    file = {"waveform": torch.from_numpy(from_pcm(conversation(minutes)))[None], "sample_rate": SAMPLE_RATE_HZ}
    last: dict[str, float] = {}

    def watch(step: str, *_: Any, **__: Any) -> None:
        last[step] = time.perf_counter()

    before_mib = _peak_mib()
    started_at = time.perf_counter()
    output = pipeline(file, hook=watch)
    ended_at = time.perf_counter()
    times = [started_at, last["speaker_counting"], last.get("embeddings", ended_at), ended_at]
    steps = tuple(float(seconds) for seconds in np.diff(times))
    return Measurement(steps, before_mib, _peak_mib(), len(output.speaker_diarization.labels()))


def in_own_process(*arguments: Any) -> Measurement:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def request_seconds(url: str, file: bytes, **fields: str) -> float:
    started_at = time.perf_counter()
    answer = httpx.post(f"{url}/v1/audio/transcriptions", files={"file": file}, data=fields, timeout=3_600)
    answer.raise_for_status()
    return time.perf_counter() - started_at


def print_requests(url: str, model: str, asr_model: str, minutes: float, diarizer_s: float) -> None:
    upload = io.BytesIO()
    soundfile.write(upload, conversation(minutes), SAMPLE_RATE_HZ, format="FLAC")
    file = upload.getvalue()
    timed = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    asr_s = request_seconds(url, file, model=asr_model, **timed)
    both_s = request_seconds(url, file, model=model, response_format="diarized_json", chunking_strategy="auto")
    slower_s = max(asr_s, diarizer_s)
    print(
        f"{minutes:g} min over HTTP: transcription {asr_s:.1f} s, diarizer {diarizer_s:.1f} s, "
        f"diarized request {both_s:.1f} s = {both_s / slower_s:.2f} of the slower half"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="embedded:speaker-diarization", help="of the pipeline")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--stock", action="store_true", help="compare with pyannote.audio's pipeline as it is")
    parser.add_argument("--url", help="a running server, to compare a diarized request with its halves")
    parser.add_argument("--model", default="gpt-4o-transcribe-diarize")
    parser.add_argument("--asr-model", default="whisper-1", help="the same checkpoint under an id with word times")
    options = parser.parse_args()
    print(f"{options.source}, 1 thread, batches of {options.batch_size}; seconds per minute of audio, MiB")
    print(f"{'minutes':>8} {'':>6} {'all':>7} {'segment':>8} {'embed':>7} {'cluster':>8} {'before':>8} {'peak':>8} spk")
    for minutes in options.minutes:
        for is_stock in [False, True] if options.stock else [False]:
            found = in_own_process(options.source, minutes, options.batch_size, is_stock)
            segment, embed, cluster = (seconds / minutes for seconds in found.steps)
            name = "stock" if is_stock else "ours"
            print(
                f"{minutes:>8g} {name:>6} {found.seconds / minutes:>7.2f} {segment:>8.2f} "
                f"{embed:>7.2f} {cluster:>8.2f} {found.before_mib:>8.0f} {found.peak_mib:>8.0f} "
                f"{found.num_speakers:>3}",
                flush=True,
            )
            if options.url and not is_stock:
                print_requests(options.url, options.model, options.asr_model, minutes, found.seconds)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
