"""Voices that espeak-ng does not have: variants with settings of our own drawing.

A recogniser that has heard a few dozen variants fails on the next one that is unlike them. Hundreds with vocal tracts,
strengths and qualities at random leave it less to be surprised by (domain randomisation: Tobin et al. 2017). The ranges
are about those of espeak-ng's own variants; its documentation of voices says what the settings do.
"""

from collections.abc import Iterator
from random import Random

INVENTED = tuple(f"invented{number}" for number in range(1_200))

P_ODD_FORMANT = 0.2
"""That one of the three formants which make the vowels is far from its usual place."""


def variant(name: str) -> str:
    """The text of an invented variant's file; a name always means the same voice."""
    random = Random(name)
    lines = ["language variant", f"name {name}", *_formants(random), _pitch(random), *_quality(random)]
    return "\n".join(lines) + "\n"


def _formants(random: Random) -> Iterator[str]:
    """Per cent of the usual frequency, strength and width."""
    tract = random.uniform(0.82, 1.22)
    for place in range(9):
        is_vowel = 1 <= place <= 3
        own = random.uniform(0.4, 1.5) if is_vowel and random.random() < P_ODD_FORMANT else random.uniform(0.88, 1.14)
        strength = random.uniform(60, 150) if place < 4 else random.uniform(0, 120)
        yield f"formant {place} {round(100 * tract * own)} {round(strength)} {round(random.uniform(55, 160))}"


def _pitch(random: Random) -> str:
    """Hertz at rest and at its highest."""
    base = 62 * 3.5 ** random.random()
    return f"pitch {round(base)} {round(base * random.uniform(1.1, 1.7))}"


def _quality(random: Random) -> Iterator[str]:
    if random.random() < 0.45:
        yield f"voicing {random.randrange(35, 200)}"
    if random.random() < 0.5:
        yield f"consonants {random.randrange(45, 140)} {random.randrange(40, 150)}"
    if random.random() < 0.45:
        places = (random.randrange(60, 650), random.randrange(700, 1500), random.randrange(1600, 4500))
        levels = (random.randrange(120, 256), random.randrange(70, 256), random.randrange(22, 256))
        yield "tone " + " ".join(f"{hertz} {level}" for hertz, level in zip(places, levels, strict=True))
    for setting, most in (("roughness", 6), ("flutter", 20), ("intonation", 5)):
        if random.random() < 0.3:
            yield f"{setting} {random.randrange(1, most)}"
    if random.random() < 0.15:
        yield f"echo {random.randrange(10, 150)} {random.randrange(8, 50)}"
    if random.random() < 0.12:
        yield "breath " + " ".join(str(random.randrange(12)) for _ in range(8))
    if random.random() < 0.15:
        yield f"klatt {random.randrange(1, 7)}"
