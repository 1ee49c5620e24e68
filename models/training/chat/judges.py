"""Is an answer right? Lenient about words around it, strict about what it says."""

import re
from collections.abc import Callable

from models.training.chat.answers import LANGUAGE_NAMES
from models.training.scoring import normalise

Judge = Callable[[str, str], bool]


def same_words(wanted: str, said: str) -> bool:
    """Case and punctuation do not matter."""
    return normalise(wanted) == normalise(said)


def same_text(wanted: str, said: str) -> bool:
    return wanted.strip() == said.strip()


def same_language(wanted: str, said: str) -> bool:
    """Exactly the wanted languages are named; where none is, that there is none is said."""
    return _languages(wanted) == _languages(said) if _languages(wanted) else same_words(wanted, said)


def same_number(wanted: str, said: str) -> bool:
    """The first number in digits is the wanted one; where there is none, that there is none is said."""
    numbers = re.findall(r"\d+", wanted)
    return numbers[:1] == re.findall(r"\d+", said)[:1] if numbers else same_words(wanted, said)


def same_side(wanted: str, said: str) -> bool:
    """Both say yes, or both say no."""
    return normalise(wanted).split()[:1] == normalise(said).split()[:1]


def judge(task: str) -> Judge:
    """(wanted, said) to right or wrong, for the task of a turn."""
    return _JUDGES.get(task, same_words)


def _languages(text: str) -> set[str]:
    return {name for name in LANGUAGE_NAMES.values() if name.lower() in text.lower()}


_JUDGES: dict[str, Judge] = {
    "language": same_language,
    "count": same_number,
    "number": same_number,
    "speaking": same_side,
    "repair": same_text,
}
