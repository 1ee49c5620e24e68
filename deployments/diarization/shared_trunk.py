"""Speaker embeddings for several masks of one stretch of audio, whose costly part is computed once.

pyannote.audio 4.0 asks for one embedding per stretch and local speaker, three rows of the same samples one behind
the other, and runs the whole network for each, also where a speaker says nothing. Nearly all the time of a
real pipeline goes there.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.audio.pipelines.speaker_verification import PyannoteAudioPretrainedSpeakerEmbedding
from torch import Tensor

from deployments.compat.pyannote import frames_of, is_in_two_halves, network_of, voices_of


class SharedTrunkEmbedding(PyannoteAudioPretrainedSpeakerEmbedding):
    """The embedding it is made of, only faster where rows repeat; NaN for speakers who say nothing.

    Needs a network in two halves, such as WeSpeaker's.
    """

    def __init__(self, embedding: PyannoteAudioPretrainedSpeakerEmbedding) -> None:
        super().__init__(network_of(embedding), device=embedding.device)

    @staticmethod
    def suits(embedding: Any) -> bool:
        return is_in_two_halves(network_of(embedding))

    def __call__(self, waveforms: Tensor, masks: Tensor | None = None) -> NDArray[np.float32]:
        """(batch, 1, samples), and masks (batch, frames), to (batch, dimension)."""
        if masks is None:
            return np.asarray(super().__call__(waveforms))
        embeddings = np.full((len(waveforms), self.dimension), np.nan, np.float32)
        spoken = [row for row in range(len(waveforms)) if masks[row].any()]
        if not spoken:
            return embeddings
        firsts, places = zip(*_repetitions(waveforms, spoken), strict=True)
        with torch.inference_mode():
            frames = frames_of(network_of(self), waveforms[sorted(set(firsts))].to(self.device))
            found = voices_of(network_of(self), frames[list(places)], masks[spoken].to(self.device))
        embeddings[spoken] = found.cpu().numpy()
        return embeddings


def _repetitions(waveforms: Tensor, rows: list[int]) -> Iterator[tuple[int, int]]:
    """For each row, the first row with the same samples and how many different ones came before that."""
    first, place = rows[0], 0
    for row in rows:
        if row != first and not torch.equal(waveforms[row], waveforms[first]):
            first, place = row, place + 1
        yield first, place
