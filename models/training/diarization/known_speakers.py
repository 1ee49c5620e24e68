"""How alike a speaker in a conversation and a reference of the same voice are, and how alike a stranger's."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deployments.audio.reader import read_clip
from deployments.audio.silero import SileroModel
from deployments.diarization.pyannote import PyannoteDiarizer
from models.training.diarization.scoring import Conversation, strangers, true_speakers
from pipelines.speaker_types import Diarization, Embedding
from pipelines.types import DecodeLimits

LONGEST_REFERENCE_S = 10


@dataclass
class Similarities:
    """Cosines of speakers' centroids to their own references, and to the most similar one of somebody absent."""

    own: list[float] = field(default_factory=list)
    stranger: list[float] = field(default_factory=list)


def similarities(
    diarizer: PyannoteDiarizer, diarized: Iterable[tuple[Conversation, Diarization]]
) -> dict[str, Similarities]:
    """By kind of conversation. References of all conversations and of strangers are compared with everybody."""
    pairs = list(diarized)
    files = {name: path for conversation, _ in pairs for name, path in conversation.references.items()} | strangers()
    references = {name: _reference(diarizer, path) for name, path in files.items()}
    found: dict[str, Similarities] = defaultdict(Similarities)
    for conversation, diarization in pairs:
        _compare(found[conversation.kind], conversation, diarization, references)
    return found


def table(found: Mapping[str, Similarities]) -> str:
    lines = ["| known speakers | own reference, lowest and median | most similar stranger |", "|---|---|---|"]
    for kind, cosines in found.items():
        own = f"{min(cosines.own):.2f}, {np.median(cosines.own):.2f}"
        lines.append(f"| {kind} | {own} | {max(cosines.stranger):.2f} |")
    return "\n".join(lines) + "\n"


def _compare(
    into: Similarities, conversation: Conversation, diarization: Diarization, references: Mapping[str, Embedding]
) -> None:
    absent = [name for name in references if name not in conversation.speakers]
    for speaker, name in true_speakers(conversation, diarization.turns).items():
        voice = diarization.voices.get(speaker)
        if voice is None or name not in references:
            continue
        into.own.append(_cosine(voice, references[name]))
        into.stranger.append(max(_cosine(voice, references[other]) for other in absent))


def _reference(diarizer: PyannoteDiarizer, path: Path) -> Embedding:
    clip = read_clip(path.read_bytes(), SileroModel(), DecodeLimits(max_duration_s=LONGEST_REFERENCE_S))
    return diarizer.embed(clip.speech)


def _cosine(one: Embedding, other: Embedding) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-9))
