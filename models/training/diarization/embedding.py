"""What a voice sounds like: windows of one speaker, learned by telling all training speakers apart."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.metrics.binary_classification import det_curve
from pytorch_metric_learning.losses import ArcFaceLoss
from torch import Tensor, nn

from deployments.diarization.small_models import SmallEmbedding
from models.training.corpus.acoustics import reverberate
from models.training.corpus.conversations import LOUDNESS, Voice
from models.training.corpus.utterances import SAMPLE_RATE
from models.training.diarization.material import Material
from models.training.diarization.settings import Settings

Samples = NDArray[np.float32]

FRAME = 320  # samples of which a mask says whether the speaker is heard

P_ROOM, P_BACKGROUND, P_TALKER, P_NEIGHBOUR = 0.45, 0.75, 0.15, 0.5
BACKGROUND_DB = (5, 35)
TALKER_DB = (6, 18)  # how much weaker somebody is who talks meanwhile
NEIGHBOUR_DB = (-8, 8)  # and who talks before or after
SPOKEN = (0.5, 1.0)  # how much of a window is the speaker's own

EVALUATED_WINDOWS = 6  # of each voice that was kept back
EVALUATED_S = 1.5  # as long as the pipeline's windows


@dataclass(frozen=True, slots=True)
class Batch:
    """waveforms: (batch, 1, samples). weights: (batch, frames), 1 where the speaker is. speakers: (batch,)."""

    waveforms: Tensor
    weights: Tensor
    speakers: Tensor

    def to(self, device: str) -> "Batch":
        return Batch(self.waveforms.to(device), self.weights.to(device), self.speakers.to(device))


class Windows:
    """Makes batches without end; in each all windows are of one duration."""

    def __init__(self, material: Material, settings: Settings) -> None:
        self._material, self._settings = material, settings
        counts = [len(voices) for voices in material.voices.values()]
        self._first = dict(zip(material.voices, accumulate(counts, initial=0), strict=False))
        self.num_speakers = sum(counts)

    def __call__(self, seed: int) -> Iterator[Batch]:
        random = Random(seed)
        while True:
            length = int(random.uniform(*self._settings.embedding_window_s) * SAMPLE_RATE) // FRAME * FRAME
            drawn = [self._draw(random, length) for _ in range(self._settings.embedding_batch)]
            waveforms, weights, speakers = zip(*drawn, strict=True)
            yield Batch(
                torch.from_numpy(np.stack(waveforms))[:, None],
                torch.from_numpy(np.stack(weights)),
                torch.tensor(speakers),
            )

    def _draw(self, random: Random, length: int) -> tuple[Samples, Samples, int]:
        kind = self._material.group(random, self._settings)
        place = random.randrange(len(self._material.voices[kind]))
        window, weights = self._window(random, self._material.voices[kind][place], length)
        return self._disturbed(random, window), weights, self._first[kind] + place

    def _window(self, random: Random, voice: Voice, length: int) -> tuple[Samples, Samples]:
        """The speaker somewhere in the window, and around that nobody, or somebody else."""
        num_frames = length // FRAME
        num_spoken = int(num_frames * random.uniform(*SPOKEN))
        first = random.randrange(num_frames - num_spoken + 1)
        last = first + num_spoken
        window, weights = np.zeros(length, np.float32), np.zeros(num_frames, np.float32)
        window[first * FRAME : last * FRAME] = _levelled(voice.speech(random, num_spoken * FRAME))
        weights[first:last] = 1
        for start, end in ((0, first * FRAME), (last * FRAME, length)):
            if end - start > SAMPLE_RATE // 5 and random.random() < P_NEIGHBOUR:
                window[start:end] = _amplified(self._anybody(random, end - start), random.uniform(*NEIGHBOUR_DB))
        return window, weights

    def _disturbed(self, random: Random, window: Samples) -> Samples:
        if random.random() < P_ROOM:
            window = reverberate(random, window)
        if random.random() < P_TALKER:
            window = window + _amplified(self._anybody(random, len(window)), -random.uniform(*TALKER_DB))
        if random.random() < P_BACKGROUND:
            window = self._material.backgrounds.add(random, window, random.uniform(*BACKGROUND_DB))
        return window

    def _anybody(self, random: Random, length: int) -> Samples:
        kind = self._material.group(random, self._settings)
        return _levelled(random.choice(self._material.voices[kind]).speech(random, length))


class SpeakerClassifier(nn.Module):
    """The embedding, and the centres of the training speakers around it, which are thrown away afterwards.

    Additive angular margin loss: Deng et al., "ArcFace: additive angular margin loss for deep face recognition", 2019.
    """

    def __init__(self, embedding: SmallEmbedding, num_speakers: int, settings: Settings) -> None:
        super().__init__()
        self.embedding = embedding
        self.centres = ArcFaceLoss(num_speakers, embedding.dimension, margin=0.0, scale=settings.scale)
        self._settings = settings

    def loss(self, batch: Batch, fraction: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Of a batch, when so much of the training is over."""
        start, end = self._settings.margin_between
        self.centres.margin = self._settings.margin * min(1.0, max(0.0, (fraction - start) / (end - start)))
        vectors = self.embedding(batch.waveforms, batch.weights)
        value = self.centres(vectors, batch.speakers)
        found = self.centres.get_logits(vectors.detach()).argmax(dim=1)
        return value, {"loss": value, "right": (found == batch.speakers).float().mean()}


def equal_error_rate(embedding: SmallEmbedding, voices: Sequence[Voice], device: str) -> float:
    """Of telling whether two windows are of the same voice, by their cosine."""
    random = Random(0)
    length = int(EVALUATED_S * SAMPLE_RATE)
    windows = [voice.speech(random, length) for voice in voices for _ in range(EVALUATED_WINDOWS)]
    vectors = nn.functional.normalize(embedding(torch.from_numpy(np.stack(windows))[:, None].to(device)), dim=1)
    speakers = np.repeat(np.arange(len(voices)), EVALUATED_WINDOWS)
    first, second = np.triu_indices(len(windows), 1)
    cosines = (vectors @ vectors.T).cpu().numpy()[first, second]
    return float(det_curve(speakers[first] == speakers[second], cosines)[3])


def _levelled(samples: Samples) -> Samples:
    return samples * (LOUDNESS / (math.sqrt(float((samples**2).mean())) + 1e-6))


def _amplified(samples: Samples, gain_db: float) -> Samples:
    return samples * np.float32(10 ** (gain_db / 20))
