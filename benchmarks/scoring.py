"""How wrong answers are: words by jiwer, speakers by pyannote.metrics. And the conversations whose turns are known."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jiwer
from pyannote.core import Annotation, Segment, Timeline
from pyannote.database.util import load_rttm
from pyannote.metrics.diarization import DiarizationErrorRate

from deployments.audio.reader import WindowReader
from pipelines.speaker_types import SpeakerTurn
from pipelines.types import (
    SAMPLE_RATE_HZ,
    AudioWindow,
    DecodeLimits,
    PcmSamples,
)

CONVERSATIONS = Path(__file__).parents[1] / "tests" / "data" / "conversations"


def normalise(text: str) -> str:
    """Case and punctuation do not matter."""
    kept = "".join(character if character.isalnum() or character in "'-" else " " for character in text.lower())
    return " ".join(kept.split())


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Errors over the words of all references; an empty hypothesis counts its reference's words."""
    return float(jiwer.wer([normalise(text) for text in references], [normalise(text) for text in hypotheses]))


@dataclass(frozen=True)
class Conversation:
    """references: by speaker, a file of other things that the same voice says."""

    name: str
    kind: str
    is_held_out: bool
    duration_s: float
    speakers: tuple[str, ...]
    references: Mapping[str, Path]
    path: Path
    turns: Annotation

    def window(self, index: int = 0, offset_s: float = 0.0) -> AudioWindow:
        """All of it, decoded as the server decodes an upload."""
        return AudioWindow(index, offset_s, _decoded(self.path, round((self.duration_s + 60) * SAMPLE_RATE_HZ)))


def load_conversations() -> dict[str, Conversation]:
    index = json.loads((CONVERSATIONS / "index.json").read_text())
    return {
        name: Conversation(
            name=name,
            kind=entry["kind"],
            is_held_out=entry["held_out"],
            duration_s=entry["duration_s"],
            speakers=tuple(entry["speakers"]),
            references={speaker: CONVERSATIONS / path for speaker, path in entry["references"].items()},
            path=CONVERSATIONS / entry["file"],
            turns=load_rttm(CONVERSATIONS / entry["rttm"])[name],
        )
        for name, entry in index.items()
    }


@cache
def _decoded(path: Path, num_samples: int) -> PcmSamples:
    return WindowReader(path.read_bytes(), DecodeLimits()).next_window(0, num_samples)


def strangers() -> dict[str, Path]:
    """Files of voices that are in no conversation."""
    listed = json.loads((CONVERSATIONS / "strangers.json").read_text())
    return {name: CONVERSATIONS / path for name, path in listed.items()}


def annotation_of(turns: Iterable[SpeakerTurn]) -> Annotation:
    annotation = Annotation()
    for number, turn in enumerate(turns):
        annotation[Segment(turn.start_s, turn.end_s), number] = turn.speaker
    return annotation


def diarization_error_rate(
    diarized: Iterable[tuple[Conversation, Iterable[SpeakerTurn]]], collar_s: float = 0.0
) -> float:
    """Of several conversations together: missed, invented and confused seconds to seconds spoken.

    Everybody counts where several speak at once.

    collar_s: what is forgiven on either side of a true turn's ends; pyannote means both sides together.
    """
    metric = DiarizationErrorRate(collar=2 * collar_s, skip_overlap=False)
    for conversation, turns in diarized:
        all_of_it = Timeline([Segment(0.0, conversation.duration_s)])
        metric(conversation.turns, annotation_of(turns), uem=all_of_it)
    return float(abs(metric))


def true_speakers(conversation: Conversation, turns: Iterable[SpeakerTurn]) -> dict[int, str]:
    """Who the speakers of a diarization are, where one of the conversation's is left for them."""
    mapping: dict[int, str] = DiarizationErrorRate().optimal_mapping(conversation.turns, annotation_of(turns))
    return mapping
