"""Checkpoints in llama.cpp's format: one `.gguf` file, unpacked once into transformers' own modules.

transformers reads such files, too, but takes three times as long, and unpacks the weights of some at every step.
The format: ggml's documentation of GGUF; how rows are packed: the `gguf` package, llama.cpp's own.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from pipelines.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Architecture:
    """permutes: llama.cpp turns each head's two halves into pairs, which rotate together there."""

    arch: gguf.MODEL_ARCH
    config: type[PreTrainedConfig]
    model: type[PreTrainedModel]
    permutes: bool = False


ARCHITECTURES = {
    "llama": Architecture(gguf.MODEL_ARCH.LLAMA, LlamaConfig, LlamaForCausalLM, permutes=True),
    "qwen2": Architecture(gguf.MODEL_ARCH.QWEN2, Qwen2Config, Qwen2ForCausalLM),
    "qwen3": Architecture(gguf.MODEL_ARCH.QWEN3, Qwen3Config, Qwen3ForCausalLM),
}
"""By what a file calls its own. Mistral's and SmolLM's call themselves llama."""

SIZES = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
}
TOKENS = {"bos": "bos", "eos": "eos", "pad": "padding"}
EMBEDDING = "token_embd.weight"
UNREAD = ("rope.scaling.type", "expert_count")
CONTROL = gguf.TokenType.CONTROL
ENDS = frozenset(
    {"<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "<end_of_turn>"}
)
"""With which models of many families end an answer; llama.cpp goes by names as well."""

SEVERAL_DIGITS = re.compile(r"\d\d")


def find_gguf(source: str) -> Path | None:
    """The file that `source` is, or that lies in it beside no other form of a checkpoint; None for everything else.

    Raises:
        ConfigurationError: there are several.
    """
    path = Path(source)
    if path.suffix == ".gguf":
        return path
    if not path.is_dir() or (path / "config.json").exists():
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise ConfigurationError(f"'{source}' holds {len(files)} GGUF files: name one of them as source.")
    return files[0] if files else None


def load_gguf_model(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """
    Raises:
        ConfigurationError: no GGUF file, or one of an architecture that is not known here.
    """
    reader = _reader(path)
    name = str(_value(reader, "general.architecture"))
    architecture = ARCHITECTURES.get(name)
    if architecture is None:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ConfigurationError(f"'{path}' is of the architecture '{name}'; GGUF files may be of: {known}.")
    config = _config(reader, name, architecture, path)
    weights = _Weights(reader, config, architecture, path).read(dtype)
    model: PreTrainedModel = architecture.model.from_pretrained(None, config=config, state_dict=weights, dtype=dtype)
    model.generation_config.eos_token_id = _ends(reader)
    return model


def load_gguf_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """With the file's chat template.

    Raises:
        OSError, ValueError: the file has no tokenizer, or one of an unknown kind.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name)
    splitting = tokenizer.backend_tokenizer.pre_tokenizer
    if isinstance(splitting, ByteLevel) and not any(map(SEVERAL_DIGITS.search, tokenizer.get_vocab())):
        # its merges were learned on single digits, as SmolLM's: of that rule transformers does not know
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), splitting])
    return tokenizer


class _Weights:
    """The tensors of a file under transformers' names."""

    def __init__(self, reader: Any, config: PreTrainedConfig, architecture: Architecture, path: Path) -> None:
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._names = gguf.get_tensor_name_map(architecture.arch, config.num_hidden_layers)
        self._config = config
        self._architecture = architecture
        self._path = path

    def read(self, dtype: torch.dtype) -> dict[str, Tensor]:
        with torch.device("meta"):
            shapes = {
                name: tensor.shape for name, tensor in self._architecture.model(self._config).state_dict().items()
            }
        if self._config.tie_word_embeddings:
            del shapes["lm_head.weight"]
        return {name: self._read(name, shape).to(dtype) for name, shape in shapes.items()}

    def _read(self, name: str, shape: torch.Size) -> Tensor:
        tensor = self._tensors.get(self._names.get_name(name, try_suffixes=(".weight", ".bias")) or "")
        if tensor is None:
            raise ConfigurationError(f"'{self._path}' has no tensor for '{name}'.")
        # a copy, for the file is mapped read-only
        values = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), np.float32))
        if values.shape != shape:
            raise ConfigurationError(f"'{self._path}': '{tensor.name}' is {list(values.shape)}, not {list(shape)}.")
        return self._unpermuted(name, values)

    def _unpermuted(self, name: str, values: Tensor) -> Tensor:
        """(num_heads * head_dim, …) with the halves of each head behind each other again."""
        heads = {".q_proj.": self._config.num_attention_heads, ".k_proj.": self._config.num_key_value_heads}
        num_heads = next((count for part, count in heads.items() if part in name), None)
        if num_heads is None or not self._architecture.permutes:
            return values
        pairs = values.reshape(num_heads, -1, 2, *values.shape[1:])
        return pairs.transpose(1, 2).reshape(values.shape)


def _config(reader: Any, name: str, architecture: Architecture, path: Path) -> PreTrainedConfig:
    def value(key: str, default: Any = None) -> Any:
        return _value(reader, f"{name}.{key}", default)

    tensors = {tensor.name: tensor for tensor in reader.tensors}
    if "rope_freqs.weight" in tensors or any(value(key) not in (None, "none", 0) for key in UNREAD):
        raise ConfigurationError(f"'{path}' scales its positions or has experts, which is not read from GGUF files.")
    missing = [key for key in SIZES.values() if value(key) is None]
    if missing or EMBEDDING not in tensors:
        raise ConfigurationError(f"'{path}' does not tell the size of its model.")
    sizes = {field: value(key) for field, key in SIZES.items()}
    num_heads = sizes["num_attention_heads"]
    return architecture.config(
        **sizes,
        vocab_size=int(tensors[EMBEDDING].shape[-1]),
        num_key_value_heads=value("attention.head_count_kv", num_heads),
        head_dim=value("attention.key_length", sizes["hidden_size"] // num_heads),
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": value("rope.freq_base", 10_000.0)},
        tie_word_embeddings="output.weight" not in tensors,
        attention_bias="blk.0.attn_q.bias" in tensors,
        **{f"{kind}_token_id": _value(reader, f"tokenizer.ggml.{key}_token_id") for kind, key in TOKENS.items()},
    )


def _ends(reader: Any) -> list[int]:
    """Ids of all tokens that end an answer; files name few of them as such."""
    named = [_value(reader, f"tokenizer.ggml.{end}_token_id") for end in ("eos", "eot", "eom")]
    tokens, kinds = (_value(reader, f"tokenizer.ggml.{key}", []) for key in ("tokens", "token_type"))
    known = [token_id for token_id, kind in enumerate(kinds) if kind == CONTROL and tokens[token_id] in ENDS]
    return sorted({end for end in (*named, *known) if end is not None})


def _reader(path: Path) -> Any:
    try:
        return gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise ConfigurationError(f"'{path}' could not be read as a GGUF file: {error}") from None


def _value(reader: Any, key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    return default if field is None else field.contents()
