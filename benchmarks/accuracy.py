"""How well does a checkpoint transcribe the clips of a manifest?

    python -m benchmarks.accuracy --source embedded:whisper-base --clips tests/data/clips.json

The manifest maps file names to {"language", "text"}. With --peak-dbfs each is first made as quiet as that; it is kept
with 16 bits. Word error rate ignores case and punctuation; the one after
Whisper's own normaliser, for English only, also how numbers, titles and contractions are written, but takes British and
American spelling for different words. Needs the extra test (jiwer).
"""

import argparse
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import jiwer
import numpy as np
import soundfile
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from benchmarks.engine import chunks_of
from benchmarks.scoring import normalise, word_error_rate
from deployments.asr.engine import ENGINES, AsrEngine, AsrEngineArgs, AsrOutput
from deployments.audio.silero import SileroModel
from deployments.engines import load_engine
from models.sources import resolve
from pipelines.transcript_types import ChunkTranscript, DecodingOptions


def at_peak(path: Path, peak_dbfs: float) -> bytes:
    samples, sample_rate_hz = soundfile.read(path, dtype="float32")
    buffer = io.BytesIO()
    gain = 10 ** (peak_dbfs / 20) / np.abs(samples).max()
    soundfile.write(buffer, samples * gain, sample_rate_hz, "PCM_16", format="FLAC")
    return buffer.getvalue()


def transcribe(engine: AsrEngine, upload: bytes, language: str | None) -> list[ChunkTranscript]:
    transcripts: list[ChunkTranscript] = []
    for chunk in chunks_of(upload, SileroModel()):
        engine.add("chunk", chunk, DecodingOptions(language=language))
        outputs: list[AsrOutput] = []
        while not outputs:
            outputs = engine.step()
        transcripts += [output.result for output in outputs if isinstance(output.result, ChunkTranscript)]
    return transcripts


def whisper_word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Of English, after the normaliser by which Whisper's own figures are measured, without its table of spellings."""
    same = EnglishTextNormalizer({})
    return float(jiwer.wer([same(text) for text in references], [same(text) for text in hypotheses]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="embedded:whisper-base")
    parser.add_argument("--clips", type=Path, default=Path("tests/data/clips.json"))
    parser.add_argument("--tell-language", action="store_true", help="give the engine the clips' languages")
    parser.add_argument("--padding-s", type=float, help="of silence that is encoded behind a chunk; else all that fits")
    parser.add_argument("--peak-dbfs", type=float, help="of each clip; else as loud as it is")
    options = parser.parse_args()
    args = AsrEngineArgs(resolve(options.source), padding_s=options.padding_s)
    engine = load_engine("transformers", ENGINES)(args)
    rows: dict[str, list[tuple[str, str, bool]]] = defaultdict(list)
    for name, clip in json.loads(options.clips.read_text()).items():
        told = clip["language"] if options.tell_language else None
        path = options.clips.parent / name
        upload = path.read_bytes() if options.peak_dbfs is None else at_peak(path, options.peak_dbfs)
        transcripts = transcribe(engine, upload, told)
        heard = "".join(segment.text for transcript in transcripts for segment in transcript.segments)
        is_language = all(transcript.language == clip["language"] for transcript in transcripts)
        rows[clip["language"]].append((clip["text"], heard, is_language))
    print(f"{'language':>8} {'clips':>6} {'WER':>7} {'Whisper WER':>12} {'exact':>7} {'language right':>15}")
    for language, results in rows.items():
        truth, heard_texts, detected = zip(*results, strict=True)
        error = word_error_rate(truth, heard_texts)
        own = f"{whisper_word_error_rate(truth, heard_texts):.3f}" if language == "en" else ""
        exact = sum(normalise(a) == normalise(b) for a, b in zip(truth, heard_texts, strict=True)) / len(results)
        right = sum(detected) / len(results)
        print(f"{language:>8} {len(results):>6} {error:>7.3f} {own:>12} {exact:>7.0%} {right:>15.0%}")


if __name__ == "__main__":
    main()
