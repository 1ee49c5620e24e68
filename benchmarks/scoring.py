"""How wrong answers are: words by jiwer, speakers by pyannote.metrics. And the conversations whose turns are known."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import jiwer
import soundfile
from pyannote.core import Annotation, Segment, Timeline
from pyannote.database.util import load_rttm
from pyannote.metrics.diarization import DiarizationErrorRate

from deployments.audio.reader import StretchReader
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioStretch, DecodeLimits, PcmSamples
from pipelines.speaker_types import SpeakerTurn

COLLAR_S = 0.25

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
    duration_s: float
    speakers: tuple[str, ...]
    references: Mapping[str, Path]
    path: Path
    turns: Annotation

    def window(self, index: int = 0, offset_s: float = 0.0) -> AudioStretch:
        """All of it, decoded as the server decodes an upload."""
        return AudioStretch(index, offset_s, _decoded(self.path, round((self.duration_s + 60) * SAMPLE_RATE_HZ)))


def load_conversations() -> dict[str, Conversation]:
    index = json.loads((CONVERSATIONS / "index.json").read_text())
    return {
        name: Conversation(
            name=name,
            kind=entry["kind"],
            duration_s=entry["duration_s"],
            speakers=tuple(entry["speakers"]),
            references={speaker: CONVERSATIONS / path for speaker, path in entry["references"].items()},
            path=CONVERSATIONS / entry["file"],
            turns=load_rttm(CONVERSATIONS / entry["rttm"])[name],
        )
        for name, entry in index.items()
    }


def sample_conversation() -> Conversation:
    """Half a minute of a telephone call of two, from pyannote.audio's package."""
    package = find_spec("pyannote.audio")  # imported, it would report itself to its makers
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "sample"
    (turns,) = load_rttm(folder / "sample.rttm").values()
    path = folder / "sample.wav"
    return Conversation("sample", "sample", soundfile.info(path).duration, tuple(turns.labels()), {}, path, turns)


def kind_of(conversation: Conversation) -> str:
    """Its kind, but dev or tst for a meeting, by the set that it is of."""
    return conversation.name[:3] if conversation.kind == "ami" else conversation.kind


@cache
def _decoded(path: Path, num_samples: int) -> PcmSamples:
    return StretchReader(path.read_bytes(), DecodeLimits()).next_stretch(0, num_samples)


def strangers() -> dict[str, Path]:
    """Files of voices that are in no conversation."""
    listed = json.loads((CONVERSATIONS / "strangers.json").read_text())
    return {name: CONVERSATIONS / path for name, path in listed.items()}


def annotation_of(turns: Iterable[SpeakerTurn]) -> Annotation:
    annotation = Annotation()
    for number, turn in enumerate(turns):
        annotation[Segment(turn.start_s, turn.end_s), number] = turn.speaker
    return annotation


@dataclass(frozen=True, slots=True)
class Score:
    """Of several conversations together, overlap included; rates are to the seconds spoken.

    error_rate: of which `false_alarm`, `missed` and `confused` are the parts.
    forgiving: the same where `COLLAR_S` on either side of every turn's ends do not count.
    counts: how many speakers there are in each conversation, and how many were found.
    """

    error_rate: float
    forgiving: float
    false_alarm: float
    missed: float
    confused: float
    counts: tuple[tuple[int, int], ...]

    @property
    def num_right(self) -> int:
        return sum(spoken == found for spoken, found in self.counts)


def score(diarized: Sequence[tuple[Conversation, Iterable[SpeakerTurn]]]) -> Score:
    strict, forgiving = DiarizationErrorRate(), DiarizationErrorRate(collar=2 * COLLAR_S)
    counts = []
    for conversation, turns in diarized:
        found = annotation_of(turns)
        for metric in (strict, forgiving):
            metric(conversation.turns, found, uem=Timeline([Segment(0.0, conversation.duration_s)]))
        counts.append((len(conversation.turns.labels()), len(found.labels())))
    false_alarm, missed, confused = (
        float(strict[part] / strict["total"]) for part in ("false alarm", "missed detection", "confusion")
    )
    return Score(float(abs(strict)), float(abs(forgiving)), false_alarm, missed, confused, tuple(counts))


def diarization_error_rate(diarized: Sequence[tuple[Conversation, Iterable[SpeakerTurn]]]) -> float:
    return score(diarized).error_rate


def true_speakers(conversation: Conversation, turns: Iterable[SpeakerTurn]) -> dict[int, str]:
    """Who the speakers of a diarization are, where one of the conversation's is left for them."""
    mapping: dict[int, str] = DiarizationErrorRate().optimal_mapping(conversation.turns, annotation_of(turns))
    return mapping
