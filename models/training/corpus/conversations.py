"""Conversations of several speakers, mixed from what each of them says alone, with exact turns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
import soxr
from numpy.typing import NDArray

from models.training.corpus.acoustics import reverberate
from models.training.corpus.utterances import SAMPLE_RATE
from pipelines.speaker_types import SpeakerTurn

Samples = NDArray[np.float32]
Region = tuple[int, int]

LOUDNESS = 0.05
"""The power of a voice before a conversation makes it louder or quieter, as root mean square."""

SHORTEST_PAUSE_S = 0.2
"""Shorter ones do not end a turn."""

BREATH_S = 0.1
"""How soon a speaker may go on after a turn of their own."""

LONGEST_GAP_S = 4.0
BACKCHANNEL_S = (0.3, 1.0)
P_OTHER_SPEAKER = 0.8
"""That the next turn is not by the speaker of the last one."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One speaker alone.

    Attributes:
        samples: int16 at 16 kHz, shape (length,), of power `LOUDNESS` where there is speech.
        regions: (first, last + 1) of the samples of every stretch of speech, in order.
    """

    samples: NDArray[np.int16]
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker: recordings, all played `speed` times as fast. Pitch and formants move too: another speaker."""

    recordings: tuple[Recording, ...]
    speed: float = 1.0

    def turn(self, random: Random, shortest_s: float, longest_s: float) -> tuple[Samples, list[Region]]:
        """Something that the speaker says in one go: samples, and where in them there is speech."""
        recording = random.choice(self.recordings)
        wanted = int(random.uniform(shortest_s, longest_s) * self.speed * SAMPLE_RATE)
        regions = _cut(random, recording.regions, wanted)
        first, last = regions[0][0], regions[-1][1]
        scale = 1 / self.speed
        moved = [(int((start - first) * scale), int((end - first) * scale)) for start, end in regions]
        return self._play(recording.samples[first:last]), moved

    def speech(self, random: Random, length: int) -> Samples:
        """So many samples of nothing but speech; what there is too little of is repeated."""
        recording = random.choice(self.recordings)
        spoken = np.concatenate([recording.samples[start:end] for start, end in recording.regions])
        wanted = int(length * self.speed) + 1
        if len(spoken) < wanted:
            spoken = np.tile(spoken, wanted // len(spoken) + 1)
        first = random.randrange(len(spoken) - wanted + 1)
        return np.resize(self._play(spoken[first : first + wanted]), length)

    def _play(self, samples: NDArray[np.int16]) -> Samples:
        floats: Samples = samples.astype(np.float32) / np.float32(32768)
        if self.speed == 1:
            return floats
        return np.asarray(soxr.resample(floats, SAMPLE_RATE * self.speed, SAMPLE_RATE), np.float32)


@dataclass(frozen=True, slots=True)
class Manner:
    """How people talk with each other.

    Attributes:
        p_overlap: that a turn starts before the one before it ends.
        overlap_s: by how much then, on the average.
        gap_s: otherwise, the shortest and the mean pause between two turns.
        turn_s: the shortest and the longest turn.
        p_backchannel: that somebody else says a word within a turn of more than 2 s.
        level_db: speakers differ from the mean by up to so much.
        p_room: that a speaker is heard with reverberation.
    """

    p_overlap: float = 0.15
    overlap_s: float = 0.8
    gap_s: tuple[float, float] = (0.2, 0.6)
    turn_s: tuple[float, float] = (1.5, 7.0)
    p_backchannel: float = 0.08
    level_db: float = 4.0
    p_room: float = 0.3


def converse(
    random: Random, voices: Sequence[Voice], duration_s: float, manner: Manner
) -> tuple[Samples, list[SpeakerTurn]]:
    """A conversation of these voices, shape (duration_s * 16 000,), and its turns; not clipped, without noise.

    A turn's `speaker` is the place of the voice in `voices`. Turns are where there is speech in the recordings, so that
    reverberation does not lengthen them.
    """
    mix = _Mix(random, voices, int(duration_s * SAMPLE_RATE), manner)
    shares = [random.gammavariate(3, 1) for _ in voices]
    now, speaker = int(random.uniform(0, 1.5) * SAMPLE_RATE), None
    while voices and now < mix.length:
        speaker = _next_speaker(random, shares, speaker)
        start, end = mix.speak(speaker, now, *manner.turn_s)
        if len(voices) > 1 and end - start > 2 * SAMPLE_RATE and random.random() < manner.p_backchannel:
            other = random.choice([place for place in range(len(voices)) if place != speaker])
            mix.interject(other, random.randrange(start, end - SAMPLE_RATE))
        now = _next_start(random, manner, start, end)
    return mix.samples, list(mix.turns())


@dataclass
class _Mix:
    random: Random
    voices: Sequence[Voice]
    length: int
    manner: Manner
    samples: Samples = field(init=False)

    def __post_init__(self) -> None:
        self.samples = np.zeros(self.length, np.float32)
        self._regions: list[list[Region]] = [[] for _ in self.voices]
        self._free_from = [0] * len(self.voices)
        self._levels = [10 ** (self.random.uniform(-1, 1) * self.manner.level_db / 20) for _ in self.voices]
        self._rooms = [self._room() for _ in self.voices]

    def speak(self, speaker: int, start: int, shortest_s: float, longest_s: float) -> Region:
        """Add a turn of the speaker at `start`, or as soon as they are silent; say from where to where it goes."""
        samples, regions = self.voices[speaker].turn(self.random, shortest_s, longest_s)
        start = max(start, self._free_from[speaker] + int(BREATH_S * SAMPLE_RATE))
        self._add(speaker, start, samples)
        self._regions[speaker] += [(start + first, start + last) for first, last in regions]
        self._free_from[speaker] = start + regions[-1][1]
        return start, self._free_from[speaker]

    def interject(self, speaker: int, start: int) -> None:
        """A word from somebody who is silent then, or nothing."""
        if start > self._free_from[speaker]:
            self.speak(speaker, start, *BACKCHANNEL_S)

    def turns(self) -> Iterator[SpeakerTurn]:
        for speaker, regions in enumerate(self._regions):
            for start, end in _joined(regions):
                if start < self.length:
                    yield SpeakerTurn(start / SAMPLE_RATE, min(end, self.length) / SAMPLE_RATE, speaker)

    def _add(self, speaker: int, start: int, samples: Samples) -> None:
        room = self._rooms[speaker]
        if room is not None:
            # the same seed is the same room
            samples = reverberate(Random(room), np.pad(samples, (0, SAMPLE_RATE // 4)))
        part = samples[: max(0, self.length - start)]
        self.samples[start : start + len(part)] += self._levels[speaker] * part

    def _room(self) -> int | None:
        return self.random.randrange(1 << 30) if self.random.random() < self.manner.p_room else None


def _cut(random: Random, regions: Sequence[Region], wanted: int) -> list[Region]:
    """Some consecutive regions of about `wanted` samples in all, or a part of a long one."""
    place = random.randrange(len(regions))
    start, end = regions[place]
    if end - start > wanted:
        start = random.randrange(start, end - wanted + 1)
        return [(start, start + wanted)]
    chosen = [(start, end)]
    for region in regions[place + 1 :]:
        if region[1] - start > wanted:
            break
        chosen.append(region)
    return chosen


def _next_speaker(random: Random, shares: Sequence[float], last: int | None) -> int:
    open_to = list(range(len(shares)))
    if last is not None and len(shares) > 1 and random.random() < P_OTHER_SPEAKER:
        open_to.remove(last)
    return random.choices(open_to, [shares[place] for place in open_to])[0]


def _next_start(random: Random, manner: Manner, start: int, end: int) -> int:
    if random.random() < manner.p_overlap:
        return max(start + int(0.3 * SAMPLE_RATE), end - int(random.expovariate(1 / manner.overlap_s) * SAMPLE_RATE))
    shortest_s, mean_s = manner.gap_s
    return end + int(min(shortest_s + random.expovariate(1 / mean_s), LONGEST_GAP_S) * SAMPLE_RATE)


def _joined(regions: Sequence[Region]) -> list[Region]:
    """Without pauses that do not end a turn."""
    joined: list[Region] = []
    for start, end in sorted(regions):
        if joined and start - joined[-1][1] < SHORTEST_PAUSE_S * SAMPLE_RATE:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
