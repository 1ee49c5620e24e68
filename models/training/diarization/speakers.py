"""Recordings of single speakers: where in them there is speech, and all of them in one file."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deployments.audio.silero import SileroModel, SileroStream
from models.training.corpus import librispeech
from models.training.corpus.conversations import LOUDNESS, Recording, Region, Voice
from models.training.corpus.grammar import LANGUAGES, sentence
from models.training.corpus.parallel import in_processes
from models.training.corpus.pitch import repitch
from models.training.corpus.synthesis import speak
from models.training.corpus.utterances import SAMPLE_RATE
from models.training.corpus.voices import BASES
from pipelines.types import VadOptions
from pipelines.vad import SpeechDetector

Samples = NDArray[np.float32]
Recordings = Mapping[str, Sequence[Recording]]

# what Silero VAD calls speech in clean recordings is what the networks learn to call speech
PAUSE_MS, PADDING_MS = 200, 20

SHORTEST_VOICE_S = 2.0


def recording(samples: Samples) -> Recording | None:
    """Find the speech in samples of shape (length,); None if there is none."""
    regions = _regions(samples)
    if not regions:
        return None
    power = np.concatenate([samples[start:end] for start, end in regions]) ** 2
    levelled = samples * (LOUDNESS / np.sqrt(power.mean()))
    return Recording((np.clip(levelled, -1, 1) * 32767).astype(np.int16), tuple(regions))


def synthetic(variants: Sequence[str], utterances: int, seed: int, processes: int = 1) -> Recordings:
    """So many utterances of each of espeak-ng's variants, each in any of the four languages.

    Every variant has one pitch and one speed of its own, so that it is one speaker.
    """
    spoken = in_processes(partial(_speak, utterances=utterances, seed=seed), variants, processes)
    return dict(zip(variants, tqdm(spoken, "voices", len(variants)), strict=True))


def readers(folder: Path, most_readers: int, most_utterances: int, processes: int = 1) -> Recordings:
    """LibriSpeech's.

    Raises:
        ValueError: some are held out, or there are none.
    """
    files = dict(sorted(librispeech.training_files(folder, most_utterances).items())[:most_readers])
    read = in_processes(_read, list(files.values()), processes)
    return dict(zip(files, tqdm(read, "readers", len(files)), strict=True))


def at_pitches(recordings: Recordings, ratios: Sequence[float], processes: int = 1) -> Recordings:
    """The same, and each recording also with its pitch times each of `ratios`."""
    moved = in_processes(partial(_at_pitches, ratios=ratios), list(recordings.values()), processes)
    return dict(zip(recordings, tqdm(moved, "pitches", len(recordings)), strict=True))


def stored(path: Path, order: str, make: Callable[[], Recordings]) -> Recordings:
    """What `make` makes, kept in a file: made once, read afterwards, made again for another order."""
    if not path.exists() or _order(path) != order:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part.npz")
        _save(temporary, order, make())
        temporary.replace(path)
    with np.load(path) as arrays:
        return _load(arrays)


def voices(recordings: Recordings, speeds: Iterable[float]) -> list[Voice]:
    """A voice for each speaker and speed; not for those who say next to nothing in each of their recordings."""
    known = [tuple(heard) for _, heard in sorted(recordings.items()) if _longest_s(heard) > SHORTEST_VOICE_S]
    return [Voice(heard, speed) for speed in speeds for heard in known]


def split(recordings: Recordings, every: int) -> tuple[Recordings, Recordings]:
    """Those to train on, and one speaker in `every` who is kept back."""
    kept_back = set(sorted(recordings)[::every])
    rest = {name: heard for name, heard in recordings.items() if name not in kept_back}
    return rest, {name: recordings[name] for name in kept_back}


def _longest_s(heard: Sequence[Recording]) -> float:
    return max((sum(end - start for start, end in one.regions) for one in heard), default=0) / SAMPLE_RATE


def _speak(variant: str, utterances: int, seed: int) -> list[Recording]:
    random = Random(f"{variant} {seed}")
    pitch, rate = random.randrange(35, 66), random.randrange(130, 190)
    found = (recording(_utterance(random, variant, pitch, rate)) for _ in range(utterances))
    return [one for one in found if one is not None]


def _utterance(random: Random, variant: str, pitch: int, rate: int) -> Samples:
    language = random.choice(LANGUAGES)
    base = random.choice(BASES[language])
    text = " ".join(sentence(random).texts[language] for _ in range(random.choice((1, 1, 2))))
    return speak(text, f"{base}+{variant}", rate=rate, pitch=pitch).samples


def _read(paths: Sequence[Path]) -> list[Recording]:
    found = (recording(librispeech.read(path)) for path in paths)
    return [one for one in found if one is not None]


def _at_pitches(heard: Sequence[Recording], ratios: Sequence[float]) -> list[Recording]:
    return [*heard, *(_at_pitch(one, ratio) for one in heard for ratio in ratios)]


def _at_pitch(one: Recording, ratio: float) -> Recording:
    moved = repitch(one.samples.astype(np.float32) / np.float32(32768), ratio)
    return Recording((np.clip(moved, -1, 1) * 32767).astype(np.int16), one.regions)


def _regions(samples: Samples) -> list[Region]:
    """By the server's detector. Silence behind the samples ends the last one."""
    frames = SileroStream(_silero()).push(np.pad(samples, (0, SAMPLE_RATE)))
    options = VadOptions(prefix_padding_ms=PADDING_MS, silence_duration_ms=PAUSE_MS)
    # the detector lets speech go on into the pause that ended it
    excess_s = (PAUSE_MS - PADDING_MS) / 1000
    found = ((segment.start_s, segment.end_s - excess_s) for segment in SpeechDetector(options).push(frames.tolist()))
    return [(int(start * SAMPLE_RATE), min(len(samples), int(end * SAMPLE_RATE))) for start, end in found]


@cache
def _silero() -> SileroModel:
    return SileroModel()


def _order(path: Path) -> str:
    with np.load(path) as arrays:
        return str(arrays["order"])


def _save(path: Path, order: str, recordings: Recordings) -> None:
    flat = [(name, one) for name, heard in recordings.items() for one in heard]
    regions = [(place, *region) for place, (_, one) in enumerate(flat) for region in one.regions]
    np.savez(
        path,
        order=order,
        names=np.array([name for name, _ in flat]),
        ends=np.cumsum([len(one.samples) for _, one in flat]),
        regions=np.array(regions, np.int64),
        samples=np.concatenate([one.samples for _, one in flat]),
    )


def _load(arrays: Mapping[str, NDArray[Any]]) -> Recordings:
    regions: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for place, start, end in arrays["regions"].tolist():
        regions[place].append((start, end))
    recordings: dict[str, list[Recording]] = defaultdict(list)
    parts = np.split(arrays["samples"], arrays["ends"][:-1])
    for place, (name, samples) in enumerate(zip(arrays["names"].tolist(), parts, strict=True)):
        recordings[name].append(Recording(samples, tuple(regions[place])))
    return recordings
