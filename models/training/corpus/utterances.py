"""A corpus on disk: one file of 16 kHz samples, one line of JSON for each utterance."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000


@dataclass(frozen=True, slots=True)
class Utterance:
    """One spoken sentence. Times are seconds from its first sample.

    Attributes:
        language: `en`, `de`, `es` or `fr`.
        voice: the synthesiser's voice, as `voices.py` names it.
        text: what was said.
        english: the same in English; None where the text is no sentence of the grammar.
        numbers: the numbers that the sentence says, in order; None where it is no sentence of the grammar.
        words: (word, start, end); the words joined by blanks are the text.
        phones: (name, start) in espeak-ng's mnemonics; "_" is a pause.
        start: where its samples begin in the corpus, and `length` how many they are.
    """

    language: str
    voice: str
    text: str
    english: str | None
    numbers: list[int] | None
    words: list[tuple[str, float, float]]
    phones: list[tuple[str, float]]
    start: int
    length: int

    @property
    def duration_s(self) -> float:
        return self.length / SAMPLE_RATE


class Corpus(Sequence[Utterance]):
    """What `CorpusWriter` wrote: the utterances in memory, their samples mapped from the disk."""

    def __init__(self, folder: Path) -> None:
        with (folder / "utterances.jsonl").open(encoding="utf-8") as lines:
            self._utterances = [_read(line) for line in lines]
        self._samples = np.memmap(folder / "samples.pcm", dtype=np.int16, mode="r")

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # int or slice
        return self._utterances[index]

    def __len__(self) -> int:
        return len(self._utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self._utterances)

    def samples(self, utterance: Utterance) -> NDArray[np.float32]:
        """The utterance's waveform in [-1, 1], shape (length,), peak 0.7."""
        part = self._samples[utterance.start : utterance.start + utterance.length]
        return part.astype(np.float32) / np.float32(32767)


class CorpusWriter:
    """Appends utterances to a folder; `samples.pcm` grows by each one's int16 samples."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = (folder / "utterances.jsonl").open("w", encoding="utf-8")
        self._samples = (folder / "samples.pcm").open("wb")
        self._position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._samples.close()

    def add(self, utterance: Utterance, samples: NDArray[np.float32]) -> None:
        record = asdict(utterance) | {"start": self._position, "length": len(samples)}
        self._lines.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._samples.write((samples * 32767).astype(np.int16).tobytes())
        self._position += len(samples)


def _read(line: str) -> Utterance:
    record = json.loads(line)
    record["words"] = [tuple(word) for word in record["words"]]
    record["phones"] = [tuple(phone) for phone in record["phones"]]
    return Utterance(**record)
