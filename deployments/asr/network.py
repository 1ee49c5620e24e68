"""Whisper's encoder and decoder over slots: the arithmetic of transformers' modules, without their caches.

Source: A. Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 2.2.
"""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu, layer_norm, scaled_dot_product_attention
from transformers import WhisperForConditionalGeneration

from deployments.asr.slots import Head, Slots, SlotShape
from deployments.decoding.devices import Precision, put
from deployments.decoding.linear import ROWS_AT_ONCE, linear, output
from pipelines.audio_types import MAX_CHUNK_S

POSITIONS_AT_ONCE = 64
"""What was written is read up to a multiple of this. What lies behind a row's own positions counts nothing and is added
up in whole blocks then: its sums stay the same to the last bit, however long the others are."""


class Norm:
    def __init__(self, module: nn.LayerNorm, dtype: torch.dtype) -> None:
        self._weight, self._bias = module.weight.detach().to(dtype), module.bias.detach().to(dtype)
        self._eps = module.eps

    def __call__(self, x: Tensor) -> Tensor:
        return layer_norm(x, x.shape[-1:], self._weight, self._bias, self._eps)


class Perceptron:
    """The two layers behind every attention."""

    def __init__(self, layer: nn.Module, precision: Precision) -> None:
        self._norm = Norm(layer.final_layer_norm, precision.dtype)  # type: ignore[arg-type]
        self._up = linear([layer.fc1], precision)  # type: ignore[list-item]
        self._down = linear([layer.fc2], precision)  # type: ignore[list-item]

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if x.is_cuda or len(rows) <= ROWS_AT_ONCE:
            return x + self._of(x)
        return torch.cat([part + self._of(part) for part in torch.split(rows, ROWS_AT_ONCE)]).view_as(x)

    def _of(self, x: Tensor) -> Tensor:
        return self._down(gelu(self._up(self._norm(x))))


class Projection:
    """From (rows, tokens, width) to one or more of (rows, heads, tokens, head width), in `dtype`."""

    def __init__(self, attention: nn.Module, names: Sequence[str], precision: Precision, dtype: torch.dtype) -> None:
        self._num_parts, self._num_heads, self._dtype = len(names), int(attention.num_heads), dtype  # type: ignore[arg-type]
        scales = [float(attention.scaling) if name == "q_proj" else 1.0 for name in names]  # type: ignore[arg-type]
        self._linear = linear([getattr(attention, name) for name in names], precision, scales)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        rows, tokens, _ = x.shape
        parts = self._linear(x).to(self._dtype).view(rows, tokens, self._num_parts, self._num_heads, -1)
        return parts.permute(2, 0, 3, 1, 4).unbind()


class EncoderLayer:
    def __init__(self, layer: nn.Module, precision: Precision) -> None:
        self._norm = Norm(layer.self_attn_layer_norm, precision.dtype)  # type: ignore[arg-type]
        self._project = Projection(layer.self_attn, ("q_proj", "k_proj", "v_proj"), precision, precision.attention)  # type: ignore[arg-type]
        self._out = linear([layer.self_attn.out_proj], precision)  # type: ignore[list-item, union-attr]
        self._perceptron = Perceptron(layer, precision)

    def __call__(self, x: Tensor) -> Tensor:
        heard = attend_to_all(*self._project(self._norm(x)))
        return _finite(self._perceptron(x + self._out(_joined(heard, x))))


