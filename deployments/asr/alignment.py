"""Word times from cross-attention by dynamic time warping.

Method of Whisper's reference implementation (`timing.py`): take the attention of the heads that are known to follow the
audio, smooth it, and walk the cheapest path through it. There the finished text is decoded once more for that; here the
heads' queries were kept while it was written.
"""

import logging
import re
from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from librosa.sequence import dtw
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from transformers import WhisperForConditionalGeneration

from pipelines.characters import may_part
from pipelines.transcript_types import Token

logger = logging.getLogger("ray.serve")

ENCODER_FRAME_S = 0.02
EARLY_S = 0.04
"""So long before a word begins the decoder looks for it, measured on synthetic speech whose words begin at known times;
after a pause it does not.
"""

HEADS_AT_ONCE = 4
"""Are smoothed, which takes sixteen times their memory; a checkpoint that names none may have hundreds."""

PREPENDED = "\"'“¿([{-"
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\uff00-\uffef\ufffd\U00020000-\U0003ffff]"
)
"""Scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Chinese, Japanese; and half a character."""
APPENDED = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001


@dataclass(slots=True)
class AlignedWord:
    """`first` and `last` are positions in the segment's tokens, [first, last); those from `spoken` on are punctuation.
    Times count from the window's start."""

    text: str
    first: int
    last: int
    spoken: int = 0
    start_s: float = 0.0
    end_s: float = 0.0


def align(scores: Tensor, tokens: Sequence[Token], frames: NDArray[np.int64], filter_width: int) -> list[AlignedWord]:
    """Time every word of `tokens`.

    Args:
        scores: float32 (alignment heads, tokens + 1, encoder frames), before softmax: of the tokens that were read
            while these were looked for, and of the last of these, which looked for what follows. Where that is
            missing, the last word lasts as long as `frames`. A GPU is waited for here.
        frames: those that may belong to the text, in order. Silence between them is left out, so that no word is
            stretched over it.
    """
    words = split_words(tokens)
    if not words or not len(frames):
        return []
    attention = scores.cpu().softmax(dim=-1)[:, : len(tokens) + 1, torch.from_numpy(frames)]
    starts = [*first_frames(-smooth(attention, filter_width).numpy()), len(frames)]
    for word in words:
        first, after = starts[word.first], max(starts[min(word.spoken, len(starts) - 1)], starts[word.first] + 1)
        word.start_s = float(frames[first] * ENCODER_FRAME_S)
        word.end_s = float((frames[min(after, len(frames)) - 1] + 1) * ENCODER_FRAME_S)
    for word, following in pairwise(words):
        if following.start_s - word.end_s < ENCODER_FRAME_S:  # in one breath
            following.start_s = word.end_s = min(following.start_s + EARLY_S, following.end_s)
    return words


def frames_of(stretches: Sequence[tuple[float, float]], num_frames: int) -> NDArray[np.int64]:
    """Encoder frames that lie in stretches of a window (s from its start), in order; at least one of each."""
    frames = np.zeros(num_frames, dtype=bool)
    for start_s, end_s in stretches:
        first = min(int(start_s / ENCODER_FRAME_S), num_frames - 1)
        frames[first : max(round(end_s / ENCODER_FRAME_S), first + 1)] = True
    return np.flatnonzero(frames)


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


def smooth(attention: Tensor, filter_width: int) -> Tensor:
    """(heads, tokens, frames) to (tokens, frames): normalised over tokens, median-filtered over time, averaged."""
    total = torch.zeros(attention.shape[1:], dtype=attention.dtype, device=attention.device)
    for heads in torch.split(attention, HEADS_AT_ONCE):
        deviation, mean = torch.std_mean(heads, dim=1, keepdim=True, correction=0)
        total += median((heads - mean) / deviation.clamp(min=1e-9), filter_width).sum(dim=0)
    return total / len(attention)


def median(x: Tensor, width: int) -> Tensor:
    """Of each value and its neighbours along the last axis; beyond its ends the values come again, mirrored.

    Sorts all neighbourhoods at once, by exchanging whole rows: many times faster than a filter that sorts each.
    """
    reach = width // 2
    if x.shape[-1] <= reach:
        return x
    padded = pad(x, (reach, reach), mode="reflect")
    ranked = list(padded.unfold(-1, x.shape[-1], 1).unbind(dim=-2))
    for num_ranked in range(reach + 1):  # each pass leaves the largest of the rest at its end
        for place in range(width - 1 - num_ranked):
            lower, higher = ranked[place], ranked[place + 1]
            ranked[place], ranked[place + 1] = torch.minimum(lower, higher), torch.maximum(lower, higher)
    return ranked[reach]


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
    per group of whole characters, with their marks.
    """
    words: list[AlignedWord] = []
    characters = getincrementaldecoder("utf-8")(errors="replace")
    first, is_in_character = 0, False
    for position, token in enumerate(tokens):
        text = characters.decode(token.data, final=position == len(tokens) - 1)
        if not text:
            continue
        left, right = words[-1].text[-1:] if words else "", text[:1]
        is_apart = right.isspace() or (not _is_spaced(left, right) and may_part(left, right))
        is_new = not words or (is_apart and not is_in_character)
        if is_new:
            words.append(AlignedWord(text, first, position + 1, position + 1))
        else:
            is_punctuation = all(character in APPENDED for character in text)
            words[-1].text += text
            words[-1].last = position + 1
            words[-1].spoken = words[-1].spoken if is_punctuation else position + 1
        first = position + 1
        is_in_character = bool(characters.getstate()[0])
    return [word for word in _attach_punctuation(words) if word.text.strip()]


def _is_spaced(left: str, right: str) -> bool:
    """Whether two adjacent characters belong to a script that separates words by spaces."""
    return not UNSPACED.search(left + right)


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
            previous.spoken = previous.spoken if follows else word.spoken
        else:
            attached.append(word)
    return attached
