"""Conversations to model inputs, by the model's own chat template and processor."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
import soxr
import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from deployments.chat.control_tokens import ControlTokens
from deployments.chat.loading import tokenizer_of
from deployments.chat.row import Prompt
from deployments.compat.transformers import READ_MARKS, control_tokens
from pipelines.audio import from_pcm
from pipelines.audio_types import SAMPLE_RATE_HZ, Samples
from pipelines.chat_types import AudioPart, Message, TextPart
from pipelines.errors import ContextLengthExceeded, InvalidRequest

PROBE = "probe"
CHARACTERS_PER_TOKEN = 8
"""More than texts have on average; only longer ones are looked at in slices."""

SLICE_CHARACTERS = 20_000


class Prompter:
    """Not for several threads at once: fast tokenizers are borrowed while they work.

    Some templates take the parts of a message, others only a string, in which a token marks the place of an audio.
    Control tokens that a user writes are read as the plain text they look like.
    """

    def __init__(
        self,
        processor: ProcessorMixin | PreTrainedTokenizerBase,
        audio_token_id: int | None,
        max_tokens: int,
    ) -> None:
        self._processor: Any = processor
        self._extractor: Any = getattr(processor, "feature_extractor", None) or getattr(
            processor, "audio_processor", None
        )
        self._tokenizer = tokenizer_of(processor)
        self._audio_token_id = audio_token_id
        self._audio_token = "" if audio_token_id is None else self._tokenizer.convert_ids_to_tokens(audio_token_id)
        self._max_tokens = max_tokens
        self._takes_parts = audio_token_id is not None and self._template_takes_parts()
        self._control_tokens = ControlTokens(control_tokens(self._tokenizer, self._template()))

    def prepare(self, messages: Sequence[Message]) -> Prompt:
        """
        Raises:
            InvalidRequest: the template has no place for these messages.
            ContextLengthExceeded: the answer would have no room.
        """
        if self._is_far_too_long(messages):
            raise self._too_long("far more")
        inputs = self._inputs(messages)
        num_tokens = inputs["input_ids"].shape[-1]
        if num_tokens >= self._max_tokens:
            raise self._too_long(str(num_tokens))
        return Prompt(inputs, self._num_audio_tokens(inputs["input_ids"]))

    def max_audio_s(self) -> float | None:
        """How much of one audio the processor looks at: some cut off what goes beyond their window."""
        window_s = getattr(self._extractor, "chunk_length", None)
        if self._audio_token_id is None:
            return None
        if window_s is None:
            return cut_off_s(self._extractor)
        if longest_s := getattr(self._processor, "max_audio_len", None):
            return float(longest_s // window_s * window_s)  # of whole windows, as Audio Flamingo 3 and GLM-ASR count
        inside, beyond = (self._num_tokens_of_silence(seconds) for seconds in (window_s, window_s * 1.5))
        return float(window_s) if beyond == inside else None

    def _num_tokens_of_silence(self, seconds: float) -> int:
        silence = AudioPart(np.zeros(round(seconds * SAMPLE_RATE_HZ), np.int16))
        return self._num_audio_tokens(self._inputs([Message("user", (silence, TextPart(PROBE)))])["input_ids"])

    def _inputs(self, messages: Sequence[Message]) -> Mapping[str, Tensor]:
        try:
            if self._takes_parts:
                return self._from_parts(messages)
            return self._from_strings(messages)
        except (TemplateError, ValueError) as error:  # processors say by the latter how many audios they take
            raise InvalidRequest(f"The model cannot read these messages: {error}", "messages") from None

    def _from_parts(self, messages: Sequence[Message]) -> Mapping[str, Tensor]:
        conversation = [
            {"role": message.role, "content": [self._part(part) for part in message.parts]} for message in messages
        ]
        inputs: Mapping[str, Tensor] = self._processor.apply_chat_template(
            conversation,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={**READ_MARKS},
        )
        return dict(inputs)

    def _part(self, part: TextPart | AudioPart) -> dict[str, Any]:
        if isinstance(part, TextPart):
            return {"type": "text", "text": self._control_tokens.marked(part.text)}
        return {"type": "audio", "audio": self._samples(part)}

    def _from_strings(self, messages: Sequence[Message]) -> Mapping[str, Tensor]:
        conversation = [{"role": message.role, "content": self._as_string(message)} for message in messages]
        audios = [self._samples(part) for message in messages for part in message.parts if isinstance(part, AudioPart)]
        text = self._tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)  # type: ignore[arg-type]
        options = {"add_special_tokens": False, "return_tensors": "pt", **READ_MARKS}
        inputs: Mapping[str, Tensor] = (
            self._processor(text=text, audio=audios, **options) if audios else self._tokenizer(text, **options)
        )
        return dict(inputs)

    def _as_string(self, message: Message) -> str:
        """The user's own control tokens are marked, so that the processor tells them from the template's. Texts are
        lines of their own."""
        string, last = "", ""
        for part in message.parts:
            text = self._control_tokens.marked(part.text) if isinstance(part, TextPart) else ""
            is_glued = last and text and not last.endswith("\n") and not text.startswith("\n")
            string += ("\n" if is_glued else "") + (text if isinstance(part, TextPart) else self._audio_token)
            last = text
        return string

    def _template(self) -> str:
        """The one of its templates that is taken where none is named."""
        templates = (self._processor if self._takes_parts else self._tokenizer).chat_template or ""
        return templates.get("default", "") if isinstance(templates, dict) else templates

    def _template_takes_parts(self) -> bool:
        """A template that wants strings would write a list of parts as Python does, or leave out what is no text."""
        parts = [{"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": PROBE}]}]
        try:
            text = self._processor.apply_chat_template(parts, add_generation_prompt=True, tokenize=False)
        except (TemplateError, TypeError):
            return False
        return PROBE in text and self._audio_token in text

    def _samples(self, part: AudioPart) -> Samples:
        """At the rate that the model was trained on."""
        rate_hz = getattr(self._extractor, "sampling_rate", SAMPLE_RATE_HZ)
        samples = from_pcm(part.pcm)
        if rate_hz == SAMPLE_RATE_HZ:
            return samples
        return np.asarray(soxr.resample(samples, SAMPLE_RATE_HZ, rate_hz), np.float32)

    def _is_far_too_long(self, messages: Sequence[Message]) -> bool:
        """Told from the beginning alone: megabytes would take seconds, and everybody else waits."""
        text = "".join(part.text for message in messages for part in message.parts if isinstance(part, TextPart))
        if len(messages) > self._max_tokens:
            return True
        if len(text) <= CHARACTERS_PER_TOKEN * self._max_tokens:
            return False
        num_tokens = 0
        for start in range(0, len(text), SLICE_CHARACTERS):
            part = text[start : start + SLICE_CHARACTERS]
            num_tokens += len(self._tokenizer.encode(part, add_special_tokens=False, split_special_tokens=True))
            if num_tokens > 2 * self._max_tokens:  # by more than what the cuts may have added
                return True
        return False

    def _num_audio_tokens(self, token_ids: Tensor) -> int:
        return 0 if self._audio_token_id is None else int(torch.sum(token_ids == self._audio_token_id))

    def _too_long(self, num_tokens: str) -> ContextLengthExceeded:
        return ContextLengthExceeded(
            f"This model's context has room for {self._max_tokens} tokens, the answer included, "
            f"but the messages take {num_tokens}."
        )


def cut_off_s(extractor: Any) -> float | None:
    """Where an extractor without windows cuts unless it is told otherwise, as those of Gemma 3n and Gemma 4."""
    if extractor is None:
        return None
    options = signature(type(extractor).__call__).parameters
    cut, length = (options[name].default if name in options else None for name in ("truncation", "max_length"))
    if cut is not True or not isinstance(length, int):
        return None
    return length / float(getattr(extractor, "sampling_rate", SAMPLE_RATE_HZ))
