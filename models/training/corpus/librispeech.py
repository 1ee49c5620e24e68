"""LibriSpeech, or an excerpt of it: English books read aloud by many people.

V. Panayotov, G. Chen, D. Povey, S. Khudanpur, "LibriSpeech: an ASR corpus based on public domain audio books", 2015,
https://www.openslr.org/12. Licence: CC BY 4.0, to be named where weights trained on it are shipped. It is not part
of the project: whoever has a copy passes its folder.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from models.training.corpus.utterances import SAMPLE_RATE

Samples = NDArray[np.float32]

HELD_OUT_READERS = frozenset({"1688", "1998", "2033", "2414", "2609"})
"""Of test-other; the conversations in `tests/data` are theirs."""


def files_by_reader(folder: Path) -> dict[str, list[Path]]:
    """Reader's number to files, both sorted.

    folder: files `<reader>-<chapter>-<number>.flac`, side by side or in the official folders `<reader>/<chapter>/`.

    Raises:
        ValueError: there are none.
    """
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*-*.flac")):
        files[path.name.split("-")[0]].append(path)
    if not files:
        raise ValueError(f"{folder} has no files <reader>-<chapter>-<number>.flac")
    return dict(files)


def training_files(folder: Path, most: int) -> dict[str, list[Path]]:
    """Up to `most` files of each reader, from all over their chapters.

    Raises:
        ValueError: there are none, or some of a held-out reader.
    """
    files = files_by_reader(folder)
    if held_out := sorted(HELD_OUT_READERS & files.keys()):
        raise ValueError(f"{folder} holds readers {', '.join(held_out)}, who are kept for evaluation")
    return {reader: _spread(paths, most) for reader, paths in files.items()}


def read(path: Path) -> Samples:
    """One file's samples in [-1, 1], shape (length,).

    Raises:
        ValueError: it is not 16 kHz, mono.
    """
    samples, rate = soundfile.read(path, dtype="float32")
    if rate != SAMPLE_RATE or samples.ndim != 1:
        raise ValueError(f"{path} is not {SAMPLE_RATE} Hz, mono")
    return np.asarray(samples, np.float32)


def _spread(paths: list[Path], most: int) -> list[Path]:
    if len(paths) <= most:
        return paths
    return [paths[place] for place in np.linspace(0, len(paths) - 1, most).astype(int)]
