"""Who speaks: espeak-ng's voices, their variants and invented ones, and flite's. A name is `voice`, `voice+variant` or
`flite:voice`.

espeak-ng 1.52 crashes now and then with its variant "rob", which is left out.

The held-out variants are never trained on, in any language: what the cards say of unknown speakers is measured on them.
"""

from collections.abc import Sequence

from models.training.corpus.invented import INVENTED

BASES = {
    "en": ("en-us", "en-us", "en-us", "gmw/en", "gmw/en", "en-gb-x-rp", "en-gb-scotland", "en-029"),
    "de": ("de",),
    "es": ("es", "es-419"),
    "fr": ("fr", "fr-be", "fr-ch"),
}
VARIANTS = (
    "m1 m2 m3 m4 m6 m7 m8 f1 f2 f3 f5 klatt klatt2 klatt4 klatt5 klatt6 Alex Alicia Andy Annie Denis Diogo Gene Gene2 "
    "Henrique Hugo Jacky Lee Marco Mario Michael Mike Nguyen Reed RicishayMax RicishayMax2 RicishayMax3 Storm adam "
    "anika aunty belinda benjamin boris caleb david ed edward edward2 grandma grandpa gustave ian iven iven2 iven3 "
    "iven4 john linda marcelo max michel miguel mike2 pablo paul pedro quincy robert sandro shelby steph steph2 "
    "steph3 travis victor zac"
).split()
HELD_OUT_VARIANTS = ("m5", "f4", "klatt3", "norbert", "Andrea", "antonio", "kaukovalta")
FLITE = ("flite:slt", "flite:rms", "flite:awb", "flite:kal16")


def _plus(variants: Sequence[str]) -> list[str]:
    return [f"+{name}" for name in variants]


PLAIN_VOICES = {"en": ("en-us",), "de": ("de",), "es": ("es",), "fr": ("fr",)}
TRAINING_VOICES = {
    language: tuple(base + variant for base in bases for variant in ["", *_plus(VARIANTS), *_plus(INVENTED)])
    for language, bases in BASES.items()
}
TRAINING_VOICES["en"] += FLITE
HELD_OUT_VOICES = {
    language: tuple(f"{base}+{variant}" for base in dict.fromkeys(bases) for variant in HELD_OUT_VARIANTS)
    for language, bases in BASES.items()
}
