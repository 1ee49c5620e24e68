"""A recogniser's words with all of their text and believable times."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from pipelines.transcript_types import Word

MAX_WORD_S = 1.0
"""A word that seems to last longer was stretched over what the recogniser skipped: its beginning is right."""

COLLAPSED_S = 0.02
"""Words that seem to last no longer have their time in an overlong neighbour."""

SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！", "؟", "।", "۔", "።", "։", "။", "។")  # noqa: RUF001


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
