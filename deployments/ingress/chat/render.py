"""An answer's deltas to the wire, whole or in chunks."""

import time
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

from deployments.ingress.chat.schema import (
    AlternativeToken,
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatRequest,
    ChatUsageAnswer,
    ChoiceLogprobs,
    ChunkChoice,
    ChunkDelta,
    PromptTokensDetails,
    TokenLogprob,
)
from pipelines.chat import ChoiceDelta
from pipelines.chat_types import ChatDelta, ChatUsage, ScoredToken, join_deltas
from pipelines.transcript_types import Token


class ChatRenderer:
    """Of one request: all its lines have one id."""

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._id = f"chatcmpl-{uuid4().hex}"
        self._created = int(time.time())
        self._usages: dict[int, ChatUsage] = {}
        self._num_finished = 0

    def completion(self, pieces: Sequence[ChoiceDelta]) -> dict[str, Any]:
        """The whole answer, of all its deltas."""
        choices = [
            join_deltas([piece.delta for piece in pieces if piece.index == index]) for index in range(self._request.n)
        ]
        completion = ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._request.model,
            choices=[self._choice(index, choice) for index, choice in enumerate(choices)],
            usage=_usage([choice.usage for choice in choices]),
        )
        return completion.model_dump()

    def chunks(self, piece: ChoiceDelta) -> Iterable[dict[str, Any]]:
        """CHT-31: a role first, then text, then the reason why it ended; CHT-32: after all of them, usage."""
        index, delta = piece.index, piece.delta
        if not self._usages:
            yield from self._roles()
        self._usages[index] = delta.usage
        if delta.text or delta.tokens:
            text = ChunkDelta(content=delta.text)
            yield self._chunk([ChunkChoice(index=index, delta=text, logprobs=self._logprobs(delta))])
        if delta.finish_reason is None:
            return
        yield self._chunk([ChunkChoice(index=index, delta=ChunkDelta(), finish_reason=delta.finish_reason)])
        self._num_finished += 1
        if self._includes_usage and self._num_finished == self._request.n:
            yield self._chunk([], _usage(list(self._usages.values())))

    def _roles(self) -> Iterable[dict[str, Any]]:
        """Of all answers, whichever was first: OpenAI's SDK takes no answer before those with a smaller index."""
        for index in range(self._request.n):
            yield self._chunk([ChunkChoice(index=index, delta=ChunkDelta(role="assistant", content=""))])

    @property
    def _includes_usage(self) -> bool:
        return self._request.stream_options is not None and self._request.stream_options.include_usage

    def _chunk(self, choices: list[ChunkChoice], usage: ChatUsageAnswer | None = None) -> dict[str, Any]:
        chunk = ChatCompletionChunk(
            id=self._id, created=self._created, model=self._request.model, choices=choices, usage=usage
        )
        wire = chunk.model_dump(exclude=None if self._includes_usage else {"usage"})
        for choice in wire["choices"]:
            choice["delta"] = {key: value for key, value in choice["delta"].items() if value is not None}
        return wire

    def _choice(self, index: int, delta: ChatDelta) -> ChatChoice:
        assert delta.finish_reason is not None, "an answer ends with its reason"
        message = AssistantMessage(content=delta.text)
        return ChatChoice(
            index=index, message=message, logprobs=self._logprobs(delta), finish_reason=delta.finish_reason
        )

    def _logprobs(self, delta: ChatDelta) -> ChoiceLogprobs | None:
        return ChoiceLogprobs(content=[_logprob(token) for token in delta.tokens]) if self._request.logprobs else None


def _logprob(scored: ScoredToken) -> TokenLogprob:
    alternatives = [AlternativeToken(**_fields(token)) for token in scored.alternatives]
    return TokenLogprob(**_fields(scored.token), top_logprobs=alternatives)


def _fields(token: Token) -> dict[str, Any]:
    # JSON has no minus infinity: what a bias of -100 or padding made impossible
    return {"token": token.text, "logprob": max(token.logprob, -9999.0), "bytes": list(token.data)}


def _usage(usages: Sequence[ChatUsage]) -> ChatUsageAnswer:
    """The messages are counted once, however many answers there are."""
    num_prompt, num_output = usages[0].num_prompt_tokens, sum(usage.num_output_tokens for usage in usages)
    return ChatUsageAnswer(
        prompt_tokens=num_prompt,
        completion_tokens=num_output,
        total_tokens=num_prompt + num_output,
        prompt_tokens_details=PromptTokensDetails(audio_tokens=usages[0].num_audio_tokens),
    )
