"""Whispers of published shapes with random weights: as fast, and as large, as those that were trained."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from deployments.asr.checkpoints import load_whisper
from models.sources import resolve


@dataclass(frozen=True, slots=True)
class Shape:
    width: int
    num_heads: int
    encoder_layers: int
    decoder_layers: int
    num_mels: int = 128


SHAPES = {
    "tiny": Shape(64, 4, 2, 2),
    "turbo": Shape(1280, 20, 32, 4),
    "large-v3": Shape(1280, 20, 32, 32),
}
"""`tiny` is no published one, but a small one to try programs with."""


def save_random_whisper(name: str, directory: Path, device: torch.device, dtype: torch.dtype) -> None:
    """A checkpoint with the words of Whisper base; `device` is where its numbers are drawn."""
    base, shape = load_whisper(resolve("embedded:whisper-base"), dtype), SHAPES[name]
    config = WhisperConfig.from_dict(
        {
            **base.model.config.to_dict(),
            "d_model": shape.width,
            "num_mel_bins": shape.num_mels,
            **{f"{side}_attention_heads": shape.num_heads for side in ("encoder", "decoder")},
            **{f"{side}_ffn_dim": 4 * shape.width for side in ("encoder", "decoder")},
            "encoder_layers": shape.encoder_layers,
            "decoder_layers": shape.decoder_layers,
        }
    )
    torch.manual_seed(0)
    with device:
        model = WhisperForConditionalGeneration(config).to(dtype)
    model.generation_config = base.model.generation_config
    heads = min(shape.num_heads, 6)
    model.generation_config.alignment_heads = [[shape.decoder_layers - 1, head] for head in range(heads)]
    model.save_pretrained(directory)
    base.tokenizer.save_pretrained(directory)
    WhisperFeatureExtractor(feature_size=shape.num_mels).save_pretrained(directory)
