"""Qwen2-Audio's encoder on as much of its 30 s as there is audio."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder, Qwen2AudioModel

from deployments.compat.transformers import Qwen2AudioEncoderStandIn


def hear_only_what_there_is(model: PreTrainedModel) -> None:
    """Put the encoder of a Qwen2-Audio into an `UnpaddedEncoder`."""
    inner = model.model
    assert isinstance(inner, Qwen2AudioModel)
    assert isinstance(inner.audio_tower, Qwen2AudioEncoder)
    inner.audio_tower = UnpaddedEncoder(inner.audio_tower)


class UnpaddedEncoder(Qwen2AudioEncoderStandIn):
    """Gives what the encoder gives, but for the positions that are padding in every row, which it leaves out.

    Recordings are padded to 30 s, and attention never looks at padding: for 3 s of speech nine tenths of the encoder's
    work is for nothing.
    """

    def forward(self, input_features: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
        """
        Args:
            input_features: log-mel, (rows, bins, 3000).
            attention_mask: bool, (rows, 1, 1500, 1500), as for `scaled_dot_product_attention`; with any other one
                (none, or that of another kernel) nothing is left out.

        Returns:
            `last_hidden_state` of shape (rows, positions / 2, width).
        """
        if attention_mask is None or attention_mask.dim() != 4 or attention_mask.dtype != torch.bool:
            return self.encoder(input_features, attention_mask=attention_mask)
        length = max(int(attention_mask.any(dim=2).sum(dim=-1).max()), 2)  # the pooling needs two
        mask = attention_mask[:, :, :length, :length]
        states = self._positions(input_features, length)
        for layer in self.encoder.layers:
            states = layer(states, mask)
        states = self.encoder.avg_pooler(states.transpose(1, 2)).transpose(1, 2)
        return BaseModelOutput(last_hidden_state=self.encoder.layer_norm(states))

    def _positions(self, input_features: Tensor, length: int) -> Tensor:
        """(rows, length, width): the last convolution has a stride of 2, and both look one frame ahead."""
        frames = input_features[:, :, : 2 * length + 2].to(self.encoder.conv1.weight.dtype)
        states = nn.functional.gelu(self.encoder.conv1(frames))
        states = nn.functional.gelu(self.encoder.conv2(states))[:, :, :length].transpose(1, 2)
        return states + self.encoder.embed_positions.weight[:length]
