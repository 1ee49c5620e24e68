"""Word error rate without regard to case and punctuation."""

import re
from collections.abc import Sequence

import jiwer


def normalised(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.casefold()).split())


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    assert references
    return float(jiwer.wer([normalised(text) for text in references], [normalised(text) for text in hypotheses]))
