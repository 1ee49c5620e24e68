"""What a checkpoint is measured on: held-out sentences, spoken at measuring time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from models.training.corpus.grammar import sentence
from models.training.corpus.split import is_held_out
from models.training.corpus.synthesis import speak
from models.training.corpus.utterances import SAMPLE_RATE
from models.training.corpus.voices import HELD_OUT_VOICES, PLAIN_VOICES

SEED = 7
TAIL_S = 0.3


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sentence as it was said; words as (word, start, end) in seconds from its first sample."""

    text: str
    english: str
    samples: NDArray[np.float32]
    words: list[tuple[str, float, float]]


@dataclass(frozen=True, slots=True)
class Clip:
    """Sentences one after the other; `times` are each one's start and end in seconds."""

    samples: NDArray[np.float32]
    sentences: tuple[Spoken, ...]
    times: tuple[tuple[float, float], ...]

    def text(self, task: str) -> str:
        return " ".join(item.english if task == "translate" else item.text for item in self.sentences)


def held_out_sentences(language: str, count: int, is_plain: bool) -> list[Spoken]:
    """`count` sentences that no training corpus has, by espeak-ng's plain voices or by those never trained on."""
    random = Random(f"{SEED} {language}")
    voices = (PLAIN_VOICES if is_plain else HELD_OUT_VOICES)[language]
    texts = _texts(random, language)
    return [_say(random, next(texts), random.choice(voices), is_plain) for _ in range(count)]


def _texts(random: Random, language: str) -> Iterator[tuple[str, str]]:
    """(text, its English)."""
    while True:
        texts = sentence(random).texts
        if is_held_out([texts[language]]):
            yield texts[language], texts["en"]


def _say(random: Random, texts: tuple[str, str], voice: str, is_plain: bool) -> Spoken:
    # other voices speak at about as many speeds and pitches as those of the training corpus
    rate, pitch = (160, 50) if is_plain else (random.randrange(125, 195), random.randrange(25, 80))
    speech = speak(texts[0], voice, rate=rate, pitch=pitch)
    return Spoken(texts[0], texts[1], speech.samples, speech.words)


def lay_out(sentences: Sequence[Spoken], pauses_s: Sequence[float]) -> Clip:
    """The sentences in order, each after its pause."""
    parts: list[NDArray[np.float32]] = []
    times: list[tuple[float, float]] = []
    position = 0
    for item, pause_s in zip(sentences, pauses_s, strict=True):
        start = position + int(pause_s * SAMPLE_RATE)
        parts += [np.zeros(start - position, np.float32), item.samples]
        position = start + len(item.samples)
        times.append((start / SAMPLE_RATE, position / SAMPLE_RATE))
    samples = np.concatenate([*parts, np.zeros(int(TAIL_S * SAMPLE_RATE), np.float32)])
    return Clip(samples, tuple(sentences), tuple(times))
