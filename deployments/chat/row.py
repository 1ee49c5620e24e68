"""One answer that is being written: what it needs to choose its next token, and what of its text may be shown."""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from deployments.chat.vocabulary import Vocabulary
from pipelines.chat_types import ChatDelta, ChatUsage, SamplingOptions, ScoredToken
from pipelines.stops import StopTexts
from pipelines.transcript_types import FinishReason, Token


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as the model reads it.

    inputs: for its `forward`, a batch of one; `input_ids` (1, num_tokens) among them.
    """

    inputs: Mapping[str, Tensor]
    num_audio_tokens: int

    @property
    def token_ids(self) -> Tensor:
        """(1, num_tokens)"""
        return self.inputs["input_ids"]

    @property
    def num_tokens(self) -> int:
        return self.token_ids.shape[-1]


@dataclass(slots=True, eq=False)
class Row:
    """`position` is that of the next token, shape (), or (axes,) where the model's rotary embedding has several."""

    request_id: str
    prompt: Prompt
    options: SamplingOptions
    max_tokens: int
    vocabulary: Vocabulary
    position: Tensor = field(init=False)
    written: list[int] = field(default_factory=list)
    _decoder: codecs.IncrementalDecoder = field(init=False)
    _stops: StopTexts = field(init=False)
    _drops_space: bool = field(init=False)

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = StopTexts(self.options.stop)
        self._drops_space = self.vocabulary.drops_first_space

    @property
    def temperature(self) -> float:
        return self.options.temperature

    @property
    def seed(self) -> int:
        return self.options.seed

    @property
    def read(self) -> list[int]:
        token_ids: list[int] = self.prompt.token_ids[0].tolist()
        return token_ids

    def token(self, token_id: int, logprob: float) -> Token:
        """As it would stand next in the answer; a special token, which adds nothing to it, by its name."""
        data = self._data(token_id)
        text = data.decode("utf-8", errors="replace") or self.vocabulary.name(token_id)
        return Token(token_id, text, logprob, data)

    def accept(self, token_id: int, scored: ScoredToken | None) -> ChatDelta:
        """Take the chosen token; the delta's finish reason tells whether it was the last."""
        if token_id in self.vocabulary.ends:
            return self._delta(self._rest(), None, "stop")
        text = self._stops.push(self._decoder.decode(self._data(token_id)))
        self._drops_space = self._drops_space and not self.vocabulary.data(token_id)
        self.written.append(token_id)
        if self._stops.is_found:
            return self._delta(text, scored, "stop")
        if len(self.written) >= self.max_tokens:
            return self._delta(text + self._rest(), scored, "length")
        return self._delta(text, scored, None)

    def _data(self, token_id: int) -> bytes:
        data = self.vocabulary.data(token_id)
        return data.removeprefix(b" ") if self._drops_space else data

    def _rest(self) -> str:
        return self._stops.push(self._decoder.decode(b"", final=True)) + self._stops.finish()

    def _delta(self, text: str, scored: ScoredToken | None, finish_reason: FinishReason | None) -> ChatDelta:
        usage = ChatUsage(self.prompt.num_tokens, self.prompt.num_audio_tokens, len(self.written))
        return ChatDelta(text, usage, (scored,) if scored else (), finish_reason)
