"""A stream that goes on where it was cut off: what is asked anew gives the same answer from its beginning."""

from dataclasses import replace

from pipelines.chat_types import ChatDelta, ScoredToken
from pipelines.errors import ModelUnavailable


class Resumer:
    """Lets every character and every token through once, however often the answer begins anew."""

    def __init__(self) -> None:
        self._delivered: list[str] = []
        self._num_delivered_tokens = 0
        self._text_to_skip = ""
        self._num_tokens_to_skip = 0

    def begin_anew(self) -> None:
        self._text_to_skip = "".join(self._delivered)
        self._num_tokens_to_skip = self._num_delivered_tokens

    def push(self, delta: ChatDelta) -> ChatDelta | None:
        """What of `delta` is new, if anything is.

        Raises:
            ModelUnavailable: the new answer is not the one that was cut off.
        """
        text, tokens = self._skip_text(delta.text), self._skip_tokens(delta)
        if delta.finish_reason and (self._text_to_skip or self._num_tokens_to_skip):
            raise _another_answer()
        if not (text or tokens or delta.finish_reason):
            return None
        self._delivered.append(text)
        self._num_delivered_tokens += len(tokens)
        return replace(delta, text=text, tokens=tokens)

    def _skip_text(self, text: str) -> str:
        length = min(len(text), len(self._text_to_skip))
        if text[:length] != self._text_to_skip[:length]:
            raise _another_answer()
        self._text_to_skip = self._text_to_skip[length:]
        return text[length:]

    def _skip_tokens(self, delta: ChatDelta) -> tuple[ScoredToken, ...]:
        count = min(len(delta.tokens), self._num_tokens_to_skip)
        self._num_tokens_to_skip -= count
        return delta.tokens[count:]


def _another_answer() -> ModelUnavailable:
    return ModelUnavailable("The replica that wrote this answer was lost, and another one went on differently.")
