"""Voxtral, whose repository has neither a chat template nor a tokenizer in the usual format.

transformers' processor leaves both to mistral-common. Here Mistral's tokenizer file is converted, and the prompts are
written by a template: those of tokenizer version 7, which is Voxtral's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, PreTrainedTokenizerBase, VoxtralConfig

from deployments.compat.transformers import HearingProcessor, tekken_tokenizer
from pipelines.audio_types import Samples

TOKENIZER_FILE = "tekken.json"

CHAT_TEMPLATE = """
{%- set opening = {'': '', 'system': '[SYSTEM_PROMPT]', 'user': '[INST]', 'assistant': ''} -%}
{%- set closing = {'': '', 'system': '[/SYSTEM_PROMPT]', 'user': '[/INST]', 'assistant': eos_token} -%}
{%- set ns = namespace(role='', ends_in_text=false, has_system=false, has_audio=false) -%}
{{- bos_token -}}
{%- for message in messages -%}
    {%- if message.role == 'system' and ns.role == 'assistant' -%}
        {{- raise_exception('a system message cannot follow one of the assistant.') -}}
    {%- elif message.role == 'system' or message.role != ns.role -%}
        {{- closing[ns.role] + opening[message.role] -}}
        {%- set ns.role = message.role -%}
        {%- set ns.ends_in_text = false -%}
    {%- endif -%}
    {%- set ns.has_system = ns.has_system or message.role == 'system' -%}
    {%- for part in message.content -%}
        {%- if part.type == 'audio' -%}
            {{- '[BEGIN_AUDIO][AUDIO]' -}}
            {%- set ns.has_audio = true -%}
            {%- set ns.ends_in_text = false -%}
        {%- elif part.text -%}
            {{- '\\n\\n' if ns.ends_in_text else '' -}}
            {{- part.text.rstrip(' ') if message.role == 'assistant' and loop.last else part.text -}}
            {%- set ns.ends_in_text = true -%}
        {%- endif -%}
    {%- endfor -%}
{%- endfor -%}
{%- if ns.has_system and ns.has_audio -%}
    {{- raise_exception('system messages are not allowed together with audio.') -}}
{%- elif ns.role == 'assistant' -%}
    {{- raise_exception('the last message must not be one of the assistant.') -}}
{%- endif -%}
{{- closing[ns.role] -}}
"""
"""Neighbours of one role are one message, whose texts are paragraphs. What it refuses, mistral-common refuses."""


class VoxtralPrompts(HearingProcessor):
    """Hears an audio in windows of thirty seconds, silence up to the end of the last."""

    def __init__(self, feature_extractor: Any, tokenizer: PreTrainedTokenizerBase, config: VoxtralConfig) -> None:
        super().__init__(feature_extractor, tokenizer, chat_template=CHAT_TEMPLATE)
        self.audio_token_id = config.audio_token_id
        self.audio_token = tokenizer.convert_ids_to_tokens(config.audio_token_id)
        encoder = config.audio_config
        # the projector takes as many frames at once as fill the encoder's inner width
        self._tokens_per_window = encoder.max_source_positions * encoder.hidden_size // encoder.intermediate_size

    def hear(self, audio: Sequence[Samples]) -> tuple[dict[str, Tensor], list[str]]:
        features = [self._features(samples) for samples in audio]
        tokens = [self.audio_token * (self._tokens_per_window * len(windows)) for windows in features]
        return {"input_features": torch.cat(features)}, tokens

    def _features(self, samples: Samples) -> Tensor:
        """(num_windows, num_mels, num_frames), normalized over the whole audio."""
        extractor = self.feature_extractor
        features = extractor(
            samples,
            sampling_rate=extractor.sampling_rate,
            padding=True,
            truncation=False,
            pad_to_multiple_of=extractor.n_samples,
            return_tensors="pt",
        )["input_features"]
        windows: Tensor = features.reshape(extractor.feature_size, -1, extractor.nb_max_frames).transpose(0, 1)
        return windows


def load_voxtral_prompts(source: str, config: VoxtralConfig) -> VoxtralPrompts:
    """
    Raises:
        OSError: a file is missing.
    """
    tokenizer = tekken_tokenizer(source, TOKENIZER_FILE, CHAT_TEMPLATE)
    return VoxtralPrompts(AutoFeatureExtractor.from_pretrained(source), tokenizer, config)
