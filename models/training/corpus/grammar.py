"""A sentence grammar in four languages at once: every draw is one sentence and its three translations.

The words and the templates stand in `lexicon/`; this module inflects them. To teach the models other words, add them
there; words may have a time of day or year in their midst, `{when}`.
"""

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from models.training.corpus.numbers import before_noun, in_words

LANGUAGES = ("en", "de", "es", "fr")
LEXICON = Path(__file__).parent / "lexicon"

Row = dict[str, str]


def _rows(name: str, delimiter: str = ",") -> list[Row]:
    with (LEXICON / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter=delimiter))


NOUNS = _rows("nouns.csv")
ADJECTIVES = _rows("adjectives.csv")
TEMPLATES = _rows("templates.txt", "|")
WORDS: dict[str, list[Row]] = {}
for _row in _rows("words.csv"):
    WORDS.setdefault(_row["kind"], []).append(_row)
NAMES = [row["en"] for row in WORDS["name"]]
ENGLISH_WORDS = (LEXICON / "english.txt").read_text(encoding="utf-8").split()

GERMAN_ARTICLES = {
    "nominative": {"m": "der", "f": "die", "n": "das"},
    "accusative": {"m": "den", "f": "die", "n": "das"},
    "dative": {"m": "dem", "f": "der", "n": "dem"},
}
UNITS = {  # what is counted: plural and gender
    "euros": {"en": ("euros", ""), "de": ("Euro", "m"), "es": ("euros", "m"), "fr": ("euros", "m")},
    "degrees": {"en": ("degrees", ""), "de": ("Grad", "n"), "es": ("grados", "m"), "fr": ("degrés", "m")},
    "years": {"en": ("years", ""), "de": ("Jahre", "n"), "es": ("años", "m"), "fr": ("ans", "m")},
}
NUMBER_SLOTS = re.compile(r"{(number\w*|hour|minutes|digits)}")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One meaning, said in four languages.

    Attributes:
        texts: language to text, with punctuation.
        numbers: the numbers that it says, in order.
    """

    texts: dict[str, str]
    numbers: list[int]


@dataclass(frozen=True, slots=True)
class _Draw:
    """What one sentence is about, before it is put into words."""

    words: dict[str, Row]
    nouns: tuple[Row, Row]
    adjectives: tuple[Row, Row]
    names: tuple[str, str]
    number: int
    hour: int
    minutes: int
    digits: tuple[int, ...]


def sentence(random: Random) -> Sentence:
    """One random sentence of the grammar."""
    template = random.choice(TEMPLATES)
    draw = _draw(random)
    texts = {language: _say(template[language], draw, language) for language in LANGUAGES}
    said = {"hour": [draw.hour], "minutes": [draw.minutes], "digits": list(draw.digits)}
    slots = NUMBER_SLOTS.findall(template["en"])
    return Sentence(texts, [number for slot in slots for number in said.get(slot, [draw.number])])


def free_words(random: Random, language: str) -> str:
    """One to eight random words: there is no grammar to lean on, so they have to be heard."""
    count = random.choice((1, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8))
    if random.random() < 0.1:
        words = [in_words(random.randrange(10), language) for _ in range(count)]
    elif language == "en" and random.random() < 0.8:
        # the list is sorted by frequency: half of the words come from all of it, half from its first part
        places = (random.random() ** random.choice((1, 2.5)) for _ in range(count))
        words = [ENGLISH_WORDS[int(place * len(ENGLISH_WORDS))] for place in places]
    else:
        words = random.choices(vocabulary(language), k=count)
    return _capitalise(" ".join(words)) + "."


@cache
def vocabulary(language: str) -> list[str]:
    """Every word of the grammar in one language, sorted."""
    random = Random(0)
    texts = [sentence(random).texts[language] for _ in range(6000)]
    texts += [in_words(number, language) for number in range(101)]
    words = set(re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", " ".join(texts)))
    # a word that only stood first in its sentence is kept in lower case
    lower = {word for word in words if word.islower()}
    return sorted(word for word in words if word.islower() or word.lower() not in lower)


def _draw(random: Random) -> _Draw:
    words = {kind: random.choice(rows) for kind, rows in WORDS.items()}
    names = random.sample(NAMES, 2)
    words["who"] = dict.fromkeys(LANGUAGES, names[0]) if random.random() < 0.6 else words["relative"]
    first, second = random.sample(NOUNS, 2)
    return _Draw(
        words=words,
        nouns=(first, second),
        adjectives=(random.choice(ADJECTIVES), random.choice(ADJECTIVES)),
        names=(names[0], names[1]),
        number=random.randrange(2, 101),
        hour=random.randrange(2, 13),
        minutes=random.randrange(10, 60),
        digits=tuple(random.randrange(10) for _ in range(random.randrange(3, 7))),
    )


def _say(template: str, draw: _Draw, language: str) -> str:
    noun, other = draw.nouns
    when = draw.words["when"][language]  # German puts it in the midst of some words
    slots = {kind: row[language].format(when=when) for kind, row in draw.words.items()}
    slots |= {
        "name": draw.names[0],
        "other_name": draw.names[1],
        "number": in_words(draw.number, language),
        "hour": _hour(draw.hour, language),
        "minutes": in_words(draw.minutes, language),
        "digits": " ".join(in_words(digit, language) for digit in draw.digits),
        "the_noun": _the(noun, language),
        "the_noun_accusative": _the(noun, language, "accusative"),
        "the_other": _the(other, language),
        "the_other_dative": _the(other, language, "dative"),
        "a_noun": _a(noun, language),
        "a_other": _a(other, language),
        "adjective": _adjective(draw.adjectives[0], language, _gender(noun, language)),
        "adjective_of_other": _adjective(draw.adjectives[1], language, _gender(other, language)),
        # a room is feminine in Spanish and French; a German predicate is not inflected
        "adjective_of_room": _adjective(draw.adjectives[0], language, "f"),
        "number_of_nouns": _count(draw.number, language, _plural(noun, language), _gender(noun, language)),
    }
    slots |= {f"number_of_{unit}": _count(draw.number, language, *UNITS[unit][language]) for unit in UNITS}
    return _capitalise(_contract(template.format_map(slots), language))


def _gender(noun: Row, language: str) -> str:
    return noun.get(f"{language}_gender", "")


def _plural(noun: Row, language: str) -> str:
    return noun[f"{language}_plural"]


def _count(number: int, language: str, plural: str, gender: str) -> str:
    return f"{before_noun(number, language, gender)} {plural}"


def _hour(hour: int, language: str) -> str:
    return before_noun(hour, language, "f")


def _the(noun: Row, language: str, case: str = "nominative") -> str:
    word, gender = noun[language], _gender(noun, language)
    if language == "en":
        return f"the {word}"
    if language == "de":
        return f"{GERMAN_ARTICLES[case][gender]} {word}"
    if language == "es":
        return f"el {word}" if gender == "m" else f"la {word}"
    if word[0] in "aeiouéèêâôœh":
        return f"l'{word}"
    return f"le {word}" if gender == "m" else f"la {word}"


def _a(noun: Row, language: str) -> str:
    """With the indefinite article; in German in the accusative."""
    word, gender = noun[language], _gender(noun, language)
    if language == "en":
        return f"an {word}" if word[0] in "aeiou" else f"a {word}"
    articles = {
        "de": {"m": "einen", "f": "eine", "n": "ein"},
        "es": {"m": "un", "f": "una"},
        "fr": {"m": "un", "f": "une"},
    }
    return f"{articles[language][gender]} {word}"


def _adjective(adjective: Row, language: str, gender: str) -> str:
    if language in ("es", "fr") and gender == "f":
        return adjective[f"{language}_feminine"]
    return adjective[language]


def _contract(text: str, language: str) -> str:
    return re.sub(r"\bde el\b", "del", text) if language == "es" else text


def _capitalise(text: str) -> str:
    first = next((place for place, character in enumerate(text) if character.isalpha()), 0)
    return text[:first] + text[first].upper() + text[first + 1 :]
