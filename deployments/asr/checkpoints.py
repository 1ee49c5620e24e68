"""Whisper checkpoints in transformers' form or in CTranslate2's (faster-whisper), as transformers' modules."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from deployments.asr.ctranslate2_file import CTranslate2File, NotCTranslate2, read_ctranslate2
from deployments.asr.vocabulary import MULTILINGUAL_VOCABULARY
from models.sources import resolve_file
from pipelines.errors import ConfigurationError

logger = logging.getLogger("ray.serve")

WEIGHTS = "model.bin"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
FEATURES = "preprocessor_config.json"

LENT_TOKENIZERS = {51_865: "whisper-base", 51_864: "whisper-tiny.en"}
"""OpenAI's, of the embedded models, by the size of the vocabulary: converters write none unless they are told to."""

EMBEDDINGS = "decoder/embeddings/weight"
HEAD_WIDTH = 64
"""Of all Whispers; for files that do not say how many heads there are."""


@dataclass(frozen=True, slots=True)
class WhisperCheckpoint:
    model: WhisperForConditionalGeneration
    features: WhisperFeatureExtractor
    tokenizer: WhisperTokenizer


def load_whisper(source: str, dtype: torch.dtype) -> WhisperCheckpoint:
    """Load a Whisper from a directory or the hub, in either form.

    Raises:
        ConfigurationError: one sentence about what is wrong with it.
    """
    directory = _ctranslate2_directory(source)
    if directory is not None:
        return _from_ctranslate2(directory, dtype)
    try:
        return WhisperCheckpoint(
            WhisperForConditionalGeneration.from_pretrained(source, dtype=dtype),
            WhisperFeatureExtractor.from_pretrained(source),
            WhisperTokenizer.from_pretrained(source),
        )
    except Exception as error:  # of several readers of files that may say anything
        raise ConfigurationError(f"The Whisper '{source}' could not be loaded: {_reason(error)}.") from error


def is_distilled(config: WhisperConfig) -> bool:
    """Turbo and the distilled Whispers were trained to transcribe only, although their tokens say otherwise.
    Where others have as many layers in the decoder as in the encoder, 24 or 32, they have 4 or 2."""
    return 2 * config.decoder_layers <= config.encoder_layers


def _ctranslate2_directory(source: str) -> Path | None:
    """Where such a checkpoint lies, downloaded if need be; None when it is none."""
    path = Path(source)
    if path.is_dir():
        return path if (path / WEIGHTS).is_file() else None
    try:
        directory = Path(hf_hub_download(source, WEIGHTS)).parent
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError):
        return None  # transformers says better what is wrong
    except Exception as error:  # the connection's, or the disk's
        raise ConfigurationError(f"{WEIGHTS} of '{source}' could not be downloaded: {_reason(error)}.") from error
    for name in (CONFIG, TOKENIZER, FEATURES):
        try:
            hf_hub_download(source, name)
        except (EntryNotFoundError, LocalEntryNotFoundError):
            continue  # what is needed is missed below
        except Exception as error:
            raise ConfigurationError(f"{name} of '{source}' could not be downloaded: {_reason(error)}.") from error
    return directory


def _from_ctranslate2(directory: Path, dtype: torch.dtype) -> WhisperCheckpoint:
    if not (directory / CONFIG).is_file():
        raise ConfigurationError(f"The CTranslate2 checkpoint in {directory} has no {CONFIG}.")
    with _reading(directory / WEIGHTS):
        file = read_ctranslate2(directory / WEIGHTS)
        if file.kind != "WhisperSpec":
            raise NotCTranslate2(f"it is no Whisper but a {file.kind}")
        vocabulary_size = len(file.stored(EMBEDDINGS))
    tokenizer = _tokenizer(directory, vocabulary_size)
    with _reading(directory / WEIGHTS):
        model = _model(file, tokenizer, dtype)
    with _reading(directory / CONFIG):
        said = json.loads((directory / CONFIG).read_text())
        is_multilingual = model.config.vocab_size >= MULTILINGUAL_VOCABULARY
        model.generation_config = _generation_config(said, tokenizer, is_multilingual)
    with _reading(directory / FEATURES):
        features = _features(directory, model.config.num_mel_bins)
    return WhisperCheckpoint(model, features, tokenizer)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes its reader raise is one sentence that names it."""
    try:
        yield
    except NotCTranslate2 as error:
        raise ConfigurationError(f"{path} is no CTranslate2 model that can be read: {error}.") from None
    except Exception as error:
        raise ConfigurationError(f"{path} is not as a Whisper's should be: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """The first line that says something; torch begins with one that only announces others."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.endswith(":")), type(error).__name__).rstrip(".")


