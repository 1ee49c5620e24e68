"""All that the two networks hear: voices of three kinds, meetings, and what is in the background."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from models.training.corpus.acoustics import noise
from models.training.corpus.conversations import Voice
from models.training.corpus.utterances import SAMPLE_RATE
from models.training.diarization import speakers
from models.training.diarization.held_out import TRAINING_VARIANTS
from models.training.diarization.meetings import Meeting, participants
from models.training.diarization.meetings import read as read_meetings
from models.training.diarization.settings import Settings
from models.training.diarization.speakers import Recordings

Samples = NDArray[np.float32]
Groups = Mapping[str, Sequence[Voice]]

BACKGROUND_S = 10
P_MEETING_BACKGROUND = 0.4
SEED = 1


@dataclass(frozen=True, slots=True)
class Backgrounds:
    """Noises, and silences of real meetings."""

    noises: Sequence[Samples]
    silences: Sequence[Samples]

    def add(self, random: Random, samples: Samples, ratio_db: float) -> Samples:
        """The samples with a background that is so much weaker than they are."""
        of_meeting = self.silences and random.random() < P_MEETING_BACKGROUND
        background = random.choice(self.silences if of_meeting else self.noises)
        first = random.randrange(len(background))
        cut = np.resize(np.roll(background, -first), len(samples))
        level = _power(samples) * 10 ** (-ratio_db / 20) / _power(cut)
        return np.asarray(samples + np.float32(level) * cut, np.float32)


@dataclass(frozen=True, slots=True)
class Material:
    """voices: to train on, by kind. kept_back: those that are not. meetings: to train on, too."""

    voices: Groups
    kept_back: Groups
    meetings: Sequence[Meeting]
    backgrounds: Backgrounds

    def group(self, random: Random, settings: Settings) -> str:
        """The kind of voices that comes next, by the settings' shares."""
        kinds = list(self.voices)
        return random.choices(kinds, [settings.shares[kind] for kind in kinds])[0]


def gather(
    work: Path, settings: Settings, librispeech: Path | None, meetings: Path | None, processes: int = 1
) -> Material:
    """Synthesise, read and cut all of it; what took time is kept in `work`.

    Raises:
        ValueError: a folder has nothing that is looked for, or something that is held out.
    """
    heard = read_meetings(meetings) if meetings else []
    training: dict[str, list[Voice]] = {}
    kept_back: dict[str, list[Voice]] = {}
    for kind, recordings in _recordings(work, settings, librispeech, processes).items():
        rest, apart = speakers.split(recordings, settings.kept_back)
        if kind == "readers":
            move = partial(speakers.at_pitches, rest, settings.pitches, processes)
            order = f"{settings.pitches}, {_order(settings, librispeech)} without {' '.join(apart)}"
            rest = speakers.stored(work / "pitches.npz", order, move)
        training[kind], kept_back[kind] = speakers.voices(rest, settings.speeds), speakers.voices(apart, [1.0])
    if heard:
        training["meetings"] = speakers.voices(participants(heard), settings.speeds)
    silences = [silence for meeting in heard for silence in meeting.silences()]
    return Material(training, kept_back, heard, Backgrounds(noises(settings.backgrounds), silences))


def noises(count: int) -> list[Samples]:
    """Of `BACKGROUND_S` each, always the same."""
    random = Random(SEED)
    return [noise(random, BACKGROUND_S * SAMPLE_RATE) for _ in range(count)]


def _recordings(work: Path, settings: Settings, librispeech: Path | None, processes: int) -> dict[str, Recordings]:
    variants = TRAINING_VARIANTS[: settings.max_variants]
    synthesise = partial(speakers.synthetic, variants, settings.synthetic_utterances, SEED, processes)
    order = f"{settings.synthetic_utterances} of {' '.join(variants)}"
    found = {"synthetic": speakers.stored(work / "synthetic.npz", order, synthesise)}
    if librispeech:
        read = partial(speakers.readers, librispeech, settings.max_readers, settings.reader_utterances, processes)
        found["readers"] = speakers.stored(work / "readers.npz", _order(settings, librispeech), read)
    return found


def _order(settings: Settings, librispeech: Path | None) -> str:
    """Which readings are stored."""
    where = librispeech and librispeech.resolve()
    return f"{settings.reader_utterances} of {settings.max_readers} in {where}"


def _power(samples: Samples) -> float:
    return float(np.sqrt((samples**2).mean())) + 1e-6
