"""Ultravox: Whisper's encoder, a projector, and any language model, of which a checkpoint may hold the projector alone.

transformers has no such model. The layout is that of the configuration and code that Fixie publishes beside the weights
of v0.3 to v0.6; none of that code is executed.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.models.whisper.modeling_whisper import WhisperEncoder

ENCODER_STRIDE = 2
"""Frames of a log-mel spectrogram to a position of Whisper's encoder."""

WINDOWS_AT_ONCE = 8
"""Of 30 s each: an hour of audio would not fit at once."""

EPSILON = 1e-6
"""Of the projector's norms."""


class UltravoxConfig(PreTrainedConfig):
    """What Ultravox's `config.json` says.

    text_model_id, audio_model_id: where the weights of a part are; else its configuration is `text_config` or
        `audio_config`, and its weights are in the checkpoint.
    hidden_size: of the projector.
    projector_ln_mid: whether its second norm stands before its second layer (from v0.5 on) or behind it.
    audio_latency_block_size: positions of the encoder, of 20 ms each, that see one another and what is before them.
    """

    model_type = "ultravox"

    audio_config: dict[str, Any] | PreTrainedConfig | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    audio_model_id: str | None = None
    text_model_id: str | None = None
    audio_token_id: int | None = None
    hidden_size: int = 4096
    stack_factor: int = 8
    projector_act: str = "swiglu"
    projector_ln_mid: bool = False
    num_projector_layers: int = 0
    text_model_lora_config: dict[str, Any] | None = None
    audio_model_lora_config: dict[str, Any] | None = None
    audio_latency_block_size: int | None = None
    llm_only_training: bool = False


AutoConfig.register(UltravoxConfig.model_type, UltravoxConfig)


class Ultravox(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    config_class = UltravoxConfig

    def __init__(
        self,
        config: UltravoxConfig,
        audio_tower: WhisperEncoder,
        multi_modal_projector: "Projector",
        language_model: PreTrainedModel,
    ) -> None:
        super().__init__(config)
        self.audio_tower = audio_tower
        self.multi_modal_projector = multi_modal_projector
        self.language_model = language_model

    def get_decoder(self) -> PreTrainedModel:
        return self.language_model.get_decoder()

    def get_input_embeddings(self) -> Any:
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    def forward(
        self,
        input_ids: Tensor,
        input_features: Tensor | None = None,
        num_frames: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **options: Any,
    ) -> Any:
        """
        Args:
            input_ids: (1, tokens), with a token for each embedding of the audio.
            input_features, num_frames: as for `hear`.
            options: for the language model.
        """
        embed = self.get_input_embeddings()
        # the placeholder is behind the vocabulary
        embeddings = embed(input_ids.clamp(max=embed.num_embeddings - 1))
        if input_features is not None and num_frames is not None:
            is_audio = (input_ids == self.config.audio_token_id)[..., None]
            heard = self.hear(input_features, num_frames)
            embeddings = embeddings.masked_scatter(is_audio, heard.to(embeddings.dtype))
        return self.language_model(inputs_embeds=embeddings, logits_to_keep=logits_to_keep, **options)

    def hear(self, input_features: Tensor, num_frames: Tensor) -> Tensor:
        """
        Args:
            input_features: log-mel, (windows, bins, frames).
            num_frames: (windows,), those that are no padding.

        Returns:
            (embeddings, width of the language model), those of all windows behind one another.
        """
        parts = zip(*(torch.split(one, WINDOWS_AT_ONCE) for one in (input_features, num_frames)), strict=True)
        return torch.cat([self._hear(*part) for part in parts])

    def _hear(self, input_features: Tensor, num_frames: Tensor) -> Tensor:
        states = encode(self.audio_tower, input_features, num_frames, self.config.audio_latency_block_size)
        found = self.multi_modal_projector(states)
        wanted = num_embeddings(num_frames, self.config.stack_factor)
        return found[torch.arange(found.shape[1], device=found.device) < wanted[:, None]]


def num_embeddings(num_frames: Tensor, stack_factor: int) -> Tensor:
    """Of a window with so many frames."""
    return torch.ceil(num_frames / (ENCODER_STRIDE * stack_factor)).long()


def encode(encoder: WhisperEncoder, features: Tensor, num_frames: Tensor, block_size: int | None) -> Tensor:
    """As the encoder does, but of windows that may be shorter than 30 s, and without attention to padding.

    Returns:
        (windows, positions, width)
    """
    states = nn.functional.gelu(encoder.conv1(features))
    states = nn.functional.gelu(encoder.conv2(states)).transpose(1, 2)
    states = states + encoder.embed_positions.weight[: states.shape[1]]
    visible = _visible(num_frames, states.shape[1], block_size)
    for layer in encoder.layers:
        states = layer(states, visible)
    normalized: Tensor = encoder.layer_norm(states)
    return normalized


def _visible(num_frames: Tensor, num_positions: int, block_size: int | None) -> Tensor | None:
    """bool (windows, 1, queries, keys); None where everybody sees all."""
    places = torch.arange(num_positions, device=num_frames.device)
    is_audio = places < torch.ceil(num_frames / ENCODER_STRIDE)[:, None]
    if is_audio.all() and not block_size:
        return None
    visible = is_audio[:, None, None].expand(-1, 1, num_positions, -1)
    if block_size:
        visible = visible & (places[:, None] // block_size >= places // block_size)
    return visible


class Projector(nn.Module):
    """From some positions of the encoder at once to one embedding of the language model."""

    def __init__(self, config: UltravoxConfig, audio_width: int, text_width: int) -> None:
        super().__init__()
        self.stack_factor = config.stack_factor
        width_in, width = audio_width * config.stack_factor, config.hidden_size
        self.ln_pre = nn.RMSNorm(width_in, eps=EPSILON)
        self.linear_1 = nn.Linear(width_in, width, bias=False)
        self.act: nn.Module = Gate() if config.projector_act == "swiglu" else ACT2FN[config.projector_act]
        width = width // 2 if config.projector_act == "swiglu" else width
        self.ln_mid = nn.RMSNorm(width, eps=EPSILON) if config.projector_ln_mid else nn.Identity()
        self.linear_2 = nn.Linear(width, text_width, bias=False)
        self.ln_post = nn.Identity() if config.projector_ln_mid else nn.RMSNorm(text_width, eps=EPSILON)

    def forward(self, states: Tensor) -> Tensor:
        """(windows, positions, audio_width) to (windows, positions / stack_factor, text_width), rounded up."""
        missing = -states.shape[1] % self.stack_factor
        padded = nn.functional.pad(states, (0, 0, 0, missing))
        stacked = padded.reshape(len(states), -1, self.ln_pre.weight.shape[0])
        inner = self.ln_mid(self.act(self.linear_1(self.ln_pre(stacked))))
        embeddings: Tensor = self.ln_post(self.linear_2(inner))
        return embeddings


class Gate(nn.Module):
    """SwiGLU, of which the second half is the gate."""

    def forward(self, states: Tensor) -> Tensor:
        values, gates = states.chunk(2, dim=-1)
        return nn.functional.silu(gates) * values