def _tokenizer(directory: Path, vocabulary_size: int) -> WhisperTokenizer:
    """The checkpoint's own, else OpenAI's of that size, as faster-whisper does it."""
    if (directory / TOKENIZER).is_file():
        with _reading(directory / TOKENIZER):
            return WhisperTokenizer.from_pretrained(directory)
    if vocabulary_size not in LENT_TOKENIZERS:
        raise ConfigurationError(
            f"The CTranslate2 checkpoint in {directory} has no {TOKENIZER}, and there is none here for a vocabulary "
            f"of {vocabulary_size}."
        )
    lender = LENT_TOKENIZERS[vocabulary_size]
    logger.info("%s has no %s: OpenAI's is taken, of the embedded model %s", directory, TOKENIZER, lender)
    return WhisperTokenizer.from_pretrained(resolve_file(lender, TOKENIZER).parent)


def _model(file: CTranslate2File, tokenizer: WhisperTokenizer, dtype: torch.dtype) -> WhisperForConditionalGeneration:
    with torch.device("meta"):  # nothing is made that is replaced at once
        model = WhisperForConditionalGeneration(_config(file, tokenizer))
    weights = {name: weight.to(dtype).clone() for name, weight in _weights(file)}
    model.load_state_dict({**weights, "proj_out.weight": weights["model.decoder.embed_tokens.weight"]}, assign=True)
    model.tie_weights()
    return model


def _config(file: CTranslate2File, tokenizer: WhisperTokenizer) -> WhisperConfig:
    """The shape of the network, read off its weights."""
    vocabulary, width = file.stored(EMBEDDINGS).shape
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    sides: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        heads = file.variables.get(f"{side}/num_heads")
        sides |= {
            f"{side}_layers": _num_layers(file, side),
            f"{side}_attention_heads": width // HEAD_WIDTH if heads is None else int(heads),
            f"{side}_ffn_dim": file.stored(f"{side}/layer_0/ffn/linear_0/weight").shape[0],
        }
    return WhisperConfig(
        vocab_size=vocabulary,
        d_model=width,
        num_mel_bins=file.stored("encoder/conv1/weight").shape[1],
        max_source_positions=file.stored("encoder/position_encodings/encodings").shape[0],
        max_target_positions=file.stored("decoder/position_encodings/encodings").shape[0],
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
        **sides,
    )


def _num_layers(file: CTranslate2File, side: str) -> int:
    names = (name.split("/") for name in file.variables if name.startswith(f"{side}/layer_"))
    return len({parts[1] for parts in names if parts[1].removeprefix("layer_").isdigit()})


def _weights(file: CTranslate2File) -> Iterator[tuple[str, Tensor]]:
    """CTranslate2's weights under transformers' names."""
    yield "model.decoder.embed_tokens.weight", file.weight(EMBEDDINGS)
    for number in (1, 2):
        yield from _linear(file, f"encoder/conv{number}", f"model.encoder.conv{number}")
    for side in ("encoder", "decoder"):
        yield f"model.{side}.embed_positions.weight", file.weight(f"{side}/position_encodings/encodings")
        yield from _norm(file, f"{side}/layer_norm", f"model.{side}.layer_norm")
        for number in range(_num_layers(file, side)):
            yield from _layer(file, f"{side}/layer_{number}", f"model.{side}.layers.{number}", side == "decoder")


