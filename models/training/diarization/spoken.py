"""Conversations to measure by: samples, and who speaks when."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment, Timeline

from models.training.corpus.conversations import Manner, Voice, converse
from models.training.corpus.utterances import SAMPLE_RATE
from models.training.diarization.material import Backgrounds, Groups
from pipelines.audio import to_pcm
from pipelines.types import AudioWindow

Samples = NDArray[np.float32]

DURATION_S = (45, 90)
SPEAKERS = (2, 3, 2, 4, 1, 3, 2, 5)
BACKGROUND_DB = (20, 40)


@dataclass(frozen=True, slots=True)
class Spoken:
    """samples: in [-1, 1] at 16 kHz, shape (length,)."""

    name: str
    samples: Samples
    turns: Annotation

    @property
    def file(self) -> dict[str, Any]:
        """As pyannote.audio takes it; it adds to it what it likes."""
        return {"waveform": torch.from_numpy(self.samples)[None], "sample_rate": SAMPLE_RATE, "uri": self.name}

    @property
    def window(self) -> AudioWindow:
        """As the server's engine takes it."""
        return AudioWindow(0, 0.0, to_pcm(self.samples))

    @property
    def extent(self) -> Timeline:
        """All of it, which is what is scored."""
        return Timeline([Segment(0.0, len(self.samples) / SAMPLE_RATE)])


def conversations(groups: Groups, backgrounds: Backgrounds, count: int, seed: int) -> list[Spoken]:
    """So many of these kinds of voices in turn, with one to five speakers each."""
    random = Random(seed)
    kinds = list(groups)
    spoken = []
    for place in range(count):
        kind, number = kinds[place % len(kinds)], SPEAKERS[place // len(kinds) % len(SPEAKERS)]
        present = random.sample(groups[kind], min(number, len(groups[kind])))
        spoken.append(_conversation(random, f"{kind}-{place}", present, backgrounds))
    return spoken


def _conversation(random: Random, name: str, voices: Sequence[Voice], backgrounds: Backgrounds) -> Spoken:
    samples, turns = converse(random, voices, random.uniform(*DURATION_S), Manner())
    samples = backgrounds.add(random, samples, random.uniform(*BACKGROUND_DB))
    annotation = Annotation(uri=name)
    for number, turn in enumerate(turns):
        annotation[Segment(turn.start_s, turn.end_s), number] = turn.speaker
    return Spoken(name, samples / max(1.0, float(np.abs(samples).max())), annotation)
