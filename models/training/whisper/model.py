"""The model in training: transformers' own Whisper, run on windows of any length, and a frame classifier beside it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig, WhisperForConditionalGeneration

from models.training.whisper.settings import Size
from models.training.whisper.tokenizer import NUM_TIMESTAMPS, Vocabulary

TIMESTAMP_NORM = 1.5
"""Norm of a timestamp's embedding where it starts as a sinusoid: about that of a learned token."""


class Learner(nn.Module):
    """A Whisper and the classifier of its encoder's frames, which is dropped at export."""

    def __init__(self, whisper: WhisperForConditionalGeneration, num_phones: int) -> None:
        super().__init__()
        self.whisper = whisper
        self.frame_head = nn.Linear(whisper.config.d_model, num_phones)

    def encode(self, mel: Tensor, offsets: Tensor) -> Tensor:
        """The encoder on windows of any length.

        Args:
            mel: shape (batch, 80, 2 frames).
            offsets: the encoder position of each window's first frame, shape (batch,).

        Returns:
            shape (batch, frames, width). For 30 s at offset 0 it is what `WhisperEncoder` returns.
        """
        encoder = self.whisper.model.encoder
        hidden = functional.gelu(encoder.conv1(mel))
        hidden = functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        positions = offsets[:, None] + torch.arange(hidden.shape[1], device=hidden.device)
        hidden = hidden + encoder.embed_positions.weight[positions]
        for layer in encoder.layers:
            hidden = layer(hidden, None)
        return encoder.layer_norm(hidden)  # type: ignore[no-any-return]

    def decode(self, tokens: Tensor, encoded: Tensor) -> tuple[Tensor, "CrossAttention"]:
        """The decoder's hidden states, shape (batch, tokens, width), and where its layers look."""
        decoder = self.whisper.model.decoder
        with _recorded(decoder.layers) as projections:
            hidden = decoder(tokens, encoder_hidden_states=encoded, use_cache=False).last_hidden_state
        return hidden, CrossAttention(projections, self.whisper.config.decoder_attention_heads)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.whisper.proj_out(hidden)  # type: ignore[no-any-return]


class CrossAttention:
    """Attention from tokens to frames. Only the heads that are asked for are worked out again; the forward pass itself
    may use a fused kernel that never shows them."""

    def __init__(self, projections: dict[tuple[int, str], Tensor], num_heads: int) -> None:
        self._projections, self._num_heads = projections, num_heads

    def log_weights(self, layer: int, head: int, rows: Tensor) -> Tensor:
        """Log attention of one head.

        Args:
            rows: which tokens, a mask of shape (batch, tokens).

        Returns:
            shape (tokens asked for, frames), float32.
        """
        query = self._of_head(layer, "q_proj", head)
        key = self._of_head(layer, "k_proj", head)
        scores = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
        return scores[rows].float().log_softmax(-1)

    def _of_head(self, layer: int, name: str, head: int) -> Tensor:
        return self._projections[layer, name].chunk(self._num_heads, -1)[head]


@contextmanager
def _recorded(layers: nn.ModuleList) -> Iterator[dict[tuple[int, str], Tensor]]:
    """Keeps the queries and keys of every layer's cross attention."""
    projections: dict[tuple[int, str], Tensor] = {}
    hooks = []
    for index, layer in enumerate(layers):
        for name in ("q_proj", "k_proj"):

            def keep(_module: nn.Module, _input: object, output: Tensor, key: tuple[int, str] = (index, name)) -> None:
                projections[key] = output

            hooks.append(getattr(layer.encoder_attn, name).register_forward_hook(keep))
    try:
        yield projections
    finally:
        for hook in hooks:
            hook.remove()


def build_whisper(size: Size, vocabulary: Vocabulary) -> WhisperForConditionalGeneration:
    """A Whisper with random weights, but sinusoids for all that has to do with time."""
    whisper = WhisperForConditionalGeneration(whisper_config(size, vocabulary))
    positions = whisper.model.decoder.embed_positions.weight
    with torch.no_grad():
        sinusoids = _sinusoids(whisper)
        positions.copy_(sinusoids[: len(positions)])
    write_timestamps(whisper, vocabulary)
    return whisper


def write_timestamps(whisper: WhisperForConditionalGeneration, vocabulary: Vocabulary) -> None:
    """Gives each timestamp the encoder's sinusoid of its frame for an embedding; the last shares its neighbour's."""
    sinusoids = _sinusoids(whisper)
    with torch.no_grad():
        rows = whisper.model.decoder.embed_tokens.weight[vocabulary.timestamps :][:NUM_TIMESTAMPS]
        rows.copy_(torch.cat([sinusoids, sinusoids[-1:]]))


def _sinusoids(whisper: WhisperForConditionalGeneration) -> Tensor:
    return functional.normalize(whisper.model.encoder.embed_positions.weight.detach(), dim=1) * TIMESTAMP_NORM


def whisper_config(size: Size, vocabulary: Vocabulary) -> WhisperConfig:
    return WhisperConfig(
        vocab_size=vocabulary.size,
        num_mel_bins=80,
        d_model=size.width,
        encoder_layers=size.encoder_layers,
        decoder_layers=size.decoder_layers,
        encoder_attention_heads=size.heads,
        decoder_attention_heads=size.heads,
        encoder_ffn_dim=4 * size.width,
        decoder_ffn_dim=4 * size.width,
        # nothing is dropped: the corpus is larger than what a small model can learn by heart
        dropout=0.0,
        pad_token_id=vocabulary.end,
        bos_token_id=vocabulary.end,
        eos_token_id=vocabulary.end,
        decoder_start_token_id=vocabulary.start,
        # Whisper's default forbids an immediate end, which is what silence is answered with
        begin_suppress_tokens=None,
        suppress_tokens=None,
        tie_word_embeddings=True,
    )
