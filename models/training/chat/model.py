"""The chat model: Qwen2-Audio in small, and its forward pass on short recordings."""

from copy import deepcopy
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerBase,
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2Config,
    WhisperForConditionalGeneration,
)
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from models.training.chat.settings import ModelSize
from models.training.chat.tokenizer import AUDIO, END_OF_TEXT, TURN_END

Count = TypeVar("Count", int, Tensor)

MEL_FRAMES_PER_POSITION = 4  # the encoder's stride of 2 and the pooling of 2
POSITIONS_PER_S = 25
LONGEST_ANSWER = 128  # tokens, where the caller does not say


class ChatModel(nn.Module):
    """A Qwen2-Audio to train: the same modules, without the padding to 30 seconds."""

    def __init__(self, inner: Qwen2AudioForConditionalGeneration) -> None:
        super().__init__()
        self.inner = inner
        inner.lm_head.weight = inner.model.language_model.embed_tokens.weight
        self.config: Qwen2AudioConfig = inner.config

    @property
    def vocabulary_weight(self) -> Tensor:
        """Embeddings, and output layer at the same time, shape (vocabulary, hidden)."""
        return self.inner.lm_head.weight

    def encode(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """What Qwen2AudioEncoder hears, before the projector.

        The encoder wants 30 s and masks what is padding; here the padding is left out instead.

        Args:
            mel: (batch, 80, frames), frames a multiple of 4.
            lengths: valid frames of each row, shape (batch,).

        Returns:
            Shape (batch, frames / 4, encoder width); row i holds `positions_of(lengths[i])` valid positions.
        """
        encoder = self.inner.model.audio_tower
        states = nn.functional.gelu(encoder.conv1(mel))
        states = nn.functional.gelu(encoder.conv2(states)).transpose(1, 2)
        states = states + encoder.embed_positions.weight[: states.shape[1]]
        # True is what may be looked at: that is how scaled dot product attention, transformers' default, reads a mask
        valid = torch.arange(states.shape[1], device=mel.device) < ((lengths + 1) // 2)[:, None]
        for layer in encoder.layers:
            states = layer(states, valid[:, None, None, :])
        pooled = encoder.avg_pooler(states.transpose(1, 2)).transpose(1, 2)
        heard: Tensor = encoder.layer_norm(pooled)
        return heard

    def hidden_states(self, tokens: Tensor, audio: Tensor | None) -> tuple[Tensor, ...]:
        """The inputs of every layer of the language model and, last, its normalised output.

        Args:
            tokens: (batch, positions), padded on the right: causal attention never looks there.
            audio: (audio positions of all rows, encoder width), for the audio tokens in their order.

        Returns:
            Layers + 1 tensors of shape (batch, positions, hidden).
        """
        language_model = self.inner.model.language_model
        embedded = language_model.embed_tokens(tokens)
        if audio is not None:
            places = (tokens == self.config.audio_token_id)[..., None]
            projected = self.inner.model.multi_modal_projector(audio)
            embedded = embedded.masked_scatter(places, projected.to(embedded.dtype))
        output = language_model(inputs_embeds=embedded, use_cache=False, output_hidden_states=True)
        states: tuple[Tensor, ...] = output.hidden_states
        return states

    def attention_scores(self, states: Tensor, layer: int, head: int) -> Tensor:
        """Logarithms of one head's attention weights, (batch, positions, positions), from its layer's input."""
        language_model = self.inner.model.language_model
        block = language_model.layers[layer]
        size = block.self_attn.head_dim
        rows = slice(head * size, (head + 1) * size)
        normalised = block.input_layernorm(states)
        query, key = (
            nn.functional.linear(normalised, linear.weight[rows], linear.bias[rows])[:, None]
            for linear in (block.self_attn.q_proj, block.self_attn.k_proj)
        )
        positions = torch.arange(states.shape[1], device=states.device)[None]
        query, key = apply_rotary_pos_emb(query, key, *language_model.rotary_emb(states, positions))
        scores = (query @ key.transpose(2, 3))[:, 0].float() * block.self_attn.scaling
        future = torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device).triu(1)
        return scores.masked_fill(future, -torch.inf).log_softmax(-1)


def positions_of(frames: Count) -> Count:
    """Audio tokens of so many mel frames, as Qwen2AudioProcessor counts them."""
    return (((frames - 1) // 2 + 1) - 2) // 2 + 1


def build_model(size: ModelSize, tokenizer: PreTrainedTokenizerBase, whisper: Path) -> ChatModel:
    """A fresh language model behind the encoder of a Whisper directory.

    Raises:
        OSError: there is no Whisper checkpoint in the directory.
    """
    taught = _whisper(whisper)
    inner = Qwen2AudioForConditionalGeneration(_config(size, tokenizer, taught.config))
    inner.model.audio_tower.load_state_dict(taught.model.encoder.state_dict())
    pad, end = tokenizer.convert_tokens_to_ids([END_OF_TEXT, TURN_END])
    inner.generation_config = GenerationConfig(
        eos_token_id=[end, pad], pad_token_id=pad, do_sample=False, max_new_tokens=LONGEST_ANSWER
    )
    return ChatModel(inner)


def load_model(directory: Path, whisper: Path, layers: int = 0) -> ChatModel:
    """The chat model of a directory, behind the encoder of a Whisper directory.

    Args:
        layers: the fewest that its language model is to have; it is made deeper where it has fewer.

    Raises:
        OSError: there is no checkpoint in one of them.
        RuntimeError: the encoders' sizes differ.
    """
    inner = Qwen2AudioForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
    if inner.config.text_config.num_hidden_layers < layers:
        inner = _deeper(inner, layers)
    inner.model.audio_tower.load_state_dict(_whisper(whisper).model.encoder.state_dict())
    return ChatModel(inner)


def _deeper(inner: Qwen2AudioForConditionalGeneration, layers: int) -> Qwen2AudioForConditionalGeneration:
    """With more layers on top, which pass on what they get until they are taught (Net2Net: Chen et al. 2016,
    https://arxiv.org/abs/1511.05641)."""
    config = deepcopy(inner.config)
    text = config.text_config
    first, text.num_hidden_layers, text.layer_types = text.num_hidden_layers, layers, ["full_attention"] * layers
    deeper = Qwen2AudioForConditionalGeneration(config)
    deeper.load_state_dict(inner.state_dict(), strict=False)
    deeper.generation_config = inner.generation_config
    for layer in deeper.model.language_model.layers[first:]:
        nn.init.zeros_(layer.self_attn.o_proj.weight)
        nn.init.zeros_(layer.mlp.down_proj.weight)
    return deeper


def _whisper(directory: Path) -> WhisperForConditionalGeneration:
    # learned in float32 whatever it was stored in
    return WhisperForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)


def _config(size: ModelSize, tokenizer: PreTrainedTokenizerBase, whisper: object) -> Qwen2AudioConfig:
    shared = ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "num_mel_bins")
    audio = Qwen2AudioEncoderConfig(**{name: getattr(whisper, name) for name in shared})
    pad, end = tokenizer.convert_tokens_to_ids([END_OF_TEXT, TURN_END])
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.positions,
        tie_word_embeddings=False,  # in training they are; Qwen2-Audio ships them apart
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=end,
    )
    return Qwen2AudioConfig(
        audio_config=audio,
        text_config=text,
        audio_token_index=tokenizer.convert_tokens_to_ids(AUDIO),
        pad_token_id=pad,
        eos_token_id=end,
        tie_word_embeddings=False,
    )
