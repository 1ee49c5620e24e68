"""The words of those rooms that chat: frozen values, as in `pipelines.audio_types`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipelines.audio_types import PcmSamples
from pipelines.sampling import Sampling
from pipelines.transcript_types import FinishReason, Token

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class AudioPart:
    """`pcm` at `SAMPLE_RATE_HZ`."""

    pcm: PcmSamples


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[TextPart | AudioPart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions(Sampling):
    """How one answer is written.

    stop: texts before which the answer ends.
    top_logprobs: how many alternatives of each token are told; None leaves out the token's own logprob, too.
    """

    seed: int
    temperature: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """How a model's answers are written where a request does not say: as its makers want it, else as at OpenAI."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A token of the answer, and what might have stood in its place, the most probable first."""

    token: Token
    alternatives: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatUsage:
    """Tokens read (those that stand for audio among them) and tokens written."""

    num_prompt_tokens: int
    num_audio_tokens: int
    num_output_tokens: int

    def with_audio(self, num_tokens: int) -> "ChatUsage":
        """Of a prompt with so many tokens of audio more."""
        num_prompt_tokens, num_audio_tokens = self.num_prompt_tokens + num_tokens, self.num_audio_tokens + num_tokens
        return ChatUsage(num_prompt_tokens, num_audio_tokens, self.num_output_tokens)


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """What was written since the last delta.

    text: may be empty while a stop text or half a character is held back.
    tokens: only when logprobs were asked for.
    finish_reason: set in the last delta.
    usage: up to here.
    token_ids: what was written, all of it; behind them another replica can go on.
    """

    text: str
    usage: ChatUsage
    tokens: tuple[ScoredToken, ...] = ()
    finish_reason: FinishReason | None = None
    token_ids: tuple[int, ...] = ()

    @property
    def is_news(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self.text or self.tokens or self.finish_reason)


@dataclass(frozen=True, slots=True)
class ChatModelInfo:
    """What a served chat model can do.

    hears_audio: else audio parts are refused.
    max_audio_s: the longest audio part that it hears to the end; None when only the context limits it.
    max_context_tokens: of prompt and answer together.
    sampling: for what a request leaves out.
    """

    hears_audio: bool
    max_audio_s: float | None
    max_context_tokens: int
    sampling: SamplingDefaults = SamplingDefaults()


def join_deltas(deltas: Sequence[ChatDelta]) -> ChatDelta:
    """At least one delta, as one."""
    return ChatDelta(
        text="".join(delta.text for delta in deltas),
        usage=deltas[-1].usage,
        tokens=tuple(token for delta in deltas for token in delta.tokens),
        finish_reason=deltas[-1].finish_reason,
        token_ids=tuple(token_id for delta in deltas for token_id in delta.token_ids),
    )
