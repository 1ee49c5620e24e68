"""Small random Whispers of every shape, as transformers saves them, with the tokenizers of published ones."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from models.sources import resolve

NUM_TIMESTAMPS = 1_501
"""From 0 to 30 s; no tokenizer here names them."""

DECODER_HEADS = 4


def save_whisper(
    directory: Path,
    published: str = "whisper-base",
    more_languages: Sequence[str] = (),
    num_mels: int = 80,
    encoder_layers: int = 3,
    decoder_layers: int = 2,
    alignment_heads: Sequence[tuple[int, int]] = ((1, 0), (1, 3)),
    std: float = 0.3,
) -> None:
    """With the tokenizer of the `published` one and `more_languages` behind its own. Weights of the usual `std` are so
    large that what it writes hangs on every token and on the audio."""
    tokenizer = json.loads((Path(resolve(f"embedded:{published}")) / "tokenizer.json").read_text())
    for language in more_languages:
        _add_language(tokenizer, language)
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    words = WhisperTokenizer.from_pretrained(directory)
    words.save_pretrained(directory)
    WhisperFeatureExtractor(feature_size=num_mels).save_pretrained(directory)
    model = _random_model(words, num_mels, encoder_layers, decoder_layers, std)
    model.generation_config = _generation_config(words, not published.endswith(".en"), alignment_heads)
    model.save_pretrained(directory)


def _add_language(tokenizer: dict[str, Any], language: str) -> None:
    """As large-v3 has its own: what comes behind the languages moves on."""
    tokens = tokenizer["added_tokens"]
    place = next(place for place, token in enumerate(tokens) if token["content"] == "<|translate|>")
    added = {**tokens[place], "content": f"<|{language}|>"}
    tokens[place:] = [added, *({**token, "id": token["id"] + 1} for token in tokens[place:])]
    ids = {token["content"]: token["id"] for token in tokens}
    for token, special in tokenizer["post_processor"]["special_tokens"].items():
        special["ids"] = [ids[token]]


def _random_model(
    tokenizer: WhisperTokenizer, num_mels: int, encoder_layers: int, decoder_layers: int, std: float
) -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    config = WhisperConfig(
        vocab_size=len(tokenizer) + NUM_TIMESTAMPS,
        num_mel_bins=num_mels,
        d_model=64,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=4,
        decoder_attention_heads=DECODER_HEADS,
        encoder_ffn_dim=96,
        decoder_ffn_dim=160,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
    )
    model = WhisperForConditionalGeneration(config)
    for name, parameter in model.named_parameters():  # nothing is left at 0 or 1, where mistakes would not show
        torch.nn.init.normal_(parameter, mean=1.0 if name.endswith("norm.weight") else 0.0, std=std)
    # so that there are words between timestamps
    model.model.decoder.embed_tokens.weight.data[-NUM_TIMESTAMPS:] *= 0.65
    return model


def _generation_config(
    tokenizer: WhisperTokenizer, is_multilingual: bool, alignment_heads: Sequence[tuple[int, int]]
) -> GenerationConfig:
    id_of = tokenizer.convert_tokens_to_ids
    end = tokenizer.eos_token_id
    options: dict[str, Any] = {}
    if is_multilingual:
        languages = range(id_of("<|startoftranscript|>") + 1, id_of("<|translate|>"))
        options["lang_to_id"] = {tokenizer.convert_ids_to_tokens(language): language for language in languages}
        options["task_to_id"] = {task: id_of(f"<|{task}|>") for task in ("transcribe", "translate")}
    return GenerationConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=id_of("<|startoftranscript|>"),
        no_timestamps_token_id=id_of("<|notimestamps|>"),
        suppress_tokens=[1, 2, 7],
        begin_suppress_tokens=[220],
        alignment_heads=[list(head) for head in alignment_heads],
        max_initial_timestamp_index=50,
        is_multilingual=is_multilingual,
        **options,
    )


FAMILIES: dict[str, Callable[[Path], None]] = {
    "multilingual": save_whisper,
    "english": partial(save_whisper, published="whisper-tiny.en"),
    # large-v3's vocabulary and spectrogram, and more encoder than decoder
    "turbo": partial(save_whisper, more_languages=["yue"], num_mels=128, encoder_layers=4),
    # of a model with more layers and heads
    "some heads missing": partial(save_whisper, alignment_heads=[(1, 2), (5, 1), (0, 7)]),
    "all heads missing": partial(save_whisper, alignment_heads=[(2, 0), (1, 4)]),
}
