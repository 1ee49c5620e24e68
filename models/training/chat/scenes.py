"""Recordings for the dialogues: one to three utterances of one language with pauses, or no speech at all."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from models.training.chat.dialogues import Answer, Timed
from models.training.chat.settings import Mix
from models.training.corpus import acoustics
from models.training.corpus.utterances import SAMPLE_RATE, Corpus, Utterance

Kind = Literal["grammar", "number", "free"]
"""Any sentence of the grammar, one that says a number, or word sequences outside of it."""


@dataclass(frozen=True)
class Scene:
    """A recording and what there is to know about it.

    Attributes:
        samples: 16 kHz, shape (n,).
        spoken: (seconds at which it starts, utterance), in order.
        background: "silence", "noise" or "music" where nobody speaks.
    """

    samples: NDArray[np.float32]
    spoken: tuple[tuple[float, Utterance], ...] = ()
    background: str = ""

    @property
    def language(self) -> str:
        return self.spoken[0][1].language

    @property
    def utterances(self) -> list[Utterance]:
        return [utterance for _, utterance in self.spoken]

    @property
    def english(self) -> str | None:
        """All in English; None where a part has no translation."""
        parts = [utterance.english for utterance in self.utterances]
        return None if None in parts else " ".join(part for part in parts if part)

    @cached_property
    def transcript(self) -> Answer:
        """All that is said, with its times."""
        text, timed = "", []
        for start, utterance in self.spoken:
            text += " " if text else ""
            timed += [word.shifted(len(text)) for word in timed_words(utterance, start)]
            text += utterance.text
        return Answer(text, tuple(timed))


def timed_words(utterance: Utterance, start: float) -> list[Timed]:
    """The words of an utterance that begins at `start` seconds, as places in its text."""
    places, position = [], 0
    for word, begins, ends in utterance.words:
        first = utterance.text.index(word, position)
        position = first + len(word)
        places.append(Timed(first, position, start + begins, start + ends))
    return places


class Studio:
    """Makes scenes of a corpus."""

    def __init__(self, corpus: Corpus, mix: Mix) -> None:
        self._corpus, self._mix = corpus, mix
        self._pools: dict[Kind, dict[str, list[Utterance]]] = {kind: defaultdict(list) for kind in get_args(Kind)}
        for utterance in corpus:
            self._pools["free" if utterance.english is None else "grammar"][utterance.language].append(utterance)
            if utterance.numbers:
                self._pools["number"][utterance.language].append(utterance)

    def scene(self, random: Random) -> Scene:
        """A scene as the mix has it."""
        if random.random() < self._mix.no_speech:
            return quiet(random)
        mix = self._mix
        others = 1 - mix.free_words
        shares = {"free": mix.free_words, "number": others * mix.numbers, "grammar": others * (1 - mix.numbers)}
        kinds = [kind for kind, pool in self._pools.items() if pool]
        kind = random.choices(kinds, [shares[kind] for kind in kinds])[0]
        count = random.choices(range(1, len(mix.utterances) + 1), mix.utterances)[0]
        return self.spoken(random, count, kind, disturbed=random.random() < mix.disturbed)

    def spoken(
        self,
        random: Random,
        count: int = 1,
        kind: Kind = "grammar",
        disturbed: bool = False,
        language: str | None = None,
    ) -> Scene:
        """One speaker's language, `count` utterances at most: as many as fit into the longest recording.

        kind: of the first one; one that says a number is followed by any of the grammar.
        """
        language = language or random.choice(list(self._pools[kind]))
        chosen: list[Utterance] = [random.choice(self._pools[kind][language])]
        others = self._pools["free" if kind == "free" else "grammar"][language]
        chosen += random.choices(others, k=count - 1)
        spoken: list[tuple[float, Utterance]] = []
        position = _samples(random.uniform(0, 1) if random.random() < 0.8 else 0)
        for utterance in chosen:
            if spoken and position + utterance.length > _samples(self._mix.longest_s):
                break
            spoken.append((position / SAMPLE_RATE, utterance))
            position += utterance.length + _samples(random.uniform(0.15, 1))
        samples = np.zeros(position + _samples(random.uniform(0, 0.6)), np.float32)
        for start, utterance in spoken:
            first = _samples(start)
            samples[first : first + utterance.length] = self._corpus.samples(utterance)
        return Scene(acoustics.disturb(random, samples) if disturbed else samples, tuple(spoken))


def quiet(random: Random) -> Scene:
    """A scene in which nobody speaks."""
    length = _samples(random.uniform(0.5, 6))
    background = random.choice(("silence", "noise", "noise", "music"))
    if background == "silence":
        return Scene(np.zeros(length, np.float32), background=background)
    make = acoustics.noise if background == "noise" else acoustics.music
    loudness = 10 ** random.uniform(-3, -0.9)
    samples = np.clip(make(random, length) * loudness, -1, 1)
    return Scene(samples.astype(np.float32), background=background)


def _samples(duration_s: float) -> int:
    return round(duration_s * SAMPLE_RATE)
