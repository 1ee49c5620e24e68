"""How many speak at once, every 20 ms, learned from chunks of 10 s that were mixed or cut from meetings.

The pipeline only uses the number of speakers, so that is all that is learned: whoever is counted first has the first
of pyannote.audio's powerset classes, and who joins in the second.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pyannote.audio.utils.powerset import Powerset
from pyannote.core import Segment
from torch import Tensor

from deployments.diarization.small_models import SmallSegmentation
from models.training.corpus.conversations import Manner, Voice, converse
from models.training.corpus.utterances import SAMPLE_RATE
from models.training.diarization.material import Material
from models.training.diarization.meetings import Meeting
from models.training.diarization.settings import Settings

Samples = NDArray[np.float32]
Turns = list[tuple[float, float]]
Chunk = tuple[Samples, Turns]

CHUNK_S = 10.0
LEAD_IN_S = 2.0  # of a mixed conversation, cut off: a chunk begins in the midst of one
LENGTH = int(CHUNK_S * SAMPLE_RATE)
FRAMES_PER_S = SAMPLE_RATE / SmallSegmentation.FRAME_SAMPLES
MOST_AT_ONCE = 2

SPEAKERS = {0: 0.03, 1: 0.2, 2: 0.37, 3: 0.28, 4: 0.12}
P_MEETING = 0.3  # that a chunk is of a real one
P_TWO_MEETINGS = 0.25
SECOND_DB = (-10, 5)
P_STRANGER = 0.15  # that a speaker is of another kind than the rest
P_LIVELY = 0.35
P_BACKGROUND, P_MEETING_BACKGROUND = 0.85, 0.3
BACKGROUND_DB = (8, 50)
GAIN_DB = (-20, 10)
SPEEDS = (0.9, 1.0, 1.0, 1.1)  # of meetings

EVALUATED_CHUNKS = 48


@dataclass(frozen=True, slots=True)
class Batch:
    """waveforms: (batch, 1, samples). counts: (batch, frames), how many speak, at most `MOST_AT_ONCE`."""

    waveforms: Tensor
    counts: Tensor

    def to(self, device: str) -> "Batch":
        return Batch(self.waveforms.to(device), self.counts.to(device))


class Chunks:
    """Makes batches without end."""

    def __init__(self, material: Material, settings: Settings) -> None:
        self._material, self._settings = material, settings

    def __call__(self, seed: int) -> Iterator[Batch]:
        random = Random(seed)
        while True:
            yield _batch(self._draw(random) for _ in range(self._settings.segmentation_batch))

    def _draw(self, random: Random) -> Chunk:
        is_meeting = bool(self._material.meetings) and random.random() < P_MEETING
        if is_meeting:
            samples, turns = self._of_meetings(random)
        else:
            samples, turns = mixed(random, self._voices(random))
        if random.random() < (P_MEETING_BACKGROUND if is_meeting else P_BACKGROUND):
            samples = self._material.backgrounds.add(random, samples, random.uniform(*BACKGROUND_DB))
        return samples * np.float32(10 ** (random.uniform(*GAIN_DB) / 20)), turns

    def _of_meetings(self, random: Random) -> Chunk:
        """Of one, or of two at once: there are few real ones, and fewer moments when several people speak."""
        samples, turns = _of_meeting(random, random.choice(self._material.meetings))
        if random.random() >= P_TWO_MEETINGS:
            return samples, turns
        others, other_turns = _of_meeting(random, random.choice(self._material.meetings))
        return samples + np.float32(10 ** (random.uniform(*SECOND_DB) / 20)) * others, turns + other_turns

    def _voices(self, random: Random) -> list[Voice]:
        usual = self._material.group(random, self._settings)
        kinds = [
            self._material.group(random, self._settings) if random.random() < P_STRANGER else usual
            for _ in range(_number(random))
        ]
        return [random.choice(self._material.voices[kind]) for kind in kinds]


class CountingLoss:
    """Cross-entropy of the classes of 0, 1 and 2 speakers, weighted."""

    def __init__(self, model: SmallSegmentation, settings: Settings, device: str) -> None:
        self._model = model
        powerset = Powerset(MOST_AT_ONCE, MOST_AT_ONCE)
        self._classes = (
            powerset.to_powerset(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])).argmax(dim=1).to(device)
        )
        self._weights = torch.ones(powerset.num_powerset_classes, device=device)
        self._weights[self._classes[0]] = settings.silence_weight
        self._weights[self._classes[2]] = settings.overlap_weight

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        log_probabilities = self._model(batch.waveforms)
        value = F.nll_loss(log_probabilities.transpose(1, 2), self._classes[batch.counts], self._weights)
        missed, invented = _errors(log_probabilities.detach(), batch.counts)
        return value, {"loss": value, "missed": missed, "invented": invented}


def counting_errors(model: SmallSegmentation, voices: Sequence[Voice], device: str) -> tuple[float, float]:
    """Speakers missed and invented, each to those who speak, frame by frame, in chunks mixed of these voices."""
    random = Random(0)
    drawn = (mixed(random, random.choices(voices, k=max(1, _number(random)))) for _ in range(EVALUATED_CHUNKS))
    batch = _batch(drawn).to(device)
    missed, invented = _errors(model(batch.waveforms), batch.counts)
    return float(missed), float(invented)


def mixed(random: Random, voices: Sequence[Voice]) -> Chunk:
    samples, turns = converse(random, voices, LEAD_IN_S + CHUNK_S, _manner(random))
    return samples[-LENGTH:], [(turn.start_s - LEAD_IN_S, turn.end_s - LEAD_IN_S) for turn in turns]


def _of_meeting(random: Random, meeting: Meeting) -> Chunk:
    """A chunk from anywhere in it, played a little slower or faster; what is missing behind its end is silent."""
    speed = random.choice(SPEEDS)
    duration_s = len(meeting.samples) / SAMPLE_RATE
    start = random.uniform(0, max(0.0, duration_s - CHUNK_S * speed))
    first = int(start * SAMPLE_RATE)
    samples = meeting.samples[first : first + int(LENGTH * speed)]
    played = samples if speed == 1 else soxr.resample(samples, SAMPLE_RATE * speed, SAMPLE_RATE)
    inside = meeting.turns.crop(Segment(start, start + CHUNK_S * speed))
    turns = [((turn.start - start) / speed, (turn.end - start) / speed) for turn in inside.itersegments()]
    return np.pad(played[:LENGTH], (0, max(0, LENGTH - len(played)))), turns


def _manner(random: Random) -> Manner:
    if random.random() < P_LIVELY:
        return Manner(
            p_overlap=random.uniform(0.3, 0.9),
            overlap_s=random.uniform(0.5, 2.0),
            gap_s=(0.05, random.uniform(0.1, 0.6)),
            turn_s=(0.4, random.uniform(1.5, 5.0)),
            p_backchannel=0.4,
            level_db=9.0,
            p_room=0.5,
        )
    return Manner(
        p_overlap=random.uniform(0.05, 0.5),
        gap_s=(0.05, random.uniform(0.15, 1.5)),
        turn_s=(0.6, random.uniform(2.0, 8.0)),
        p_backchannel=0.25,
        level_db=5.0,
        p_room=0.4,
    )


def _number(random: Random) -> int:
    return random.choices(list(SPEAKERS), list(SPEAKERS.values()))[0]


def _batch(chunks: Iterable[Chunk]) -> Batch:
    samples, turns = zip(*chunks, strict=True)
    counts = np.stack([_counts(spoken) for spoken in turns])
    return Batch(torch.from_numpy(np.stack(samples))[:, None], torch.from_numpy(counts))


def _counts(turns: Turns) -> NDArray[np.int64]:
    num_frames = LENGTH // SmallSegmentation.FRAME_SAMPLES
    counts = np.zeros(num_frames, np.int64)
    for start, end in turns:
        counts[max(0, round(start * FRAMES_PER_S)) : max(0, round(end * FRAMES_PER_S))] += 1
    return np.minimum(counts, MOST_AT_ONCE)


def _errors(log_probabilities: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    powerset = Powerset(MOST_AT_ONCE, MOST_AT_ONCE).to(counts.device)
    difference = powerset.to_multilabel(log_probabilities).sum(dim=-1) - counts
    spoken = counts.sum().clamp(min=1)
    return -difference.clamp(max=0).sum() / spoken, difference.clamp(min=0).sum() / spoken
