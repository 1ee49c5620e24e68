"""Checkpoints of Ultravox, whose weights lie in up to three places."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    WhisperConfig,
    WhisperModel,
)
from transformers.activations import ACT2FN
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from deployments.chat.families.ultravox_model import ENCODER_STRIDE, Projector, Ultravox, UltravoxConfig
from deployments.chat.families.ultravox_prompts import AUDIO_TOKEN, load_ultravox_tokenizer
from pipelines.errors import ConfigurationError

PREFIXES = {"audio": "audio_tower.", "projector": "multi_modal_projector.", "text": "language_model."}

WEIGHTS = "model*.safetensors"

MAX_REASON_CHARS = 400

Weights = dict[str, Tensor]


def load_ultravox(source: str, config: UltravoxConfig, dtype: torch.dtype) -> Ultravox:
    """`config` gets the configurations of both parts, and the id of the token for audio.

    Raises:
        ConfigurationError: weights are missing or do not fit, or something is wanted that is not done here.
        OSError, ValueError: a file is missing, or is none that transformers can use.
    """
    if config.llm_only_training:
        raise _refusal(source, "hears nothing (llm_only_training)")
    weights = _weights(source)
    audio = _Part(source, "audio", weights["audio"], config.audio_model_id, config.audio_model_lora_config)
    text = _Part(source, "text", weights["text"], config.text_model_id, config.text_model_lora_config)
    audio_config, text_config = audio.config(config.audio_config), text.config(config.text_config)
    _check(source, config, audio_config, text_config)
    encoder = audio.load(WhisperEncoder, audio_config, dtype)
    language_model = text.load(AutoModelForCausalLM, text_config, dtype)
    config.audio_config, config.text_config = audio_config, language_model.config.get_text_config()
    config.audio_token_id = load_ultravox_tokenizer(source).convert_tokens_to_ids(AUDIO_TOKEN)
    projector = _projector(source, weights["projector"], config).to(dtype)
    model = Ultravox(config, encoder, projector, language_model)
    model.generation_config = _generation_config(source, config, language_model)
    return model


def _weights(source: str) -> dict[str, Weights]:
    """By the names of `PREFIXES`, which these weights have lost."""
    directory = Path(source) if Path(source).is_dir() else Path(snapshot_download(source, allow_patterns=WEIGHTS))
    files = sorted(directory.glob(WEIGHTS))
    if not files:
        raise _refusal(source, f"has no {WEIGHTS}")
    found: dict[str, Weights] = {part: {} for part in PREFIXES}
    for file in files:
        for name, weight in load_file(file).items():
            part = next((part for part, prefix in PREFIXES.items() if name.startswith(prefix)), None)
            if part is None:
                raise _refusal(source, f"has a weight '{name}', which is of none of its parts")
            found[part][name.removeprefix(PREFIXES[part])] = weight
    return found


def _check(source: str, config: UltravoxConfig, audio_config: PreTrainedConfig, text_config: PreTrainedConfig) -> None:
    if not isinstance(audio_config, WhisperConfig):
        raise _refusal(source, f"hears by a {type(audio_config).__name__}, and only Whisper's encoder is known here")
    if type(text_config) not in MODEL_FOR_CAUSAL_LM_MAPPING or text_config.is_encoder_decoder:
        raise _refusal(source, f"writes by a {type(text_config).__name__}, which is no language model")
    if config.num_projector_layers:
        raise _refusal(source, "has a projector with layers of attention (num_projector_layers)")
    if config.projector_act != "swiglu" and config.projector_act not in ACT2FN:
        raise _refusal(source, f"has a projector_act '{config.projector_act}', which is not known here")
    if block_size := config.audio_latency_block_size:
        longest = ENCODER_STRIDE * audio_config.max_source_positions
        if longest % block_size:
            raise _refusal(source, f"has an audio_latency_block_size of {block_size}, which does not divide {longest}")


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the two models that are put together.

    weights: what the checkpoint has of it: nothing, adapters, some layers, or all.
    model_id: where the others are; None where there are no others.
    """

    source: str
    name: str
    weights: Weights
    model_id: str | None
    lora_config: Mapping[str, Any] | None

    def config(self, own: dict[str, Any] | PreTrainedConfig | None) -> PreTrainedConfig:
        if self.model_id is not None:
            with _needing(self.source, self.model_id):
                return AutoConfig.from_pretrained(self.model_id, trust_remote_code=False)
        if not isinstance(own, dict) or "model_type" not in own:
            raise _refusal(self.source, f"has neither {self.name}_model_id nor {self.name}_config")
        return AutoConfig.for_model(**own)

    def load(self, auto: Any, config: PreTrainedConfig, dtype: torch.dtype) -> Any:
        if self.model_id is None:
            return self._carried(auto, config, dtype)
        with _needing(self.source, self.model_id):
            model = _named(auto, self.model_id, dtype)
        if not self._rank:
            self._fill(model, required=())
            return model
        adapted = self._with_adapters(model)
        self._fill(adapted, required=[name for name in adapted.state_dict() if "lora_" in name])
        return adapted.merge_and_unload()

    @property
    def _rank(self) -> int:
        return int((self.lora_config or {}).get("r", 0))

    def _carried(self, auto: Any, config: PreTrainedConfig, dtype: torch.dtype) -> Any:
        if self._rank:
            raise _refusal(self.source, f"has adapters, but no {self.name}_model_id that says what they are for")
        kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)] if auto is AutoModelForCausalLM else auto
        model, loaded = kind.from_pretrained(
            None,
            config=config,
            state_dict=self.weights,
            dtype=dtype,
            ignore_mismatched_sizes=True,  # to be told of them by name
            output_loading_info=True,
        )
        for problem in ("missing_keys", "mismatched_keys", "unexpected_keys"):
            if names := sorted(map(str, loaded[problem])):
                raise _refusal(self.source, f"has {problem.replace('_', ' ')} in its {self.name} model: {names[0]}")
        return model

    def _with_adapters(self, model: PreTrainedModel) -> Any:
        from peft import LoraConfig, get_peft_model  # takes seconds, which other models need not wait for

        options = {name: value for name, value in (self.lora_config or {}).items() if name != "unfreeze_layers"}
        try:
            return get_peft_model(model, LoraConfig(**options))
        except (TypeError, ValueError) as error:
            raise _refusal(self.source, f"has adapters that cannot be put on its {self.name} model: {error}") from error

    def _fill(self, model: nn.Module, required: Iterable[str]) -> None:
        _fill(self.source, f"{self.name} model", model, self.weights, required)


