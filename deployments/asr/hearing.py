"""From samples to what the encoder makes of them: each window once, on a GPU several together.

A draft is encoded without most of the silence that fills its window up. Of words that were begun a second or two ago,
Whisper base (int8) tells as many rightly as by whole windows in a third of the time: 55 of 69 and 57 of 66, all but the
last of each draft, in 15 drafts of five utterances of LibriSpeech. Where the rest of the window is put in its place, as
of another window that is silent, it goes on with what nobody has said (54 of 87).
"""

import time
from collections.abc import Sequence

from torch import Tensor
from transformers import WhisperFeatureExtractor

from deployments.asr.encoder_cache import EncoderCache
from deployments.asr.features import LogMel
from deployments.asr.network import WhisperNetwork
from deployments.asr.row import Row
from pipelines.audio_types import SAMPLE_RATE_HZ, Samples

WINDOWS_AT_ONCE = {"cpu": 1, "cuda": 16}
"""On a CPU a window alone takes no longer, and less memory."""

GATHERING_S = 0.006
"""So long others may still come who are encoded together with the first that waits, while those aboard write."""


DRAFT_MARGIN_S = 3.0
"""Of the silence behind it that is encoded with a draft."""

SAMPLES_PER_FRAME = 320
"""Of the encoder's frames."""


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
        """Those who are heard together: drafts differ in length, so each of them is alone."""
        whole, size = [row for row in rows if not row.options.is_draft], self.windows_at_once
        drafts = [[row] for row in rows if row.options.is_draft]
        return [*drafts, *(whole[first : first + size] for first in range(0, len(whole), size))]

    def hear(self, rows: Sequence[Row]) -> list[Tensor]:
        """For each row of a group, (frames, width): as many as a window has, or fewer of a draft."""
        if rows[0].options.is_draft:
            return [self._draft(row.chunk.waveform.samples) for row in rows]
        found = self._cache.encoded([row.chunk.waveform.samples for row in rows], self._encode)
        for row, (_, lookups) in zip(rows, found, strict=True):
            row.lookups = lookups
        return [encoded for encoded, _ in found]

    def _encode(self, windows: Sequence[Samples]) -> list[Tensor]:
        encoded = self._network.encode(self._features(windows))
        if len(windows) == 1:
            return [encoded[0]]
        return [one.clone() for one in encoded]  # so that who keeps one does not keep them all

    def _draft(self, samples: Samples) -> Tensor:
        length = len(samples) + round(DRAFT_MARGIN_S * SAMPLE_RATE_HZ)
        return self._network.encode(self._features([samples], length - length % SAMPLES_PER_FRAME))[0]
