"""What an utterance teaches: its tokens, when each is spoken, and the phone of each encoder frame."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from transformers import WhisperTokenizer

from models.training.corpus.utterances import SAMPLE_RATE, Utterance

FRAME = 320
"""Samples of one encoder frame: 20 ms."""
FRAMES_PER_S = SAMPLE_RATE // FRAME

SILENCE = 0
UNLABELLED = -1

Spans = NDArray[np.float32]
"""Start and end of each token, shape (tokens, 2); -1 where it is not known."""


def phone_set(utterances: Iterable[Utterance], at_least: int) -> tuple[str, ...]:
    """The phones seen `at_least` times, most frequent first, after the pause, which is number 0."""
    counts = Counter(name for utterance in utterances for name, _ in utterance.phones if not _is_pause(name))
    return ("_", *(name for name, count in counts.most_common() if count >= at_least))


def _is_pause(phone: str) -> bool:
    return phone.startswith("_")


class Labels:
    def __init__(self, tokenizer: WhisperTokenizer, phones: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._phone_ids = {name: index for index, name in enumerate(phones)}

    def tokens(self, text: str) -> list[int]:
        return self._tokenizer(" " + text, add_special_tokens=False).input_ids  # type: ignore[no-any-return]

    def timed_tokens(self, utterance: Utterance) -> tuple[list[int], Spans]:
        """The text's tokens and their spans in seconds from the utterance's first sample."""
        text = " " + utterance.text
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        places = _places(text)
        times = [time for _, start, end in utterance.words for time in (start, end)]
        characters = [place for pair in places for place in pair]
        # a token that begins with a blank begins after it
        starts = [start + (text[start : start + 1] == " ") for start, _ in encoded.offset_mapping]
        ends = [end for _, end in encoded.offset_mapping]
        begin, finish = np.interp(starts, characters, times), np.interp(ends, characters, times)
        return encoded.input_ids, np.stack([begin, np.maximum(finish, begin + 0.02)], 1).astype(np.float32)

    def frames(self, utterance: Utterance, times: NDArray[np.float64]) -> NDArray[np.int64]:
        """The phone's number at each time (seconds from the utterance's first sample), shape as `times`."""
        starts = [start for _, start in utterance.phones]
        ids = np.array([self._phone_id(name) for name, _ in utterance.phones])
        return ids[np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)]

    def _phone_id(self, name: str) -> int:
        return SILENCE if _is_pause(name) else self._phone_ids.get(name, UNLABELLED)


def _places(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end, in characters."""
    places, position = [], 0
    for word in text.split():
        start = text.index(word, position)
        position = start + len(word)
        places.append((start, position))
    return places
