"""Other engines on the same weights and windows, for a race side by side. Needs the extra benchmark."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from faster_whisper import BatchedInferencePipeline, WhisperModel


def faster_whisper(
    source: str, compute_type: str, num_threads: int, language: str, words: bool
) -> Callable[[Sequence[Path], int], str]:
    """faster-whisper's batched pipeline with its own voice activity detection, greedy, on a CTranslate2 directory."""
    with tempfile.TemporaryDirectory() as directory:
        complete(Path(source), Path(directory))
        model = WhisperModel(directory, device="cpu", compute_type=compute_type, cpu_threads=num_threads)
    pipeline = BatchedInferencePipeline(model)

    def run(paths: Sequence[Path], batch_size: int) -> str:
        texts = []
        for path in paths:
            segments, _ = pipeline.transcribe(
                str(path), language=language, beam_size=1, batch_size=batch_size, word_timestamps=words
            )
            texts += [segment.text for segment in segments]
        return " ".join(texts)

    return run


def complete(source: Path, directory: Path) -> None:
    """The embedded checkpoint has no list of its tokens, which faster-whisper asks for."""
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (directory / name).symlink_to(source / name)
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokens = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    tokens |= {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    size = max(tokens) + 1
    times = [f"<|{step / 50:.2f}|>" for step in range(1_501)]
    (directory / "vocabulary.json").write_text(json.dumps([*(tokens[number] for number in range(size)), *times]))
