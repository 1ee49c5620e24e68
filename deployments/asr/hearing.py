"""From samples to what the encoder makes of them: each window once, on a GPU several together.

Whisper was trained with windows of 30 s, filled up with silence. On a CPU short ones are encoded with less of it where
`padding_s` says so: drafts of realtime sessions with 3 s, their turns with 12 s, or 5 s where drafts take long,
uploads as the model is configured. In 83 turns of LibriSpeech's test-other, 4.2 s long in the mean, Whisper base (int8)
has 18.2 % of the words wrong by whole windows, 17.5 with 12 s, 18.0 with 5 s, 20.3 with 3 s. Where the rest of the
window is put in its place, as of another window that is silent, it goes on with what nobody has said (54 of 87 words of
drafts).
"""

import time
from collections.abc import Sequence
from math import ceil

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

STEP_SAMPLES = 8_000
"""What is cut is some halves of a second long, or each would have a length of its own, for which the libraries make
code and keep it, and which leaves holes in the heap: 120 of them took 350 MB."""


class Ear:
    def __init__(
        self, network: WhisperNetwork, extractor: WhisperFeatureExtractor, cache_mb: int, padding_s: float | None
    ) -> None:
        """padding_s: of silence behind windows whose options say nothing of it; None fills them up."""
        self._network, self._padding_s = network, padding_s
        self._features = LogMel(extractor, network.device)
        self._cache = EncoderCache(cache_mb * 1_000_000)
        self.windows_at_once = WINDOWS_AT_ONCE.get(network.device.type, 1)

    def is_gathering(self, waiting: Sequence[Row], num_aboard: int) -> bool:
        """Whether it is worth a moment to see who else comes."""
        if not waiting or not num_aboard or len(waiting) >= self.windows_at_once:
            return False
        return time.monotonic() - waiting[0].added_at_s < GATHERING_S

    def groups(self, rows: Sequence[Row]) -> list[Sequence[Row]]:
        """Those who are heard together: drafts, or others."""
        size = self.windows_at_once
        kinds = [[row for row in rows if row.options.is_draft is is_draft] for is_draft in (True, False)]
        return [kind[first : first + size] for kind in kinds for first in range(0, len(kind), size)]

    def hear(self, rows: Sequence[Row]) -> list[Tensor]:
        """For each row of a group, (frames, width): as many as a window has, or fewer of one that is cut."""
        windows, num_samples = [row.chunk.waveform.samples for row in rows], self._num_samples(rows)
        if rows[0].options.is_draft:  # it never comes again
            return self._encode(windows, num_samples)
        found = self._cache.encoded(windows, num_samples, self._encode)
        for row, (_, lookups) in zip(rows, found, strict=True):
            row.lookups = lookups
        return [encoded for encoded, _ in found]

    def _num_samples(self, rows: Sequence[Row]) -> int | None:
        """How much is encoded; None is whole windows, as of those who may be heard together: they differ in length."""
        if self.windows_at_once > 1:
            return None
        (row,) = rows
        padding_s = self._padding_s if row.options.padding_s is None else row.options.padding_s
        if padding_s is None:
            return None
        length = len(row.chunk.waveform.samples) + round(padding_s * SAMPLE_RATE_HZ)
        return ceil(length / STEP_SAMPLES) * STEP_SAMPLES

    def _encode(self, windows: Sequence[Samples], num_samples: int | None) -> list[Tensor]:
        encoded = self._network.encode(self._features(windows, num_samples))
        if len(windows) == 1:
            return [encoded[0]]
        return [one.clone() for one in encoded]  # so that who keeps one does not keep them all
