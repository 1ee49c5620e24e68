"""Ultravox's prompts: the language model's own, in which each audio is as many placeholders as it has embeddings."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerBase, WhisperFeatureExtractor

from deployments.chat.families.ultravox_model import ENCODER_STRIDE, UltravoxConfig, num_embeddings
from deployments.compat.transformers import HearingProcessor
from pipelines.audio_types import Samples

AUDIO_TOKEN = "<|audio|>"

SHORTEST_HOPS = 2
"""A shorter audio is followed by silence."""


class UltravoxPrompts(HearingProcessor):
    """Hears an audio in windows of thirty seconds.

    All audios of a request are as long as the longest, with silence behind the others, and what goes on behind a window
    is padded with zeros. Attention sees none of that, but it is in the last embedding of a window.
    """

    def __init__(
        self, feature_extractor: WhisperFeatureExtractor, tokenizer: PreTrainedTokenizerBase, config: UltravoxConfig
    ) -> None:
        super().__init__(feature_extractor, tokenizer, chat_template=tokenizer.chat_template)
        self.audio_token = AUDIO_TOKEN
        self.audio_token_id = tokenizer.convert_tokens_to_ids(AUDIO_TOKEN)
        self._window = ENCODER_STRIDE * config.audio_config.max_source_positions  # type: ignore[union-attr]
        self._stack_factor = config.stack_factor

    def hear(self, audio: Sequence[Samples]) -> tuple[dict[str, Tensor], list[str]]:
        features, lengths = self._features(audio)
        windows = [list(self._windows(*one)) for one in zip(features, lengths, strict=True)]
        num_frames = [torch.tensor([num for _, num in of_audio]) for of_audio in windows]
        tokens = [AUDIO_TOKEN * int(num_embeddings(num, self._stack_factor).sum()) for num in num_frames]
        found = torch.stack([window for of_audio in windows for window, _ in of_audio])
        return {"input_features": found, "num_frames": torch.cat(num_frames)}, tokens

    def _features(self, audio: Sequence[Samples]) -> tuple[Tensor, list[int]]:
        """(audios, bins, frames), and how many frames each audio has."""
        extractor = self.feature_extractor
        shortest = SHORTEST_HOPS * extractor.hop_length
        heard = extractor(
            [np.pad(samples, (0, max(shortest - len(samples), 0))) for samples in audio],
            sampling_rate=extractor.sampling_rate,
            padding="longest",
            pad_to_multiple_of=extractor.hop_length,
            truncation=False,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return heard["input_features"], heard["attention_mask"].sum(-1).tolist()

    def _windows(self, features: Tensor, length: int) -> Iterator[tuple[Tensor, int]]:
        """Each of an audio's windows, (bins, frames), and how many frames of it are audio."""
        width = min(features.shape[-1], self._window)
        for first in range(0, length, self._window):
            window = features[:, first : first + width]
            yield nn.functional.pad(window, (0, width - window.shape[-1])), min(length - first, width)


def load_ultravox_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """With a token for audio, which is not in all repositories.

    Raises:
        OSError, ValueError: there is none.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    tokenizer.add_tokens([AddedToken(AUDIO_TOKEN, special=True, normalized=False)], special_tokens=True)
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def load_ultravox_prompts(source: str, config: UltravoxConfig) -> UltravoxPrompts:
    """
    Args:
        config: that of a loaded model.

    Raises:
        OSError, ValueError: there is no tokenizer.
    """
    # nothing but the number of bins is ever other
    extractor = WhisperFeatureExtractor(feature_size=config.audio_config.num_mel_bins)  # type: ignore[union-attr]
    return UltravoxPrompts(extractor, load_ultravox_tokenizer(source), config)
