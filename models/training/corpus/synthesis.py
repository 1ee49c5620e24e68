"""From sentences to a corpus: many voices, speeds and pitches, synthesised once and kept on disk."""

import json
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random

import numpy as np
import soxr
from numpy.typing import NDArray
from tqdm import tqdm

from models.training.corpus import flite
from models.training.corpus.espeak import Espeak
from models.training.corpus.grammar import LANGUAGES, LEXICON, free_words, sentence
from models.training.corpus.invented import INVENTED, variant
from models.training.corpus.parallel import in_processes
from models.training.corpus.split import is_held_out
from models.training.corpus.utterances import SAMPLE_RATE, Corpus, CorpusWriter, Utterance
from models.training.corpus.voices import FLITE, HELD_OUT_VOICES, TRAINING_VOICES

Voices = Mapping[str, Sequence[str]]
Samples = NDArray[np.float32]

CHUNK = 50  # utterances drawn from one seed, so that the number of processes does not change what is said
SHARES = {"en": 0.34, "de": 0.22, "es": 0.22, "fr": 0.22}
# of the utterances of a language that has such voices: flite's are four, espeak-ng's variants many
FLITE_SHARE, PLAIN_SHARE, INVENTED_SHARE = 0.25, 0.12, 0.33
FREE_SHARES = {"en": 0.35, "de": 0.2, "es": 0.2, "fr": 0.2}  # random words instead of a sentence
SHORTEST_S, LONGEST_S = 0.25, 9.0
PEAK = 0.7
QUIET = 0.004  # what is quieter than this at the ends is cut off


@dataclass(frozen=True, slots=True)
class Speech:
    """A spoken text at 16 kHz, without the silence around it, peak 0.7.

    Attributes:
        samples: shape (length,).
        words: (word with its punctuation, start, end) in seconds.
        phones: (espeak-ng's mnemonic, start) in seconds.
    """

    samples: Samples
    words: list[tuple[str, float, float]]
    phones: list[tuple[str, float]]


def speak(text: str, voice: str, rate: int = 160, pitch: int = 50, pitch_range: int = 50, word_gap: int = 0) -> Speech:
    """Speak a text with a voice of `voices.py`.

    flite takes its speed from `rate` (160 is its own); it has no pitch range and no word gap, and tells when its
    phones begin but not when its words do, so that words share the time in proportion to their letters.

    Raises:
        ValueError: espeak-ng does not know the voice, or nothing was said.
    """
    if voice.startswith("flite:"):
        hertz = 0 if pitch == 50 else 80 + int(1.5 * pitch)
        samples, own_rate, phones = flite.say(text, voice.removeprefix("flite:"), 160 / rate, hertz)
        starts = _starts_by_letters(text, phones)
    else:
        espeak = _espeak()
        said = espeak.say(text, voice, rate, pitch, pitch_range, word_gap)
        samples, own_rate, phones = said.samples, espeak.sample_rate, said.phones
        starts = _starts_by_events(text, said.words, len(samples) / own_rate)
    return _trimmed(soxr.resample(samples, own_rate, SAMPLE_RATE), text, starts, phones)


def build(
    folder: Path,
    count: int,
    seed: int,
    *,
    held_out: bool = False,
    voices: Voices | None = None,
    processes: int = 1,
) -> Corpus:
    """The corpus in `folder`: synthesised if it is not there yet, else opened.

    Args:
        count: utterances.
        held_out: only sentences kept for evaluation, spoken by voices that are; else none of them.
        voices: the voices to use instead, by language.
    """
    voices = voices or (HELD_OUT_VOICES if held_out else TRAINING_VOICES)
    order = {
        "edition": _edition(),
        "count": count,
        "seed": seed,
        "held_out": held_out,
        "voices": {k: list(v) for k, v in voices.items()},
    }
    done = folder / "order.json"
    if not done.exists() or json.loads(done.read_text()) != order:
        # never written over: somebody may have it mapped
        shutil.rmtree(folder, ignore_errors=True)
        chunks = [(seed * 1_000_003 + first, min(CHUNK, count - first)) for first in range(0, count, CHUNK)]
        work = partial(_synthesise, held_out=held_out, voices=voices)
        with CorpusWriter(folder) as writer, tqdm(total=count, unit="utterance", desc="synthesis") as progress:
            for chunk in in_processes(work, chunks, processes):
                for utterance, samples in chunk:
                    writer.add(utterance, samples)
                progress.update(len(chunk))
        done.write_text(json.dumps(order))
    return Corpus(folder)


@cache
def _edition() -> int:
    """Another one when the lexicon or the invented voices are changed."""
    words = b"".join(path.read_bytes() for path in sorted(LEXICON.iterdir()))
    return zlib.crc32(words + "".join(variant(name) for name in INVENTED).encode())