def _layer(file: CTranslate2File, theirs: str, ours: str, looks_at_audio: bool) -> Iterator[tuple[str, Tensor]]:
    """Of self-attention the projections of queries, keys and values are one matrix, of cross-attention the last two."""
    attention = f"{theirs}/self_attention"
    yield from _stacked(file, f"{attention}/linear_0", f"{ours}.self_attn", ("q_proj", "k_proj", "v_proj"))
    yield from _linear(file, f"{attention}/linear_1", f"{ours}.self_attn.out_proj")
    yield from _norm(file, f"{attention}/layer_norm", f"{ours}.self_attn_layer_norm")
    if looks_at_audio:
        attention = f"{theirs}/attention"
        yield from _linear(file, f"{attention}/linear_0", f"{ours}.encoder_attn.q_proj")
        yield from _stacked(file, f"{attention}/linear_1", f"{ours}.encoder_attn", ("k_proj", "v_proj"))
        yield from _linear(file, f"{attention}/linear_2", f"{ours}.encoder_attn.out_proj")
        yield from _norm(file, f"{attention}/layer_norm", f"{ours}.encoder_attn_layer_norm")
    yield from _linear(file, f"{theirs}/ffn/linear_0", f"{ours}.fc1")
    yield from _linear(file, f"{theirs}/ffn/linear_1", f"{ours}.fc2")
    yield from _norm(file, f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")


def _linear(file: CTranslate2File, theirs: str, ours: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{ours}.weight", file.weight(f"{theirs}/weight")
    yield f"{ours}.bias", file.weight(f"{theirs}/bias")


def _stacked(file: CTranslate2File, theirs: str, ours: str, names: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """Whisper's keys have no bias; CTranslate2 writes zeros."""
    weights = file.weight(f"{theirs}/weight").chunk(len(names))
    biases = file.weight(f"{theirs}/bias").chunk(len(names))
    for name, weight, bias in zip(names, weights, biases, strict=True):
        yield f"{ours}.{name}.weight", weight
        if name != "k_proj":
            yield f"{ours}.{name}.bias", bias


def _norm(file: CTranslate2File, theirs: str, ours: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{ours}.weight", file.weight(f"{theirs}/gamma")
    yield f"{ours}.bias", file.weight(f"{theirs}/beta")


def _generation_config(said: dict[str, Any], tokenizer: WhisperTokenizer, is_multilingual: bool) -> GenerationConfig:
    """What transformers keeps there, of what CTranslate2's `config.json` said and of the tokenizer."""
    token_id = tokenizer.convert_tokens_to_ids
    end = token_id("<|endoftext|>")
    options: dict[str, Any] = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": token_id("<|startoftranscript|>"),
        "no_timestamps_token_id": token_id("<|notimestamps|>"),
        "suppress_tokens": said.get("suppress_ids"),
        "begin_suppress_tokens": said.get("suppress_ids_begin"),
        "alignment_heads": said.get("alignment_heads"),
        "max_initial_timestamp_index": 50,  # 1 s, as in OpenAI's own decoding
        "is_multilingual": is_multilingual,
    }
    if is_multilingual:
        named = {tokenizer.convert_ids_to_tokens(number): number for number in said.get("lang_ids") or []}
        options["lang_to_id"] = named or None  # then the tokenizer's own
        options["task_to_id"] = {task: token_id(f"<|{task}|>") for task in ("transcribe", "translate")}
    return GenerationConfig(**options)


def _features(directory: Path, num_mel_bins: int) -> WhisperFeatureExtractor:
    if (directory / FEATURES).is_file():
        return WhisperFeatureExtractor.from_pretrained(directory)
    return WhisperFeatureExtractor(feature_size=num_mel_bins)