class DecoderLayer:
    def __init__(self, layer: nn.Module, precision: Precision) -> None:
        own, audio = layer.self_attn, layer.encoder_attn
        self._norm = Norm(layer.self_attn_layer_norm, precision.dtype)  # type: ignore[arg-type]
        self._project = Projection(own, ("q_proj", "k_proj", "v_proj"), precision, precision.dtype)  # type: ignore[arg-type]
        self._out = linear([own.out_proj], precision)  # type: ignore[list-item, union-attr]
        self._audio_norm = Norm(layer.encoder_attn_layer_norm, precision.dtype)  # type: ignore[arg-type]
        self._audio_query = Projection(audio, ("q_proj",), precision, precision.attention)  # type: ignore[arg-type]
        self.audio_of = Projection(audio, ("k_proj", "v_proj"), precision, precision.attention)  # type: ignore[arg-type]
        self._audio_out = linear([audio.out_proj], precision)  # type: ignore[list-item, union-attr]
        self._perceptron = Perceptron(layer, precision)

    def __call__(self, x: Tensor, number: int, slots: Slots, step: "Step") -> Tensor:
        query, key, value = self._project(self._norm(x))
        cache, read = slots.layers[number], slice(step.num_read)
        step.write(cache.keys, key)
        step.write(cache.values, value)
        said = attend(query, cache.keys[step.rows, :, read], cache.values[step.rows, :, read], step.mask)
        x = x + self._out(_joined(said, x))
        (query,) = self._audio_query(self._audio_norm(x))
        if number in slots.heads_of:
            step.write(cache.queries, query.index_select(1, slots.heads_of[number]))
        audio_keys, audio_values = (part[step.rows, :, step.frames] for part in (cache.audio_keys, cache.audio_values))
        heard = attend(query, audio_keys, audio_values, step.audio_mask)
        return self._perceptron(x + self._audio_out(_joined(heard, x)))


class Step:
    """Where the rows of a step stand: some tokens for each of neighbouring slots.

    Args:
        places: (rows, new tokens), each one's position.
        num_read: positions that are read, beyond all of `places`.
        frames: those of the encoder that may be looked at, if not all that the rows have.
    """

    def __init__(self, slots: Slots, rows: slice, places: Tensor, num_read: int, frames: slice | None = None) -> None:
        self.rows, self.places, self.num_read = rows, places, num_read
        self.frames = frames or slice(max(slots.num_frames[rows], default=slots.shape.num_frames))
        self.audio_mask = None if frames else _audio_mask(slots, rows)
        device = slots.shape.device
        hidden = torch.arange(num_read, device=device) > places[..., None]
        nothing = torch.zeros(hidden.shape, dtype=slots.shape.dtype, device=device)
        self.mask = nothing.masked_fill_(hidden, -torch.inf)[:, None]
        """(rows, 1, num_new, num_read): what is added to scores, so that nobody looks ahead or at others' leavings."""
        self._slots = torch.arange(rows.start, rows.stop, device=device)[:, None]

    def write(self, cache: Tensor, states: Tensor) -> None:
        """Put (rows, heads, num_new, width) at the new tokens' positions."""
        cache[self._slots, :, self.places] = states.transpose(1, 2).to(cache.dtype)


def _audio_mask(slots: Slots, rows: slice) -> Tensor | None:
    """(rows, 1, 1, frames), where some have fewer than others."""
    num_frames, shape = slots.num_frames[rows], slots.shape
    if len(set(num_frames)) == 1:
        return None
    missing = (
        torch.arange(max(num_frames), device=shape.device) >= torch.tensor(num_frames, device=shape.device)[:, None]
    )
    nothing = torch.zeros(missing.shape, dtype=shape.audio_dtype, device=shape.device)
    return nothing.masked_fill_(missing, -torch.inf)[:, None, None]