@contextmanager
def _needing(source: str, model_id: str) -> Iterator[None]:
    """A model that cannot be had is told by its name: it may be gated, where the checkpoint itself is not."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:MAX_REASON_CHARS].rstrip(".")
        raise _refusal(source, f"needs '{model_id}', which could not be loaded: {reason}") from error


def _named(auto: Any, model_id: str, dtype: torch.dtype) -> Any:
    if auto is WhisperEncoder:
        return WhisperModel.from_pretrained(model_id, dtype=dtype).encoder
    return auto.from_pretrained(model_id, dtype=dtype, trust_remote_code=False)


def _projector(source: str, weights: Weights, config: UltravoxConfig) -> Projector:
    projector = Projector(config, config.audio_config.d_model, config.text_config.hidden_size)  # type: ignore[union-attr]
    _fill(source, "projector", projector, weights, projector.state_dict())
    return projector


def _fill(source: str, whose: str, module: nn.Module, weights: Weights, required: Iterable[str]) -> None:
    wanted = module.state_dict()
    for name in required:
        if name not in weights:
            raise _refusal(source, f"lacks the weight '{name}' of its {whose}")
    for name, weight in weights.items():
        if name not in wanted:
            raise _refusal(source, f"has a weight '{name}', which its {whose} has no place for")
        if weight.shape != wanted[name].shape:
            sizes = f"{list(weight.shape)}, not {list(wanted[name].shape)}"
            raise _refusal(source, f"has a weight '{name}' of its {whose} that is {sizes}")
    module.load_state_dict(weights, strict=False)


def _generation_config(source: str, config: UltravoxConfig, language_model: PreTrainedModel) -> GenerationConfig:
    """Where the language model is another's, that one's, by which Fixie's code answers, too."""
    if config.text_model_id is not None:
        return language_model.generation_config
    try:
        return GenerationConfig.from_pretrained(source)
    except OSError:
        return language_model.generation_config


def _refusal(source: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"The chat model '{source}' {what}.")
