"""A chat model without a model, for `engine: tests.serve.scripted_chat:Counter`: it counts, and does as it is told.

Every number is a token. The text of the conversation's last message holds the orders, such as `to=60 pace=0.1`:

    name    what it is called in the records; "" by default
    to      how many numbers it says
    pace    seconds before each
    wait    the number before which it waits until the records are released
    say     `pid` or `aboard` (how many are written at once) behind each number, or `heard`: instead of numbers,
            which samples of coded audio it got
    refuse  in `prepare` or in `add`
    die, fail, give_up  the number at which its process ends, its step fails for everybody, or it alone is given up
    cancel  the number at which the replica's own tasks are cancelled, once
    hang    the number at which its step never ends, in the first process that comes to it
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from deployments.chat.engine import ChatEngineArgs, ChatOutput
from deployments.engines import StepOutput
from pipelines.audio_types import SAMPLE_RATE_HZ, PcmSamples
from pipelines.chat_types import (
    AudioPart,
    ChatDelta,
    ChatModelInfo,
    ChatUsage,
    Message,
    SamplingOptions,
    ScoredToken,
    TextPart,
)
from pipelines.errors import InvalidRequest, ModelUnavailable
from pipelines.transcript_types import FinishReason, Token
from tests.serve.cancelling import Cancelling
from tests.serve.coded_audio import read_code
from tests.serve.records import Records

STEP_S = 0.01
WHO = "chat"


@dataclass(frozen=True)
class Prompt:
    orders: dict[str, str]
    audios: tuple[PcmSamples, ...]
    num_tokens: int

    def order(self, name: str, default: float) -> float:
        return float(self.orders.get(name, default))

    @property
    def name(self) -> str:
        return self.orders.get("name", "")


@dataclass
class Row:
    prompt: Prompt
    options: SamplingOptions
    due_s: float
    num_said: int = 0


class Counter:
    """`source` is the directory of its records."""

    info: ClassVar[ChatModelInfo] = ChatModelInfo(hears_audio=True, max_audio_s=300.0, max_context_tokens=1_000_000)

    def __init__(self, args: ChatEngineArgs) -> None:
        self._records = Records(args.source)
        self._aboard: dict[str, Row] = {}
        self._cancelling = Cancelling()

    def prepare(self, messages: Sequence[Message]) -> Prompt:
        parts = [part for message in messages for part in message.parts]
        texts = [part.text for part in messages[-1].parts if isinstance(part, TextPart)]
        orders = dict(word.split("=", 1) for text in texts for word in text.split() if "=" in word)
        if orders.get("refuse") == "prepare":
            raise InvalidRequest("This engine refuses the messages.", "messages", "refused")
        return Prompt(orders, tuple(part.pcm for part in parts if isinstance(part, AudioPart)), len(parts))

    def add(self, request_id: str, prompt: Prompt, options: SamplingOptions, written: Sequence[int]) -> None:
        if prompt.orders.get("refuse") == "add":
            raise InvalidRequest("This engine refuses the options.", "logit_bias", "refused")
        self._aboard[request_id] = Row(prompt, options, time.monotonic() + prompt.order("pace", 0), len(written))
        self._write("joins", prompt, seed=options.seed, num_said=len(written))

    def step(self) -> list[ChatOutput]:
        time.sleep(STEP_S)
        now_s = time.monotonic()
        ready = [request_id for request_id, row in self._aboard.items() if self._is_ready(row, now_s)]
        num_aboard = len(self._aboard)
        return [self._say_next(request_id, self._aboard[request_id], num_aboard) for request_id in ready]

    def abort(self, request_id: str) -> None:
        if row := self._aboard.pop(request_id, None):
            self._write("aborts", row.prompt, num_said=row.num_said)

    def _is_ready(self, row: Row, now_s: float) -> bool:
        is_to_wait = row.num_said == row.prompt.order("wait", -1)
        return row.due_s <= now_s and (not is_to_wait or self._records.is_released)

    def _say_next(self, request_id: str, row: Row, num_aboard: int) -> ChatOutput:
        self._obey(row)
        if row.num_said == row.prompt.order("give_up", -1):
            del self._aboard[request_id]
            return StepOutput(request_id, ModelUnavailable("This engine gave up this request."))
        text = self._text(row, num_aboard)
        row.num_said += 1
        row.due_s += row.prompt.order("pace", 0)
        reason = self._finish_reason(row)
        if reason:
            del self._aboard[request_id]
            self._write("ends", row.prompt, num_said=row.num_said)
        return StepOutput(request_id, _delta(row, text, reason), is_last=reason is not None)

    def _obey(self, row: Row) -> None:
        if row.num_said == row.prompt.order("die", -1):
            os._exit(1)
        if row.num_said == row.prompt.order("cancel", -1) and self._cancelling.cancel_once(row.num_said):
            time.sleep(1)  # meanwhile nobody waits any more
        if row.num_said == row.prompt.order("hang", -1) and not self._records.read(WHO, "hangs"):
            self._write("hangs", row.prompt)
            time.sleep(3_600)
        if row.num_said == row.prompt.order("fail", -1):
            raise FloatingPointError("this step fails, with secret details")

    def _text(self, row: Row, num_aboard: int) -> str:
        match row.prompt.orders.get("say"):
            case "heard":
                first, last = read_code(row.prompt.audios[row.num_said] / 32_768)
                return f"{first}-{last} "
            case "pid":
                return f"{row.num_said}@{os.getpid()} "
            case "aboard":
                return f"{row.num_said}@{num_aboard} "
            case _:
                return f"{row.num_said} "

    def _finish_reason(self, row: Row) -> FinishReason | None:
        if row.num_said >= row.prompt.order("to", 10):
            return "stop"
        return "length" if row.num_said == row.options.max_tokens else None

    def _write(self, what: str, prompt: Prompt, **details: float) -> None:
        self._records.write(WHO, what, name=prompt.name, pid=os.getpid(), **details)


def _delta(row: Row, text: str, finish_reason: FinishReason | None) -> ChatDelta:
    num_audio_tokens = sum(len(pcm) // SAMPLE_RATE_HZ for pcm in row.prompt.audios)
    usage = ChatUsage(row.prompt.num_tokens + num_audio_tokens, num_audio_tokens, row.num_said)
    scored = ScoredToken(Token(row.num_said, text, -0.5, text.encode()))
    tokens = () if row.options.top_logprobs is None else (scored,)
    return ChatDelta(text, usage, tokens, finish_reason, token_ids=(row.num_said,))
