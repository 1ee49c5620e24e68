"""A chat model without a model: it repeats what it is told, or tells what it can do."""

import asyncio
import random
import zlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass

from pipelines.audio_types import SAMPLE_RATE_HZ
from pipelines.chat_types import (
    AudioPart,
    ChatDelta,
    ChatModelInfo,
    ChatUsage,
    Message,
    SamplingDefaults,
    SamplingOptions,
    ScoredToken,
    TextPart,
    join_deltas,
)
from pipelines.errors import ContextLengthExceeded, InvalidRequest
from pipelines.stops import StopTexts
from pipelines.transcript_types import FinishReason, Token, Work
from tests.scripted.engines import Observe
from tests.scripted.recordings import listen, recordings

ABOUT_ITSELF = (
    "I can transcribe audio, say which language it is in, and answer questions about what is said. "
    "Send me a recording, and ask whatever you would like to know about the words that are spoken there."
)
NOTHING_HEARD = "There is no speech that I know."

MAX_CONTEXT_TOKENS = 2_048
MAX_AUDIO_S = 30.0
VOCABULARY_SIZE = 49_152
ENDS = 2
"""The token that ends an answer."""

AUDIO_TOKENS_PER_S = 25
PAUSE_S = 0.001


@dataclass
class ScriptedChatModel:
    """`pipelines.ports.ChatModel`: a word is a token; with a temperature their order is drawn."""

    observe: Observe
    pace_s: float = PAUSE_S

    async def info(self) -> ChatModelInfo:
        return ChatModelInfo(True, MAX_AUDIO_S, MAX_CONTEXT_TOKENS, SamplingDefaults(temperature=0.0))

    async def generate(
        self, messages: Sequence[Message], options: SamplingOptions, in_pieces: bool, is_first_step: bool = True
    ) -> AsyncGenerator[ChatDelta, None]:
        _check(options)
        num_audio_tokens, num_tokens = await asyncio.to_thread(_num_prompt_tokens, messages)
        words = await asyncio.to_thread(_words, messages, options)
        max_tokens = min(options.max_tokens or MAX_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS - num_tokens)
        deltas: list[ChatDelta] = []
        for delta in _write(words, options, max_tokens, num_tokens, num_audio_tokens):
            await asyncio.sleep(self.pace_s)
            deltas.append(delta)
            if in_pieces:
                yield delta
        if not in_pieces:
            yield join_deltas(deltas)
        self.observe(Work(0.0, 0.001, 1.0))


def _check(options: SamplingOptions) -> None:
    for token_id in options.logit_bias:
        if not 0 <= token_id < VOCABULARY_SIZE:
            raise InvalidRequest(f"There is no token {token_id}.", "logit_bias")


def _num_prompt_tokens(messages: Sequence[Message]) -> tuple[int, int]:
    """Those of audio, and all.

    Raises:
        ContextLengthExceeded
    """
    parts = [part for message in messages for part in message.parts]
    num_audio = sum(
        len(part.pcm) * AUDIO_TOKENS_PER_S // SAMPLE_RATE_HZ + 1 for part in parts if isinstance(part, AudioPart)
    )
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    num_tokens = 4 * len(messages) + num_audio + sum(len(text.split()) + len(text) // 8 for text in texts)
    if num_tokens >= MAX_CONTEXT_TOKENS:
        message = f"The messages have {num_tokens} tokens, more than the {MAX_CONTEXT_TOKENS} of the context."
        raise ContextLengthExceeded(message, "messages")
    return num_audio, num_tokens


def _words(messages: Sequence[Message], options: SamplingOptions) -> Iterator[str]:
    """Without end when the end is forbidden."""
    forced = next((token_id for token_id, bias in options.logit_bias.items() if bias >= 100), None)
    words = _answer(messages).split() if forced is None else [f"<{forced}>"] * 4 * MAX_CONTEXT_TOKENS
    if options.temperature and options.top_p > 0.01 and options.top_k != 1 and options.min_p < 1:
        random.Random(options.seed).shuffle(words)
    yield from words
    while options.logit_bias.get(ENDS, 0) <= -100:
        yield from words


def _answer(messages: Sequence[Message]) -> str:
    """What is heard in the last message that holds audio, or a text of a recording; else about itself."""
    for message in reversed(messages):
        audios = [part for part in message.parts if isinstance(part, AudioPart)]
        if audios:
            heard = [one.sentence.text for audio in audios for one in listen(audio.pcm / 32_768)]
            return " ".join(heard) or NOTHING_HEARD
        text = " ".join(part.text for part in message.parts if isinstance(part, TextPart))
        known = {one.text for recording in recordings() for one in recording.sentences if one.text in text}
        if known and message.role == "user":
            return " ".join(sorted(known, key=text.index))
    return ABOUT_ITSELF


def _write(
    words: Iterator[str], options: SamplingOptions, max_tokens: int, num_tokens: int, num_audio_tokens: int
) -> Iterator[ChatDelta]:
    stops = StopTexts(options.stop)

    def delta(text: str, word: str | None, num_written: int, reason: FinishReason | None) -> ChatDelta:
        tokens = () if word is None or options.top_logprobs is None else (_scored(word, options.top_logprobs),)
        return ChatDelta(text, ChatUsage(num_tokens, num_audio_tokens, num_written), tokens, reason)

    number = 0
    for number, word in enumerate(words, 1):
        token = word if number == 1 else f" {word}"
        text = stops.push(token)
        if stops.is_found:
            yield delta(text, token, number, "stop")
            return
        if number == max_tokens:
            yield delta(text + stops.finish(), token, number, "length")
            return
        yield delta(text, token, number, None)
    yield delta(stops.finish(), None, number, "stop")


def _scored(word: str, num_alternatives: int) -> ScoredToken:
    def token(text: str, rank: int) -> Token:
        return Token(zlib.crc32(text.encode()) % VOCABULARY_SIZE, text, -0.1 - rank, text.encode())

    return ScoredToken(
        token(word, 0), tuple(token(word if not rank else f"{word}{rank}", rank) for rank in range(num_alternatives))
    )
