"""How good a pipeline is: the tables on the card of `models/diarization-embedded`.

It is asked as the server asks it, through the server's engine. It needs the conversations in `tests/data`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from pyannote.core import Annotation
from pyannote.metrics.diarization import DiarizationErrorRate
from tqdm import tqdm

from deployments.diarization.engine import DiarizerArgs
from deployments.diarization.pyannote import PyannoteDiarizer
from models.training.corpus.voices import HELD_OUT_VARIANTS
from models.training.diarization import known_speakers, speakers
from models.training.diarization.material import Backgrounds, noises
from models.training.diarization.scoring import Conversation, annotation_of, load_conversations
from models.training.diarization.spoken import Spoken, conversations
from pipelines.audio import from_pcm
from pipelines.speaker_types import Diarization

SETS = {
    "tts": "{} of two or three synthetic voices, 60 to 90 s",
    "libri": "{} of two to four LibriSpeech test-other readers, 60 to 90 s",
    "monologue": "one reader alone",
    "talk": "two synthetic voices in turns",
    "crowd": "twenty readers, 4 min; voices it was trained on",
    "ami": "{} excerpts of AMI meetings, 30 s each",
}
"""Kinds of conversations in `tests/data/conversations`."""

NUM_NOISES = 8
MADE_SEED = 9
UTTERANCES = 10
COLLAR_S = 0.25


@dataclass(frozen=True, slots=True)
class Score:
    """Of several conversations together, overlap included; rates are to the seconds spoken.

    Attributes:
        error_rate: diarization error rate; the sum of `false_alarm`, `missed` and `confused`.
        forgiving: the same where `COLLAR_S` on either side of every boundary of a turn do not count.
        spoken, found: how many speakers there are in each conversation, and how many were found.
    """

    error_rate: float
    forgiving: float
    false_alarm: float
    missed: float
    confused: float
    spoken: tuple[int, ...]
    found: tuple[int, ...]

    @property
    def num_right(self) -> int:
        return sum(spoken == found for spoken, found in zip(self.spoken, self.found, strict=True))


def evaluate(directory: Path, count: int = 8) -> dict[str, Score]:
    """Measure a pipeline's directory, print the card's tables in markdown, and return the first one's scores.

    count: conversations that are made in addition to those in `tests/data`.
    """
    diarizer = PyannoteDiarizer(DiarizerArgs(str(directory), num_threads=torch.get_num_threads()))
    listed = [entry for entry in load_conversations().values() if entry.kind in SETS]
    heard = {entry.name: (_spoken(entry), _ask(diarizer, _spoken(entry))) for entry in tqdm(listed, desc="tests/data")}
    scores = {
        what.format(len(names)): score(heard[name] for name in names)
        for kind, what in SETS.items()
        if (names := [entry.name for entry in listed if entry.kind == kind])
    }
    made = [(spoken, _ask(diarizer, spoken)) for spoken in tqdm(held_out_conversations(count), desc="made")]
    scores[f"{len(made)} of espeak-ng's held-out variants, made at measuring time"] = score(made)
    print(table(scores))
    diarized = [(entry, heard[entry.name][1]) for entry in listed if entry.references]
    print(known_speakers.table(known_speakers.similarities(diarizer, diarized)))
    return scores


def held_out_conversations(count: int) -> list[Spoken]:
    """Always the same ones, of one to five voices."""
    voices = speakers.voices(speakers.synthetic(HELD_OUT_VARIANTS, UTTERANCES, MADE_SEED), [1.0])
    return conversations({"made": voices}, Backgrounds(noises(NUM_NOISES), []), count, MADE_SEED)


def score(pairs: Iterable[tuple[Spoken, Diarization]]) -> Score:
    strict, forgiving = DiarizationErrorRate(), DiarizationErrorRate(collar=2 * COLLAR_S)
    counts = []
    for spoken, diarization in pairs:
        found = annotation_of(diarization.turns)
        for metric in (strict, forgiving):
            metric(spoken.turns, found, uem=spoken.extent)
        counts.append((_number(spoken.turns), _number(found)))
    parts = {name: strict[name] / strict["total"] for name in ("false alarm", "missed detection", "confusion")}
    numbers = zip(*counts, strict=True)
    return Score(float(abs(strict)), float(abs(forgiving)), *parts.values(), *numbers)


def table(scores: dict[str, Score]) -> str:
    lines = [
        "| conversations | DER (with collar) | false alarm / missed / confused | speakers counted right |",
        "|---|---|---|---|",
    ]
    for what, one in scores.items():
        parts = " / ".join(f"{100 * part:.1f}" for part in (one.false_alarm, one.missed, one.confused))
        right = f"{one.num_right} of {len(one.spoken)}" if len(one.spoken) > 1 else f"finds {one.found[0]}"
        lines.append(f"| {what} | {100 * one.error_rate:.1f} ({100 * one.forgiving:.1f}) | {parts} | {right} |")
    return "\n".join(lines) + "\n"


def _spoken(conversation: Conversation) -> Spoken:
    return Spoken(conversation.name, from_pcm(conversation.window().pcm), conversation.turns)


def _ask(diarizer: PyannoteDiarizer, spoken: Spoken) -> Diarization:
    return diarizer.diarize(spoken.window, lambda: False)


def _number(turns: Annotation) -> int:
    return len(turns.labels())
