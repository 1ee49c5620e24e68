"""One answer that is being written: what it needs to choose its next token, and what of its text may be shown."""

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from deployments.chat.vocabulary import Vocabulary
from pipelines.chat_types import ChatDelta, ChatUsage, SamplingOptions, ScoredToken
from pipelines.stops import StopTexts
from pipelines.transcript_types import FinishReason, Token


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as the model reads it.

    inputs: for its `forward`, a batch of one; `input_ids` (1, num_tokens) among them.
    num_audio_tokens: those that stand for audio, whose features are among the inputs.
    """

    inputs: Mapping[str, Tensor]
    num_audio_tokens: int

    @property
    def token_ids(self) -> Tensor:
        """(1, num_tokens)"""
        return self.inputs["input_ids"]

    @property
    def has_audio(self) -> bool:
        return self.num_audio_tokens > 0

    def is_like(self, other: "Prompt") -> bool:
        if self.inputs.keys() != other.inputs.keys() or self.num_tokens != other.num_tokens:
            return False
        return all(torch.equal(value, other.inputs[name]) for name, value in self.inputs.items())

    @property
    def num_tokens(self) -> int:
        return self.token_ids.shape[-1]


@dataclass(slots=True, eq=False)
class Row:
    """
    written: of the answer so far; `accept` adds to it.
    num_read: tokens of prompt and answer that the model has in its memory.
    reserved: tokens of prompt and answer for which memory is kept.
    positions: those of the prompt, (1, tokens), or (axes, 1, tokens) where the model's rotary embedding has several;
        on the CPU; set when it is read.
    first_logits: (vocabulary,), behind the prompt; set when all of it was read.
    """

    request_id: str
    prompt: Prompt
    options: SamplingOptions
    max_tokens: int
    vocabulary: Vocabulary
    num_read: int = 0
    reserved: int = 0
    positions: Tensor = field(init=False)
    first_logits: Tensor | None = None
    written: list[int] = field(default_factory=list)
    _decoder: codecs.IncrementalDecoder = field(init=False)
    _stops: StopTexts = field(init=False)
    _drops_space: bool = field(init=False)
    read: list[int] = field(init=False)
    """Token ids of the prompt."""

    _num_told: int = 0
    """Of `written`, in deltas that are news."""

    def __post_init__(self) -> None:
        self.read = self.prompt.token_ids[0].tolist()
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
    def num_tokens(self) -> int:
        """Of prompt and answer."""
        return len(self.read) + len(self.written)

    @property
    def is_reading(self) -> bool:
        """Whether more is to be read than the last token of its answer."""
        return self.num_read < self.num_tokens - bool(self.written)

    @property
    def is_half_read(self) -> bool:
        return self.is_reading and self.num_read > 0

    def tokens(self, first: int, last: int) -> Sequence[int]:
        """Of prompt and answer."""
        start = len(self.read)
        if first >= start:
            return self.written[first - start : last - start]
        return [*self.read[first:last], *self.written[: max(last - start, 0)]]

    def positions_of(self, first: int, last: int) -> Tensor:
        """(1, tokens) or (axes, 1, tokens): those of the answer follow the prompt's last."""
        start = len(self.read)
        of_prompt = self.positions[..., first:last]
        if last <= start:
            return of_prompt
        further = torch.arange(max(first, start), last) - start + 1
        return torch.cat([of_prompt, self.positions[..., -1:] + further], dim=-1)

    def resume(self, written: Sequence[int]) -> None:
        """Go on behind what another row of the same request had written, and shown."""
        for token_id in written:
            self.accept(token_id, None)
        self._num_told = len(self.written)

    def reserve(self, num_tokens: int) -> None:
        """Room for so many more than there are, or for as many as it may still write."""
        self.reserved = min(self.num_tokens + num_tokens, len(self.read) + self.max_tokens)

    def start_over(self) -> None:
        """Read all of it again, once it is aboard again: it has lost its slot."""
        self.num_read, self.first_logits = 0, None

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
        usage = ChatUsage(len(self.read), self.prompt.num_audio_tokens, len(self.written))
        delta = ChatDelta(text, usage, (scored,) if scored else (), finish_reason)
        if not delta.is_news:
            return delta
        token_ids, self._num_told = tuple(self.written[self._num_told :]), len(self.written)
        return replace(delta, token_ids=token_ids)
