"""What a dialogue is: messages, one recording at most, and when the words of the answers were spoken."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Timed(NamedTuple):
    """Characters [first, last) of a text are spoken from `start` to `end`, in seconds of the recording."""

    first: int
    last: int
    start: float
    end: float

    def shifted(self, characters: int) -> "Timed":
        return self._replace(first=self.first + characters, last=self.last + characters)


class Copied(NamedTuple):
    """Characters [first, last) of a text are copied from `source`, a part of the question or the system prompt.

    start: where in the source the original begins.
    """

    first: int
    last: int
    source: str
    start: int

    def shifted(self, characters: int) -> "Copied":
        return self._replace(first=self.first + characters, last=self.last + characters)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the assistant says, which parts of it were heard when, and which were copied from where."""

    text: str
    timed: tuple[Timed, ...] = ()
    copied: tuple[Copied, ...] = ()

    def within(self, before: str, after: str) -> "Answer":
        """The same answer with text around it."""
        moved = len(before)
        return Answer(
            before + self.text + after,
            tuple(timed.shifted(moved) for timed in self.timed),
            tuple(copied.shifted(moved) for copied in self.copied),
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer.

    Attributes:
        task: what is asked for, a name for the evaluation's table.
        audio: where the recording stands in the question: before its text, after it, or not in it.
    """

    task: str
    question: str
    answer: Answer
    audio: Literal["before", "after"] | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One training example.

    Attributes:
        system: the system prompt; None leaves it to the chat template.
        samples: the recording, 16 kHz float32 of shape (n,); None for text alone.
        heard: everything that is spoken in the recording, as one text with its times.
    """

    turns: tuple[Turn, ...]
    system: str | None = None
    samples: NDArray[np.float32] | None = None
    heard: Answer = Answer("")

    def messages(self, unanswered: int | None = None) -> list[dict[str, Any]]:
        """The conversation as the chat template takes it.

        Args:
            unanswered: this turn's answer is left out, and all that follows it.
        """
        messages: list[dict[str, Any]] = []
        if self.system is not None:
            messages.append({"role": "system", "content": self.system})
        for place, turn in enumerate(self.turns):
            messages.append({"role": "user", "content": _content(turn)})
            if place == unanswered:
                break
            messages.append({"role": "assistant", "content": turn.answer.text})
        return messages


def _content(turn: Turn) -> list[dict[str, str]] | str:
    if turn.audio is None:
        return turn.question
    parts = [{"type": "audio"}, {"type": "text", "text": turn.question}]
    return parts if turn.audio == "before" else parts[::-1]
