"""How tests drive a chat engine, and transformers' own `generate` beside it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from deployments.chat.row import Prompt
from deployments.chat.transformers_chat import TransformersChat
from pipelines.chat_types import AudioPart, ChatDelta, Message, Role, SamplingOptions, TextPart, join_deltas

Conversation = Sequence[Message]
Request = tuple[Conversation, SamplingOptions]

GREEDY = SamplingOptions(seed=0, temperature=0.0, max_tokens=24, top_logprobs=0)
"""With `top_logprobs`, so that an answer tells its tokens."""

MAX_STEPS = 5_000


def says(role: Role, *parts: str | AudioPart) -> Message:
    return Message(role, tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def asks(*parts: str | AudioPart) -> list[Message]:
    """A conversation of one message."""
    return [says("user", *parts)]


def advance(engine: TransformersChat, answers: dict[str, list[ChatDelta]]) -> set[str]:
    """One step; returns whose answers have ended."""
    ended = set()
    for output in engine.step():
        assert isinstance(output.result, ChatDelta), output.result
        answers.setdefault(output.request_id, []).append(output.result)
        assert output.is_last == (output.result.finish_reason is not None)
        if output.is_last:
            ended.add(output.request_id)
    return ended


def finish(engine: TransformersChat, answers: dict[str, list[ChatDelta]], num_aboard: int) -> None:
    for _ in range(MAX_STEPS):
        num_aboard -= len(advance(engine, answers))
        if not num_aboard:
            assert engine.step() == []
            return
    raise AssertionError("somebody never finishes")


def together(engine: TransformersChat, requests: Sequence[Request]) -> list[ChatDelta]:
    """Everybody's whole answer, all of them aboard at once."""
    for number, (conversation, options) in enumerate(requests):
        engine.add(str(number), engine.prepare(conversation), options)
    answers: dict[str, list[ChatDelta]] = {}
    finish(engine, answers, len(requests))
    return [join_deltas(answers[str(number)]) for number in range(len(requests))]


def pieces(engine: TransformersChat, conversation: Conversation, options: SamplingOptions = GREEDY) -> list[ChatDelta]:
    engine.add("alone", engine.prepare(conversation), options)
    answers: dict[str, list[ChatDelta]] = {}
    finish(engine, answers, 1)
    return answers["alone"]


def alone(engine: TransformersChat, conversation: Conversation, **options: Any) -> ChatDelta:
    """`options`: what is other than in `GREEDY`."""
    return join_deltas(pieces(engine, conversation, replace(GREEDY, **options)))


def token_ids(answer: ChatDelta) -> list[int]:
    return [scored.token.id for scored in answer.tokens]


def generated(model: Any, prompt: Prompt, ends: Sequence[int], num_known: int, max_tokens: int = 24) -> list[int]:
    """Greedy tokens by `generate`.

    num_known: tokens that the tokenizer knows; those from there on are padding of the output layer.
    """
    with torch.inference_mode():
        written: list[int] = model.generate(
            **prompt.inputs,
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=list(ends),
            suppress_tokens=list(range(num_known, model.config.get_text_config().vocab_size)) or None,
        )[0, prompt.num_tokens :].tolist()
    return written[:-1] if written[-1] in ends else written


def used_s(work: Callable[[], object]) -> float:
    """Of the processor, by the quickest of some attempts."""
    attempts = []
    for _ in range(5):
        started_at_s = time.process_time()
        work()
        attempts.append(time.process_time() - started_at_s)
    return min(attempts)
