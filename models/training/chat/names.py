"""Invented product and company names, and how they are misspelt."""

import zlib
from collections.abc import Callable
from random import Random

ONSETS = (
    "b c d f g h j k l m n p r s t v w x z b c d f g k l m n p r s t v br ch cl cr dr fl fr gl gr kl kr ph pl pr qu sh "
    "sk sl sp st th tr"
).split()
VOWELS = "a e i o u a e i o u a e i o u y ai ea ee io ou".split()
CODAS = ["", "", "", "", *"n r l x s m t k nt rt ll ck nd st rk ss ph ng".split()]
SECOND_WORDS = (
    "Plus Pro Max Air One Seven Array Matrix Link Five Cloud Hub Core Labs Studio V2 V8 X1 Mini Prime Edge".split()
)
HELD_OUT_SHARE = 10  # one name in so many is never trained on

# what a listener may write instead
CONFUSIONS = (
    ("ph", "f"), ("f", "ph"), ("c", "k"), ("k", "c"), ("ck", "k"), ("qu", "kw"), ("qu", "k"), ("x", "ks"), ("x", "cks"),
    ("z", "s"), ("s", "z"), ("y", "i"), ("i", "y"), ("ee", "ea"), ("ea", "ee"), ("ai", "ay"), ("ei", "ai"), ("oo", "u"),
    ("ou", "ow"), ("au", "aw"), ("v", "w"), ("w", "v"), ("d", "t"), ("t", "d"), ("b", "p"), ("p", "b"), ("g", "j"),
    ("a", "e"), ("e", "a"), ("o", "u"), ("u", "o"), ("th", "t"), ("m", "n"), ("ie", "ee"), ("sh", "ch"),
)  # fmt: skip


def invented_name(random: Random, held_out: bool = False) -> str:
    """A name such as "Zyntrix", "CynaPhos Plus", "VORT" or "Q.U.A.R.T.", from its side of the split."""
    while True:
        name = _name(random)
        if is_held_out_name(name) == held_out:
            return name


def is_held_out_name(name: str) -> bool:
    """True if the name is kept for evaluation; its hash decides."""
    return zlib.crc32(name.lower().encode()) % HELD_OUT_SHARE == 0


def misspell(random: Random, name: str) -> str:
    """The name as somebody might write it who only heard it; never the name itself."""
    while True:
        wrong = name
        for _ in range(random.choice((1, 1, 1, 2, 2, 3))):
            wrong = random.choice(_EDITS)(random, wrong)
        if wrong != name and wrong and wrong == wrong.strip():
            return wrong


def _name(random: Random) -> str:
    kind = random.random()
    if kind < 0.08:
        letters = _word(random, 2).upper()[: random.choice((3, 4, 5, 6))]
        return letters if random.random() < 0.6 else "".join(f"{letter}." for letter in letters)
    name = _word(random, random.choice((1, 2, 2, 2, 3))).capitalize()
    if kind < 0.45:
        name += _word(random, random.choice((1, 1, 1, 2))).capitalize()
    if kind > 0.8:
        name += " " + random.choice(SECOND_WORDS)
    return name


def _word(random: Random, syllables: int) -> str:
    word = ""
    while len(word) < 3:
        word = "".join(
            random.choice(ONSETS) + random.choice(VOWELS) + random.choice(CODAS if last else CODAS[:8])
            for last in (place == syllables - 1 for place in range(syllables))
        )
    return word


def _confuse(random: Random, name: str) -> str:
    lower = name.lower()
    fitting = [(heard, written) for heard, written in CONFUSIONS if heard in lower]
    if not fitting:
        return name
    heard, written = random.choice(fitting)
    places = [place for place in range(len(name)) if lower.startswith(heard, place)]
    place = random.choice(places)
    written = written.capitalize() if name[place].isupper() else written
    return name[:place] + written + name[place + len(heard) :]


def _double(random: Random, name: str) -> str:
    place = random.randrange(len(name))
    return name[:place] + name[place].lower() + name[place:] if name[place].isalpha() and place else name


def _drop(random: Random, name: str) -> str:
    place = random.randrange(1, len(name)) if len(name) > 4 else 0
    return name[:place] + name[place + 1 :] if place else name


def _swap(random: Random, name: str) -> str:
    place = random.randrange(1, len(name) - 1) if len(name) > 4 else 0
    return name[:place] + name[place + 1] + name[place] + name[place + 2 :] if place else name


def _flatten(random: Random, name: str) -> str:
    return random.choice((name.lower(), name.capitalize(), name.replace(".", "")))


def _split(random: Random, name: str) -> str:
    if " " in name:
        return name.replace(" ", "") if random.random() < 0.3 else name.lower()
    capitals = [place for place in range(2, len(name) - 1) if name[place].isupper() and name[place - 1].islower()]
    if len(name) < 6 or "." in name:
        return name
    place = random.choice(capitals) if capitals else random.randrange(3, len(name) - 2)
    second = name[place:]
    return f"{name[:place]} {second if random.random() < 0.5 else second.capitalize()}"


_EDITS: tuple[Callable[[Random, str], str], ...] = (
    _confuse,
    _confuse,
    _confuse,
    _double,
    _drop,
    _swap,
    _flatten,
    _split,
)
