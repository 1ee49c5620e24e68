"""What transformers does not promise to keep, each thing once, and what it breaks when it changes.

`tests/deployments/compat/test_transformers.py` tells when one of them does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.integrations.mistral import convert_tekken_tokenizer
from transformers.utils import cached_file
from transformers.utils.chat_template_utils import _CONTROL_TOKEN_END, _CONTROL_TOKEN_START

# Models


def prompt_positions(model: PreTrainedModel, token_ids: Tensor, inputs: Mapping[str, Any]) -> Tensor:
    """Positions of a prompt, (rows, tokens) or (axes, rows, tokens): some models count audio by axes of its own.

    `generate` asks each model for them by a private method. When it changes, no prompt is read, or those with audio are
    read at wrong places.
    """
    positions: Tensor = model._prepare_position_ids_for_generation(token_ids, {**inputs, "input_ids": token_ids})
    return positions


def first_inputs(
    model: PreTrainedModel, token_ids: Tensor, positions: Tensor, inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """What `forward` takes of a prompt.

    The method is public, what it is called with is `generate`'s own affair: without `is_first_iteration` features are
    dropped. When it changes, no prompt is read, or models answer as if they had heard nothing.
    """
    ready: dict[str, Any] = model.prepare_inputs_for_generation(
        token_ids, is_first_iteration=True, position_ids=positions, **inputs
    )
    return ready


ATTENTION_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer)
"""The kinds of a `DynamicCache`'s layers that hold keys and values and nothing else, as `chat.slots` holds.

Which there are is transformers' own affair, and those that hold more derive from these. When that changes, models are
refused that could be served, or are served and forget.
"""


def set_attention(model: PreTrainedModel, name: str) -> bool:
    """Have a model attend by a registered function; False where it has a way of its own.

    Setting it is public, but only a private name of the configuration tells whether it was done. When it changes,
    models are refused that could be served, or read each other's conversations.
    """
    model.set_attn_implementation(name)
    return bool(model.config._attn_implementation == name)


def is_stateful(model: PreTrainedModel) -> bool:
    """Whether it, or a model in it, keeps a state that is in no cache, or in one that cannot be cut. Private.

    When it changes, models with recurrent layers are served, and answer nonsense.
    """
    return any(part._is_stateful for part in model.modules() if isinstance(part, PreTrainedModel))


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether an adapter was loaded with it; only then it has a `peft_config`. Private.

    When it changes, Granite Speech does not start, or hears without its adapter.
    """
    return bool(model._hf_peft_config_loaded)


def is_from_model_config(config: GenerationConfig) -> bool:
    """Whether a checkpoint has no `generation_config.json`, so that this is made of its `config.json`. Private.

    When it changes, answers are drawn by options that nobody wished for.
    """
    return bool(config._from_model_config)


class Qwen2AudioEncoderStandIn(nn.Module):
    """Something in the place of a Qwen2-Audio's encoder.

    The model asks its encoder by a private method for how many positions an audio takes. When that changes, Qwen2-Audio
    does not start, or cannot place its audio.
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def config(self) -> Any:
        return self.encoder.config

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def _get_feat_extract_output_lengths(self, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder._get_feat_extract_output_lengths(input_lengths)


# Processors and tokenizers


class HearingProcessor(ProcessorMixin):
    """A processor that makes its own of audio, by `hear`.

    transformers has a private method for that. When it changes, audio goes to the feature extractor as it is.
    """

    def hear(self, audio: Sequence[Any]) -> tuple[dict[str, Tensor], list[str]]:
        """Features, and what each audio's token in the text is replaced by."""
        raise NotImplementedError

    def _process_audio(self, audio: Sequence[Any], **_: Any) -> tuple[dict[str, Tensor], list[str]]:
        return self.hear(audio)


CONTROL_TOKEN_START: str = _CONTROL_TOKEN_START
"""Stands before a control token that is a user's plain text. Private, for transformers marks texts itself, but slowly.

When one of the two changes, users can write control tokens.
"""

CONTROL_TOKEN_END: str = _CONTROL_TOKEN_END

READ_MARKS = {"sanitize_control_tokens": True}
"""Makes tokenizers and processors read those marks. Documented where texts are marked in the same call alone.

When it changes, users can write control tokens, or nothing is read.
"""


def control_tokens(tokenizer: PreTrainedTokenizerBase, chat_template: str) -> tuple[str, ...]:
    """Tokens that a user's text must not be able to write. Private.

    When it changes, no chat model starts, or users can write control tokens.
    """
    tokens: tuple[str, ...] = tokenizer._get_control_tokens(chat_template)
    return tokens


def byte_of_character() -> dict[str, int]:
    """What each character of a byte-level token stands for: GPT-2's alphabet. Undocumented.

    When it changes, no model with such tokens starts, or its texts are garbled.
    """
    return {character: byte for byte, character in bytes_to_unicode().items()}


def tekken_tokenizer(source: str, name: str, chat_template: str) -> PreTrainedTokenizerBase:
    """The tokenizer in Mistral's own format that is the file `name` of a repository or directory.

    Neither the conversion nor the search for one file is documented. When one of them changes, Voxtral does not start.

    Raises:
        OSError: there is no such file.
    """
    return convert_tekken_tokenizer(cached_file(source, name), chat_template=chat_template)
