"""Small random checkpoints of Ultravox, in the layouts that are published.

One directory has the projector, and two others the models that it stands between, unless they are with it.
"""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from tests.support.chat_checkpoints import OLD_ENCODER_SIZES, SIZES, features, save
from tests.support.small_tokenizers import CHAT_TEMPLATE, TURN_END, byte_level

AUDIO_TOKEN = "<|audio|>"
LONG = {**SIZES, "max_position_embeddings": 2_048}

V0_3: dict[str, Any] = {"norm_init": 0.4, "projector_act": "swiglu", "audio_token_index": 300}
"""Its `audio_token_index` is that of some word."""

LATER: dict[str, Any] = {**V0_3, "projector_ln_mid": True}


def ultravox(directory: Path, text: PreTrainedConfig | None = None, **said: Any) -> None:
    """In `directory`, with the models that it names in `text` and `audio` below it.

    said: of `config.json`, beyond and instead of what stands in v0.3's.
    """
    text = text or LlamaConfig(**LONG)
    save(directory / "text", _text_model(text), words())
    sizes = {name: value for name, value in OLD_ENCODER_SIZES.items() if name != "output_dim"}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "vocab_size": 50_365}
    save(directory / "audio", WhisperForConditionalGeneration(WhisperConfig(**sizes, **decoder)), features())
    config = {
        "model_type": "ultravox",
        "architectures": ["UltravoxModel"],
        "text_model_id": str(directory / "text"),
        "audio_model_id": str(directory / "audio"),
        "hidden_size": 48,
        "stack_factor": 8,
        "torch_dtype": "bfloat16",
        "vocab_size": text.vocab_size,
        **V0_3,
        **said,
    }
    config = {name: value for name, value in config.items() if value is not None}
    words().save_pretrained(directory)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(projector(config, 32, text.hidden_size), directory / "model.safetensors")


def words() -> PreTrainedTokenizerFast:
    tokenizer = byte_level()
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _text_model(config: PreTrainedConfig) -> Any:
    model = AutoModelForCausalLM.from_config(config)
    end = words().convert_tokens_to_ids(TURN_END)
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.6, top_p=0.9, eos_token_id=[0, end])
    return model


def projector(config: dict[str, Any], audio_width: int, text_width: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    width_in, width = audio_width * config["stack_factor"], config["hidden_size"]
    width_out = width // 2 if config["projector_act"] == "swiglu" else width
    norm, norm_width = ("ln_mid", width_out) if config.get("projector_ln_mid") else ("ln_post", text_width)
    weights = {
        "ln_pre.weight": torch.rand(width_in) + 0.2,
        "linear_1.weight": torch.randn(width, width_in) * 0.1,
        "linear_2.weight": torch.randn(text_width, width_out) * 0.3,
        f"{norm}.weight": torch.rand(norm_width) + 0.2,
    }
    return {f"multi_modal_projector.{name}": weight for name, weight in weights.items()}


# What may be other than in v0.3


def say(directory: Path, **said: Any) -> None:
    """In its `config.json`; None takes a key out."""
    file = directory / "config.json"
    config = {**json.loads(file.read_text()), **said}
    file.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


def drop_weight(directory: Path, name: str) -> None:
    weights = load_file(directory / "model.safetensors")
    del weights[name]
    save_file(weights, directory / "model.safetensors")


def add_weights(directory: Path, weights: dict[str, Tensor]) -> None:
    file = directory / "model.safetensors"
    save_file({**load_file(file), **weights}, file)


def carry_audio(directory: Path) -> None:
    """As from v0.5 on: the encoder's weights, and its configuration, beside the projector's."""
    encoder = WhisperForConditionalGeneration.from_pretrained(directory / "audio").model.encoder
    add_weights(directory, {f"audio_tower.{name}": weight for name, weight in encoder.state_dict().items()})
    say(directory, audio_config=json.loads((directory / "audio" / "config.json").read_text()), audio_model_id=None)


def carry_text(directory: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(directory / "text")
    add_weights(directory, {f"language_model.{name}": weight.clone() for name, weight in model.state_dict().items()})
    say(directory, text_config=json.loads((directory / "text" / "config.json").read_text()), text_model_id=None)
    model.generation_config.save_pretrained(directory)


def add_adapters(directory: Path, side: str, model: Any) -> dict[str, Any]:
    """Random ones of `model`, as `side` ("audio" or "text"); returns what `config.json` says of them."""
    said = {"r": 4, "lora_alpha": 8, "target_modules": ["k_proj", "q_proj", "linear_k", "linear_q"]}
    adapted = get_peft_model(model, LoraConfig(**said))
    torch.manual_seed(2)
    prefix = {"audio": "audio_tower.", "text": "language_model."}[side]
    names = [name for name in adapted.state_dict() if "lora_" in name]
    random = {prefix + name: torch.randn_like(adapted.state_dict()[name]) * 0.3 for name in names}
    add_weights(directory, random)
    say(directory, **{f"{side}_model_lora_config": {**said, "unfreeze_layers": None}})
    return said
