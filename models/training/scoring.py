"""Word error rate as all the cards count it: case and punctuation do not matter."""

from collections.abc import Sequence

import jiwer


def normalise(text: str) -> str:
    kept = "".join(character if character.isalnum() or character in "'-" else " " for character in text.lower())
    return " ".join(kept.split())


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Errors over the words of all references; an empty hypothesis counts its reference's words."""
    return float(jiwer.wer([normalise(text) for text in references], [normalise(text) for text in hypotheses]))
