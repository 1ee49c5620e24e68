"""Recognising speakers again: by name, and from one window of a long recording to the next."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.speaker_types import Embedding, Speaker


@dataclass(frozen=True, slots=True)
class VoiceOptions:
    """How alike embeddings of one speaker are, as cosines: it depends on the model.

    For CAM++ a speaker is 0.67 and more like a reference of 2 s, and others in the same conversation at most 0.43.

    min_known_similarity: of a speaker to the reference of a known one; below it a stranger stays a stranger.
    min_linked_similarity: of a speaker in one window of a recording to one in the windows before.
    """

    min_known_similarity: float = 0.5
    min_linked_similarity: float = 0.5


class Voices:
    """Takes the voices of one window after the other; a voice is nobody else's within a window.

    Pairs are taken greedily, the surest first, and only above a threshold: without one, a stranger would get
    a known name for want of a better one, and without the other two strangers the same.
    """

    def __init__(self, known: Mapping[str, Embedding], options: VoiceOptions) -> None:
        self._options = options
        self._references: dict[Speaker, Embedding] = {
            name: reference for name, voice in known.items() if (reference := unit(voice)) is not None
        }
        self._heard: dict[Speaker, Embedding] = {}
        self._num_strangers = 0

    def recognise(self, speakers: Collection[int], voices: Mapping[int, Embedding]) -> dict[int, Speaker]:
        """Tell for each of a window's speakers who it is: somebody known or heard before, or somebody new."""
        heard = {speaker: voice for speaker in speakers if (voice := unit(voices.get(speaker))) is not None}
        recognised: dict[int, Speaker] = {}
        for _, speaker, candidate in sorted(self._pairs(heard), reverse=True, key=lambda pair: pair[0]):
            if speaker not in recognised and candidate not in recognised.values():
                recognised[speaker] = candidate
        for speaker in speakers:
            if speaker not in recognised:
                recognised[speaker] = self._num_strangers
                self._num_strangers += 1
        for speaker, voice in heard.items():
            self._heard[recognised[speaker]] = self._heard.get(recognised[speaker], np.zeros_like(voice)) + voice
        return recognised

    def _pairs(self, heard: Mapping[int, Embedding]) -> list[tuple[float, int, Speaker]]:
        """Who may be who, with how far the similarity is above what is asked for."""
        compared = [
            *((candidate, voice, self._options.min_known_similarity) for candidate, voice in self._references.items()),
            *((candidate, unit(sum_), self._options.min_linked_similarity) for candidate, sum_ in self._heard.items()),
        ]
        pairs = []
        for candidate, known, minimum in compared:
            for speaker, voice in heard.items():
                if known is not None and (margin := float(voice @ known) - minimum) >= 0:
                    pairs.append((margin, speaker, candidate))
        return pairs


def unit(voice: Embedding | None) -> Embedding | None:
    """`voice` with length 1; nothing when it has no direction: zeros, or not finite."""
    if voice is None or not np.isfinite(voice).all():
        return None
    length = float(np.linalg.norm(voice))
    return np.asarray(voice / length, np.float32) if length > 0 else None
