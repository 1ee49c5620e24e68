"""Word error rates without regard to case and punctuation."""

import re
from collections.abc import Mapping, Sequence
from itertools import permutations

import jiwer


def normalised(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.casefold()).split())


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    assert references
    return float(jiwer.wer([normalised(text) for text in references], [normalised(text) for text in hypotheses]))


def speaker_word_error_rate(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> float:
    """cpWER of CHiME-6: all that each speaker said as one text, and labels stand for whom they suit best."""
    spoken, found = ([normalised(text) for text in texts.values()] for texts in (references, hypotheses))
    num_speakers = max(len(spoken), len(found))
    assert num_speakers <= 6, "all permutations are tried"
    spoken += [""] * (num_speakers - len(spoken))
    found += [""] * (num_speakers - len(found))
    errors = [[_num_errors(reference, hypothesis) for hypothesis in found] for reference in spoken]
    fewest = min(
        sum(errors[row][column] for row, column in enumerate(columns)) for columns in permutations(range(num_speakers))
    )
    return fewest / sum(len(reference.split()) for reference in spoken)


def _num_errors(reference: str, hypothesis: str) -> int:
    if not reference or not hypothesis:
        return len((reference or hypothesis).split())
    counted = jiwer.process_words(reference, hypothesis)
    return counted.substitutions + counted.deletions + counted.insertions
