"""Word times from cross-attention by dynamic time warping.

Method of Whisper's reference implementation (`timing.py`): decode the finished text once more, take the
attention of the heads that are known to follow the audio, smooth it, and walk the cheapest path through it.
"""

import logging
from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from librosa.sequence import dtw
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from torch import Tensor
from transformers import WhisperForConditionalGeneration

from pipelines.transcript_types import Token

logger = logging.getLogger("ray.serve")

ENCODER_FRAME_S = 0.02
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001


@dataclass(slots=True)
class AlignedWord:
    """`first` and `last` are positions in the segment's tokens, [first, last); times count from the window's start."""

    text: str
    first: int
    last: int
    start_s: float = 0.0
    end_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TimedText:
    """A segment to align: its text tokens, and the stretch of the window that the decoder gave it."""

    tokens: Sequence[Token]
    start_s: float
    end_s: float


class Aligner:
    def __init__(self, model: WhisperForConditionalGeneration) -> None:
        self._model = model
        self._heads = alignment_heads(model)
        self._filter_width: int = model.config.median_filter_width
        first_frames(np.zeros((1, 1)))  # compiled at load, so that no request waits for it

    @torch.inference_mode()
    def align(
        self, encoded: Tensor, prefix: Sequence[int], segments: Sequence[TimedText], end_of_text: int
    ) -> list[list[AlignedWord]]:
        """Time every word of one window's segments.

        All text is decoded together, as the model first saw it, but each segment is aligned within its own
        times: the decoder's timestamps are surer than a path through a whole window.

        Args:
            encoded: (encoder frames, width), the encoder's output for the window.
            prefix: ids before the text, <|notimestamps|> last.
        """
        ids = [*prefix, *(token.id for segment in segments for token in segment.tokens), end_of_text]
        attention = self._attention(encoded, ids)
        words, first = [], len(prefix)
        for segment in segments:
            last = first + len(segment.tokens)
            # A token is looked for while the one before it is read; the last row looks for what follows.
            words.append(self._align_segment(attention[:, first - 1 : last], segment))
            first = last
        return words

    def _align_segment(self, attention: NDArray[np.float64], segment: TimedText) -> list[AlignedWord]:
        from_frame = int(segment.start_s / ENCODER_FRAME_S)
        to_frame = max(round(segment.end_s / ENCODER_FRAME_S), from_frame + 1)
        words = split_words(segment.tokens)
        matrix = smooth(attention[:, :, from_frame:to_frame], self._filter_width)
        if not words or not matrix.size:
            return []
        starts = first_frames(-matrix)
        for word in words:
            word.start_s = (from_frame + starts[word.first]) * ENCODER_FRAME_S
            word.end_s = (from_frame + starts[word.last]) * ENCODER_FRAME_S
        return words

    def _attention(self, encoded: Tensor, ids: list[int]) -> NDArray[np.float64]:
        """(alignment heads, tokens, frames): computed here because fast attention kernels do not tell it."""
        decoder = self._model.model.decoder
        layers = sorted({layer for layer, _ in self._heads})
        queries: dict[int, Tensor] = {}
        hooks = [
            decoder.layers[layer].encoder_attn.q_proj.register_forward_hook(
                lambda _module, _inputs, output, layer=layer: queries.__setitem__(layer, output)
            )
            for layer in layers
        ]
        try:
            decoder(
                input_ids=torch.tensor([ids], device=encoded.device),
                encoder_hidden_states=encoded[None],
                use_cache=False,
            )
        finally:
            for hook in hooks:
                hook.remove()
        weights = []
        for layer, head in self._heads:
            attention = decoder.layers[layer].encoder_attn
            part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
            keys = attention.k_proj(encoded)[:, part]
            scores = queries[layer][0, :, part] * attention.scaling @ keys.T
            weights.append(scores.float().softmax(dim=-1))
        return torch.stack(weights).cpu().double().numpy()


def alignment_heads(model: WhisperForConditionalGeneration) -> list[tuple[int, int]]:
    """Layers and heads that follow the audio, as the checkpoint names them; if it names none, those of the upper half.

    A model that was distilled from a larger one may still name the larger one's.
    """
    num_layers, num_heads = model.config.decoder_layers, model.config.decoder_attention_heads
    named = [tuple(head) for head in getattr(model.generation_config, "alignment_heads", None) or []]
    found = [(layer, head) for layer, head in named if 0 <= layer < num_layers and 0 <= head < num_heads]
    if len(found) < len(named):
        missing = [head for head in named if head not in found]
        logger.warning("This Whisper names alignment heads that it lacks, so words are timed without them: %s", missing)
    return found or [(layer, head) for layer in range(num_layers // 2, num_layers) for head in range(num_heads)]


def smooth(attention: NDArray[np.float64], filter_width: int) -> NDArray[np.float64]:
    """(heads, tokens, frames) to (tokens, frames): normalised over tokens, median-filtered over time, averaged."""
    mean, deviation = attention.mean(axis=1, keepdims=True), attention.std(axis=1, keepdims=True)
    normalised = (attention - mean) / np.maximum(deviation, 1e-9)
    filtered: NDArray[np.float64] = median_filter(normalised, size=(1, 1, filter_width), mode="mirror")
    return filtered.mean(axis=0)


def first_frames(cost: NDArray[np.float64]) -> list[int]:
    """The frame at which each token begins on the cheapest monotonic path through `cost`, (tokens, frames).

    Dynamic time warping with librosa's steps: (1, 1), (0, 1) and (1, 0).
    """
    # It is compiled anew for another memory layout, and refuses the NaN of a checkpoint that overflows.
    _, path = dtw(C=np.nan_to_num(np.ascontiguousarray(cost)))
    tokens, frames = path[::-1].T
    starts: list[int] = frames[np.unique(tokens, return_index=True)[1]].tolist()
    return starts


def split_words(tokens: Sequence[Token]) -> list[AlignedWord]:
    """Group tokens into words at spaces, punctuation joined to its word.

    Bytes of one character that several tokens share stay together. A script without spaces gives one word
    per group of whole characters.
    """
    words: list[AlignedWord] = []
    characters = getincrementaldecoder("utf-8")(errors="replace")
    first = 0
    for position, token in enumerate(tokens):
        text = characters.decode(token.data, final=position == len(tokens) - 1)
        if not text:
            continue
        is_new = not words or text[:1].isspace() or not _is_spaced(words[-1].text[-1:], text[:1])
        if is_new:
            words.append(AlignedWord(text, first, position + 1))
        else:
            words[-1].text += text
            words[-1].last = position + 1
        first = position + 1
    return [word for word in _attach_punctuation(words) if word.text.strip()]


def _is_spaced(left: str, right: str) -> bool:
    """Whether two adjacent characters belong to a script that separates words by spaces."""
    return max(ord(left or " "), ord(right or " ")) < 0x0E00


def _attach_punctuation(words: list[AlignedWord]) -> list[AlignedWord]:
    attached: list[AlignedWord] = []
    for word in words:
        text = word.text.strip()
        previous = attached[-1] if attached else None
        follows = bool(text) and all(character in APPENDED for character in text) and not word.text[:1].isspace()
        leads = previous is not None and all(c in PREPENDED for c in previous.text.strip())
        if previous is not None and (follows or leads):
            previous.text += word.text
            previous.last = word.last
        else:
            attached.append(word)
    return attached
