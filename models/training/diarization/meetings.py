"""Recordings of real conversations with annotated turns, such as the AMI Meeting Corpus.

AMI Meeting Corpus, https://groups.inf.ed.ac.uk/ami/corpus/. Licence: CC BY 4.0, to be named where weights trained on it
are shipped. It is not part of the project: whoever has a copy passes a folder with RTTM files and the recordings that
they name, as FLAC or WAV.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment, Timeline
from pyannote.database.util import load_rttm

from models.training.corpus import librispeech
from models.training.corpus.conversations import Recording
from models.training.corpus.utterances import SAMPLE_RATE
from models.training.diarization.held_out import HELD_OUT_MEETINGS, HELD_OUT_PARTICIPANTS
from models.training.diarization.speakers import Recordings, recording

Samples = NDArray[np.float32]

SHORTEST_SPEECH_S = 1.2  # of one participant alone, to learn the voice from
SHORTEST_SILENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Meeting:
    """samples: at 16 kHz, shape (length,)."""

    samples: Samples
    turns: Annotation

    def cut(self, segments: Timeline) -> Iterator[Samples]:
        for segment in segments:
            yield self.samples[int(segment.start * SAMPLE_RATE) : int(segment.end * SAMPLE_RATE)]

    def silences(self) -> list[Samples]:
        """Where nobody speaks: what the room and the microphones sound like."""
        everything = Segment(0.0, len(self.samples) / SAMPLE_RATE)
        silences = self.turns.get_timeline().gaps(support=everything)
        return list(self.cut(_longer(silences, SHORTEST_SILENCE_S)))

    def alone(self, participant: str) -> list[Samples]:
        """Where the participant speaks, and nobody else does."""
        others = self.turns.subset([participant], invert=True).get_timeline()
        solo = self.turns.label_timeline(participant).support().extrude(others.support())
        return list(self.cut(_longer(solo, SHORTEST_SPEECH_S)))


def read(folder: Path) -> list[Meeting]:
    """All that the folder's RTTM files name and that are there.

    Raises:
        ValueError: there are none, or some are of held-out meetings or participants, or not 16 kHz, mono.
    """
    turns = {name: found for path in sorted(folder.glob("*.rttm")) for name, found in load_rttm(path).items()}
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in (".flac", ".wav")}
    if held_out := sorted(name for name in files if name.startswith(HELD_OUT_MEETINGS)):
        raise ValueError(f"{folder} holds {', '.join(held_out)}, which are kept for evaluation")
    named = {name: found for name, found in turns.items() if name in files}
    if not named:
        raise ValueError(f"{folder} has no recordings that an RTTM file of it names")
    if held_out := sorted({label for found in named.values() for label in found.labels()} & HELD_OUT_PARTICIPANTS):
        raise ValueError(f"{folder} holds {', '.join(held_out)}, who are kept for evaluation")
    return [Meeting(librispeech.read(files[name]), found) for name, found in sorted(named.items())]


def participants(meetings: Sequence[Meeting]) -> Recordings:
    """What each of them says while nobody else does."""
    heard: dict[str, list[Recording]] = defaultdict(list)
    for meeting in meetings:
        for participant in meeting.turns.labels():
            found = (recording(samples) for samples in meeting.alone(participant))
            heard[participant] += [one for one in found if one is not None]
    return heard


def _longer(segments: Timeline, shortest_s: float) -> Timeline:
    return Timeline([segment for segment in segments if segment.duration > shortest_s])
