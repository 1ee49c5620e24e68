"""From samples to what the encoder makes of them: each window once, on a GPU several together."""

import time
from collections.abc import Sequence

from torch import Tensor
from transformers import WhisperFeatureExtractor

from deployments.asr.encoder_cache import EncoderCache
from deployments.asr.features import LogMel
from deployments.asr.network import WhisperNetwork
from deployments.asr.row import Row
from pipelines.audio_types import Samples

WINDOWS_AT_ONCE = {"cpu": 1, "cuda": 16}
"""On a CPU a window alone takes no longer, and less memory."""

GATHERING_S = 0.006
"""So long others may still come who are encoded together with the first that waits, while those aboard write."""


class Ear:
    def __init__(self, network: WhisperNetwork, extractor: WhisperFeatureExtractor, cache_mb: int) -> None:
        self._network = network
        self._features = LogMel(extractor, network.device)
        self._cache = EncoderCache(cache_mb * 1_000_000)
        self.windows_at_once = WINDOWS_AT_ONCE.get(network.device.type, 1)

    def is_gathering(self, waiting: Sequence[Row], num_aboard: int) -> bool:
        """Whether it is worth a moment to see who else comes."""
        if not waiting or not num_aboard or len(waiting) >= self.windows_at_once:
            return False
        return time.monotonic() - waiting[0].added_at_s < GATHERING_S

    def groups(self, rows: Sequence[Row]) -> list[Sequence[Row]]:
        """Those who are heard together."""
        size = self.windows_at_once
        return [rows[first : first + size] for first in range(0, len(rows), size)]

    def hear(self, rows: Sequence[Row]) -> list[Tensor]:
        """For each row, (frames, width)."""
        return self._cache.encoded([row.chunk.waveform.samples for row in rows], self._encode)

    def _encode(self, windows: Sequence[Samples]) -> list[Tensor]:
        encoded = self._network.encode(self._features(windows))
        if len(windows) == 1:
            return [encoded[0]]
        return [one.clone() for one in encoded]  # so that who keeps one does not keep them all
