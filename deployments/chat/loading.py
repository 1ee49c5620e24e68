"""Checkpoints of audio language models and of plain language models, by transformers' own classes."""

from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoModelForSeq2SeqLM,
    AutoProcessor,
    AutoTokenizer,
    DynamicCache,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)

from deployments.chat import attention
from deployments.chat.families.table import family_of
from deployments.chat.gguf_checkpoint import find_gguf, load_gguf_model, load_gguf_tokenizer
from deployments.compat.transformers import ATTENTION_LAYERS, is_stateful, set_attention
from pipelines.errors import ConfigurationError

AUTO_CLASSES = (
    (AutoModelForMultimodalLM, MODEL_FOR_MULTIMODAL_LM_MAPPING),
    (AutoModelForSeq2SeqLM, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING),  # Audio Flamingo is only listed here
    (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING),
)


def load_model(source: str, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """Load a checkpoint that writes text, from a directory, a GGUF file or the hub; it attends by slots
    (`deployments.chat.attention`).

    Raises:
        ConfigurationError: there is none, or none that chats.
    """
    try:
        model = _model(source, dtype)
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ConfigurationError(f"The chat model '{source}' could not be loaded: {_first_line(error)}") from error
    # of the Omni models, the part that listens and writes; what speaks is not needed
    model = getattr(model, "thinker", model)
    assert isinstance(model, PreTrainedModel)
    if not _remembers_by_attention_alone(model):
        raise ConfigurationError(f"The chat model '{source}' has recurrent layers, which cannot be batched here.")
    if prepare := family_of(model.config).prepare:
        prepare(model)
    if "chunked_attention" in (getattr(model.config.get_text_config(), "layer_types", None) or ()):
        raise ConfigurationError(f"The chat model '{source}' attends in chunks, which cannot be batched here.")
    if not set_attention(model.get_decoder(), attention.NAME):
        raise ConfigurationError(f"The chat model '{source}' has attention of its own, which cannot be batched here.")
    return model.eval().to(device)  # type: ignore[arg-type]


def load_processor(source: str, model: PreTrainedModel) -> ProcessorMixin | PreTrainedTokenizerBase:
    """What makes prompts for the model: a processor when it hears, else its tokenizer.

    Raises:
        ConfigurationError: it has none, or none with a chat template.
    """
    try:
        processor = _processor(source, model)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigurationError(f"The chat model '{source}' has no usable processor: {_first_line(error)}") from error
    if not getattr(processor, "chat_template", None) and not getattr(tokenizer_of(processor), "chat_template", None):
        raise ConfigurationError(f"The chat model '{source}' has no chat template.")
    assert isinstance(processor, (ProcessorMixin, PreTrainedTokenizerBase))
    if not tokenizer_of(processor).encode("a", add_special_tokens=False):
        # transformers makes an empty one where there are no files
        raise ConfigurationError(f"The chat model '{source}' has no tokenizer.")
    return processor


def tokenizer_of(processor: ProcessorMixin | PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    tokenizer = getattr(processor, "tokenizer", processor)
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def audio_token_id(model: PreTrainedModel) -> int | None:
    """The id that stands for audio in a prompt; None for a model that hears nothing."""
    if getattr(model.config, "audio_config", model.config) is None:  # as of Gemma 4, which has an id all the same
        return None
    for name in ("audio_token_id", "audio_token_index"):
        token_id = getattr(model.config, name, None)
        if token_id is not None:
            return int(token_id)
    return None


def hears_audio(model: PreTrainedModel) -> bool:
    return audio_token_id(model) is not None


def _model(source: str, dtype: torch.dtype) -> Any:
    if path := find_gguf(source):
        return load_gguf_model(path, dtype)
    config = AutoConfig.from_pretrained(source)
    if load := family_of(config).load_model:
        return load(source, config, dtype)
    auto: Any = _auto_class(source, config)
    return auto.from_pretrained(source, dtype=dtype)


def _auto_class(source: str, config: PreTrainedConfig) -> Any:
    for auto, configs in AUTO_CLASSES:
        # an encoder-decoder, as Whisper, has no place for a conversation
        if type(config) in configs and not config.is_encoder_decoder:
            return auto
    name = type(config).__name__
    raise ConfigurationError(f"'{source}' is not a language model, with audio or without: it is a {name}.")


def _processor(source: str, model: PreTrainedModel) -> Any:
    if path := find_gguf(source):
        return load_gguf_tokenizer(path)
    if load_prompts := family_of(model.config).load_prompts:
        return load_prompts(source, model.config)
    auto: Any = AutoProcessor if hears_audio(model) else AutoTokenizer
    return auto.from_pretrained(source)


def _remembers_by_attention_alone(model: PreTrainedModel) -> bool:
    """All that `Slots` holds are keys and values."""
    layers = DynamicCache(config=model.config).layers
    return not is_stateful(model) and all(type(layer) in ATTENTION_LAYERS for layer in layers)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