class WhisperNetwork:
    """Takes the weights of `model`, which may be forgotten then."""

    def __init__(self, model: WhisperForConditionalGeneration, precision: Precision, heads: Sequence[Head]) -> None:
        config, encoder, decoder = model.config, model.model.encoder, model.model.decoder
        self.precision = precision
        self.device = model.device
        self.frames_per_s = config.max_source_positions / MAX_CHUNK_S
        self._convolutions = [
            (conv.weight.detach().to(precision.attention), conv.bias.detach().to(precision.attention))
            for conv in (encoder.conv1, encoder.conv2)
        ]
        self._frames = encoder.embed_positions.weight.detach().to(precision.dtype)
        self._encoder_layers = [EncoderLayer(layer, precision) for layer in encoder.layers]
        self._encoder_norm = Norm(encoder.layer_norm, precision.dtype)
        self._embeddings = decoder.embed_tokens.weight.detach().to(precision.dtype)
        self._positions = decoder.embed_positions.weight.detach().to(precision.dtype)
        self._decoder_layers = [DecoderLayer(layer, precision) for layer in decoder.layers]
        self._decoder_norm = Norm(decoder.layer_norm, precision.dtype)
        self._logits = output(model.proj_out, precision)
        self.slot_shape = SlotShape(
            num_layers=config.decoder_layers,
            num_heads=config.decoder_attention_heads,
            head_width=config.d_model // config.decoder_attention_heads,
            num_positions=config.max_target_positions,
            num_frames=config.max_source_positions,
            dtype=precision.dtype,
            audio_dtype=precision.attention,
            device=model.device,
            alignment_heads=tuple(heads),
        )

    def encode(self, features: Tensor) -> Tensor:
        """
        Args:
            features: log-mel spectrograms (windows, mels, 2 · frames), of whole windows or of their beginnings.

        Returns:
            (windows, frames, width).
        """
        x = features.to(self.device, self.precision.attention)
        for stride, (weight, bias) in enumerate(self._convolutions, start=1):
            x = gelu(conv1d(x, weight, bias, stride=stride, padding=1))
        x = x.mT.to(self.precision.dtype) + self._frames[: x.shape[-1]]
        for layer in self._encoder_layers:
            x = layer(x)
        return self._encoder_norm(x)

    def listen(self, encoded: Tensor, slots: Slots, rows: slice) -> None:
        """Give those slots what the encoder heard, (rows, frames, width), to look at."""
        num_frames = encoded.shape[1]
        slots.num_frames[rows] = [num_frames] * len(encoded)
        for layer, cache in zip(self._decoder_layers, slots.layers, strict=True):
            for audio, states in zip((cache.audio_keys, cache.audio_values), layer.audio_of(encoded), strict=True):
                audio[rows, :, :num_frames] = states
                audio[rows, :, num_frames:].zero_()  # numbers, whatever whoever had the slot has left

    def read(self, token_ids: Tensor, slots: Slots, rows: slice, frames: slice | None = None) -> Tensor:
        """Read on, in neighbouring slots, and remember it.

        Args:
            token_ids: (rows, tokens).
            frames: those of the encoder that may be looked at, if not all that the rows have.

        Returns:
            (rows, tokens, width), for `logits`.
        """
        num_new, lengths = token_ids.shape[1], slots.lengths[rows]
        places = put([list(range(length, length + num_new)) for length in lengths], self.device)
        step = Step(slots, rows, places, num_read(slots, max(lengths) + num_new), frames)
        hidden = self.read_step(token_ids, slots, step)
        slots.advance(rows, num_new)
        return hidden

    def read_step(self, token_ids: Tensor, slots: Slots, step: Step) -> Tensor:
        """The same where the step says, without anything that a CUDA graph cannot hold: `slots.lengths` stay."""
        x = self._embeddings[token_ids] + self._positions[step.places]
        for number, layer in enumerate(self._decoder_layers):
            x = layer(x, number, slots, step)
        return self._decoder_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, width) to float32 (…, vocabulary)."""
        return self._logits(hidden).float()


def num_read(slots: Slots, length: int) -> int:
    """Positions that are read where the longest row has so many."""
    return min(ceil(length / POSITIONS_AT_ONCE) * POSITIONS_AT_ONCE, slots.shape.num_positions)


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of few queries, which are scaled already: (rows, heads, tokens, width)."""
    scores = query @ keys.mT
    if mask is not None:
        scores += mask
    return torch.softmax(scores, dim=-1) @ values


def attend_to_all(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of as many queries as keys."""
    if query.is_cuda or query.dtype != torch.bfloat16:
        return scaled_dot_product_attention(query, keys, values, scale=1.0)
    # torch's own is slow on a CPU in this type; scores of so many rows stay in the second cache
    heard = torch.empty(query.shape, dtype=query.dtype)
    by_head = (tensor.flatten(0, 1) for tensor in (heard, query, keys, values))
    for results, its_queries, its_keys, its_values in zip(*by_head, strict=True):
        parts = zip(torch.split(results, ROWS_AT_ONCE), torch.split(its_queries, ROWS_AT_ONCE), strict=True)
        for result, some in parts:
            torch.mm(torch.softmax(some @ its_keys.mT, dim=-1), its_values, out=result)
    return heard


def _finite(x: Tensor) -> Tensor:
    """float16 overflows in the encoder of some checkpoints; as transformers has it."""
    if x.dtype != torch.float16:
        return x
    limit = torch.finfo(x.dtype).max - 1_000
    return x.clamp(-limit, limit)


def _joined(heads: Tensor, like: Tensor) -> Tensor:
    """(rows, heads, tokens, width) to (rows, tokens, heads · width), in the type of `like`."""
    return heads.transpose(1, 2).reshape(like.shape).to(like.dtype)