Spoken = list[tuple[Utterance, Samples]]


def _synthesise(chunk: tuple[int, int], held_out: bool, voices: Voices) -> Spoken:
    seed, count = chunk
    random = Random(seed)
    spoken: Spoken = []
    while len(spoken) < count:
        utterance, samples = _draw(random, held_out, voices)
        if utterance is not None and SHORTEST_S < len(samples) / SAMPLE_RATE < LONGEST_S:
            spoken.append((utterance, samples))
    return spoken


def _draw(random: Random, held_out: bool, voices: Voices) -> tuple[Utterance | None, Samples]:
    language = random.choices(LANGUAGES, [SHARES[name] for name in LANGUAGES])[0]
    if language not in voices:
        return None, np.zeros(0, np.float32)
    if not held_out and random.random() < FREE_SHARES[language]:
        text, english, numbers = free_words(random, language), None, None
        texts = [text]
    else:
        drawn = sentence(random)
        text, english, numbers = drawn.texts[language], drawn.texts["en"], drawn.numbers
        # held out is the sentence as it is spoken; kept from training is every translation of it, too
        texts = [text] if held_out else list(drawn.texts.values())
    if is_held_out(texts) != held_out:
        return None, np.zeros(0, np.float32)
    voice = _voice(random, voices[language])
    speech = speak(
        text,
        voice,
        rate=random.randrange(115, 205),
        pitch=random.randrange(20, 85),
        pitch_range=random.randrange(20, 90),
        word_gap=random.choice((0, 0, 0, 2, 4)),
    )
    utterance = Utterance(language, voice, text, english, numbers, speech.words, speech.phones, 0, 0)
    return utterance, speech.samples


def _voice(random: Random, voices: Sequence[str]) -> str:
    groups, shares = _groups(tuple(voices))
    return random.choice(random.choices(groups, shares)[0])


@cache
def _groups(voices: tuple[str, ...]) -> tuple[list[list[str]], list[float]]:
    """The voices of each kind that there are any of, and the kind's share."""
    by_flite = [voice for voice in voices if voice in FLITE and flite.is_installed()]
    plain = [voice for voice in voices if voice not in FLITE and "+" not in voice]
    invented = [voice for voice in voices if voice.partition("+")[2] in INVENTED]
    variants = [voice for voice in voices if "+" in voice and voice not in invented]
    left = 1 - FLITE_SHARE - PLAIN_SHARE - INVENTED_SHARE
    groups = [(by_flite, FLITE_SHARE), (plain, PLAIN_SHARE), (invented, INVENTED_SHARE), (variants, left)]
    present = [(group, share) for group, share in groups if group]
    return [group for group, _ in present], [share for _, share in present]


@cache
def _espeak() -> Espeak:
    return Espeak()


def _starts_by_events(text: str, events: list[tuple[int, float]], end_s: float) -> list[float]:
    """When each word of the text starts. espeak-ng says some words in one breath; those share its time by letters."""
    places, times = [0], [0.0]
    for place, start in events:
        if place == places[-1]:
            times[-1] = start
        elif place > places[-1] and start >= times[-1]:
            places.append(place)
            times.append(start)
    return [float(start) for start in np.interp(_first_characters(text), [*places, len(text)], [*times, end_s])]


def _starts_by_letters(text: str, phones: list[tuple[str, float]]) -> list[float]:
    sounding = [start for name, start in phones if name != "_"]
    letters = np.cumsum([0] + [sum(character.isalpha() for character in word) for word in text.split()])
    places = letters[:-1] / max(1, letters[-1]) * len(sounding)
    return [float(start) for start in np.interp(places, np.arange(len(sounding)), sounding)]


def _first_characters(text: str) -> list[int]:
    places, place = [], 0
    for word in text.split():
        place = text.index(word, place)
        places.append(place)
        place += len(word)
    return places


def _trimmed(samples: Samples, text: str, starts: list[float], phones: list[tuple[str, float]]) -> Speech:
    loud = np.nonzero(np.abs(samples) > QUIET)[0]
    if len(loud) == 0:
        raise ValueError(f"nothing was said for {text!r}")
    first, last = int(loud[0]), int(loud[-1]) + 1
    begin, duration = first / SAMPLE_RATE, (last - first) / SAMPLE_RATE
    times = [min(max(0.0, start - begin), duration) for start in [*starts, begin + duration]]
    words = [
        (word, round(start, 4), round(end, 4))
        for word, start, end in zip(text.split(), times[:-1], times[1:], strict=True)
    ]
    part = samples[first:last]
    return Speech(
        samples=(part * (PEAK / np.abs(part).max())).astype(np.float32),
        words=words,
        phones=[(name, round(max(0.0, start - begin), 4)) for name, start in phones],
    )
