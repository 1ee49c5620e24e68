"""A recogniser's words with all of their text and believable times."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from unicodedata import category

from pipelines.transcript_types import Word

MAX_WORD_S = 1.0
"""A word that seems to last longer was stretched over what the recogniser skipped: its beginning is right."""

COLLAPSED_S = 0.02
"""Words that seem to last no longer have their time in an overlong neighbour."""

SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！", "؟", "।", "۔", "።", "։", "။", "។")  # noqa: RUF001

BEFORE_ITS_LETTER = re.compile("[\u0e40-\u0e44\u0ec0-\u0ec4\u1039\u17d2]")
"""Vowels of Thai and Lao that are written first, and what joins two letters of Burmese and of Khmer."""
BEHIND_ITS_LETTER = re.compile("[\u0e30\u0e32\u0e33\u0e45\u0e46\u0eb0\u0eb2\u0eb3\u0ec6\u200c\u200d]")
"""Vowels and signs of repetition that are no marks by Unicode, and joiners."""


def whole_words(text: str, words: Sequence[Word]) -> list[Word]:
    """`words` with every character of `text`: what stands before a word is its own, what follows the last is its."""
    found: list[Word] = []
    position = 0
    for word in words:
        start = text.find(word.text.strip(), position)
        if start < 0:
            continue
        end = start + len(word.text.strip())
        found.append(replace(word, text=text[position:end]))
        position = end
    if not found:
        return [Word(text, words[0].start_s, words[-1].end_s, words[0].probability)]
    found[-1] = replace(found[-1], text=found[-1].text + text[position:])
    return found


def may_part(left: str, right: str) -> bool:
    """Whether a text may be cut between two characters: a mark, such as a tone or a vowel, stays with its letter."""
    is_bound = category(right).startswith("M") or BEHIND_ITS_LETTER.match(right) or BEFORE_ITS_LETTER.match(left)
    return not is_bound


def spread_collapsed(words: Sequence[Word]) -> list[Word]:
    """Give back their time to words that an aligner has put into one instant, next to a word that took all of it."""
    spread = list(words)
    for number, word in enumerate(words):
        if word.end_s - word.start_s <= MAX_WORD_S:
            continue
        first, last = number, number
        while first > 0 and _length_s(words[first - 1]) <= COLLAPSED_S:
            first -= 1
        while last + 1 < len(words) and _length_s(words[last + 1]) <= COLLAPSED_S:
            last += 1
        group = words[first : last + 1]
        start_s, end_s = group[0].start_s, group[-1].end_s
        lengths = list(accumulate((max(len(one.text), 1) for one in group), initial=0))
        times = [start_s + (end_s - start_s) * length / lengths[-1] for length in lengths]
        spread[first : last + 1] = [
            replace(one, start_s=begins, end_s=ends) for one, (begins, ends) in zip(group, pairwise(times), strict=True)
        ]
    return spread


def sentences(words: Iterable[Word]) -> Iterator[list[Word]]:
    sentence: list[Word] = []
    for word in words:
        sentence.append(word)
        if ends_sentence(word):
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def ends_sentence(word: Word) -> bool:
    return word.text.rstrip().endswith(SENTENCE_ENDS)


def _length_s(word: Word) -> float:
    return word.end_s - word.start_s
