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

EDGE_HOPS = 4
"""What a frame's window of samples reaches beyond it, and more."""


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
        windows = self._windows_of(audio)
        num_frames = [torch.tensor([num for _, num in of_audio]) for of_audio in windows]
        tokens = [AUDIO_TOKEN * int(num_embeddings(num, self._stack_factor).sum()) for num in num_frames]
        found = torch.stack([window for of_audio in windows for window, _ in of_audio])
        return {"input_features": found, "num_frames": torch.cat(num_frames)}, tokens

    def _windows_of(self, audio: Sequence[Samples]) -> list[list[tuple[Tensor, int]]]:
        """Each audio's windows, (bins, frames), and how many frames of them are audio."""
        lengths = [max(SHORTEST_HOPS, -(-len(samples) // self.feature_extractor.hop_length)) for samples in audio]
        longest = max(lengths)
        return [
            list(self._windows(self._features(samples, length, longest), length, min(longest, self._window)))
            for samples, length in zip(audio, lengths, strict=True)
        ]

    def _features(self, samples: Samples, length: int, longest: int) -> Tensor:
        """(bins, frames) up to the end of the audio's last window, or of the longest audio. One audio at a time: beside
        a long one, short ones would take as much memory each."""
        hop = self.feature_extractor.hop_length
        end = min(-(-length // self._window) * self._window, longest)
        seen = min(end + EDGE_HOPS, longest)
        heard = self.feature_extractor(
            np.pad(samples, (0, seen * hop - len(samples))),
            sampling_rate=self.feature_extractor.sampling_rate,
            padding="longest",
            truncation=False,
            return_tensors="pt",
        )
        features: Tensor = heard["input_features"][0, :, :end]
        return features

    def _windows(self, features: Tensor, length: int, width: int) -> Iterator[tuple[Tensor, int]]:
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
