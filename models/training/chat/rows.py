"""From a dialogue to tokens: what to predict, and where it was heard or read."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import Qwen2AudioProcessor

from models.training.chat.dialogues import Answer, Copied, Dialogue, Timed
from models.training.chat.model import POSITIONS_PER_S, positions_of
from models.training.chat.tokenizer import AUDIO
from models.training.features import HOP

IGNORED = -100  # cross_entropy's ignore_index
ANSWER = re.compile(r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", re.DOTALL)

Span = tuple[int, int]
NOWHERE: Span = (-1, -1)


@dataclass(frozen=True, slots=True)
class Row:
    """One dialogue in tokens; every list is as long as `tokens`.

    Attributes:
        labels: the token at the same place where it belongs to an answer, else IGNORED.
        spans: first and last position at which the token is heard, or stands where it is copied from; else NOWHERE.
        heard: the token that has just been spoken at this (audio) position, else IGNORED.
        frames: mel frames of the recording.
    """

    tokens: list[int]
    labels: list[int]
    spans: list[Span]
    heard: list[int]
    samples: NDArray[np.float32] | None
    frames: int


class DialogueEncoder:
    """Turns dialogues into rows, with the chat template and tokenizer that the finished model has."""

    def __init__(self, processor: Qwen2AudioProcessor, lag_s: float) -> None:
        self._processor, self._lag_s = processor, lag_s
        self._tokenizer = processor.tokenizer
        self._audio = self._tokenizer.convert_tokens_to_ids(AUDIO)

    def row(self, dialogue: Dialogue) -> Row:
        frames = 0 if dialogue.samples is None else -(-len(dialogue.samples) // HOP)
        text = self._processor.apply_chat_template(dialogue.messages(), tokenize=False)
        text = text.replace(AUDIO, AUDIO * positions_of(frames))
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        tokens, offsets = encoded["input_ids"], encoded["offset_mapping"]
        first = tokens.index(self._audio) if frames else 0
        labels, spans = [IGNORED] * len(tokens), [NOWHERE] * len(tokens)
        for found, turn in zip(ANSWER.finditer(text), dialogue.turns, strict=True):
            sources = _sources(text, found.start(1), turn.answer)
            timed = [word.shifted(found.start(1)) for word in turn.answer.timed]
            for place in _places(offsets, *found.span(1)):
                labels[place] = tokens[place]
                spoken = _spoken(timed, *offsets[place])
                if spoken is not None:
                    spans[place] = self._span(spoken, first, positions_of(frames))
                else:
                    begin, end = offsets[place]
                    # the blank before a word is not part of it
                    spans[place] = _read(sources, offsets, begin + (text[begin] == " " and end > begin + 1), end)
        heard = self._heard(dialogue, first, positions_of(frames), len(tokens)) if frames else [IGNORED] * len(tokens)
        return Row(tokens, labels, spans, heard, dialogue.samples, frames)

    def _span(self, spoken: tuple[float, float], first: int, count: int) -> tuple[int, int]:
        start = int(spoken[0] * POSITIONS_PER_S)
        end = int((spoken[1] + self._lag_s) * POSITIONS_PER_S)
        return first + min(start, count - 1), first + min(end, count - 1)

    def _heard(self, dialogue: Dialogue, first: int, count: int, length: int) -> list[int]:
        heard = [IGNORED] * length
        text, timed = dialogue.heard.text, list(dialogue.heard.timed)
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        free = 0
        for token, offset in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            spoken = _spoken(timed, *offset)
            if spoken is not None:
                # two tokens that end together take two positions, in their order
                place = max(free, int(spoken[1] * POSITIONS_PER_S) + 1)
                if place < count:
                    heard[first + place] = token
                free = place + 1
        return heard


def _places(offsets: list[tuple[int, int]], first: int, last: int) -> Iterator[int]:
    """Tokens within characters [first, last)."""
    return (place for place, (start, end) in enumerate(offsets) if start >= first and end <= last and end > start)


def _sources(text: str, answer: int, said: Answer) -> list[tuple[Copied, int]]:
    """(a copied part at its place in the whole text, the place of its original) for the answer that starts there."""
    found = []
    for part in said.copied:
        origin = text.rfind(part.source, 0, answer)
        if origin >= 0:
            found.append((part.shifted(answer), origin + part.start))
    return found


def _read(sources: list[tuple[Copied, int]], offsets: Sequence[Span], first: int, last: int) -> Span:
    """The tokens that stand where characters [first, last) are copied from."""
    for part, origin in sources:
        if part.first <= first and last <= part.last:
            start = origin + first - part.first
            places = [place for place, (a, b) in enumerate(offsets) if a < start + last - first and b > start]
            return (places[0], places[-1]) if places else NOWHERE
    return NOWHERE


def _spoken(timed: list[Timed], first: int, last: int) -> tuple[float, float] | None:
    """When characters [first, last) are spoken: the parts of their words, in proportion to the letters."""
    inside = [word for word in timed if word.first < last and word.last > first]
    if not inside:
        return None
    head, tail = inside[0], inside[-1]
    return _at(head, max(first, head.first)), _at(tail, min(last, tail.last))


def _at(word: Timed, character: int) -> float:
    return word.start + (word.end - word.start) * (character - word.first) / (word.last - word.first)
