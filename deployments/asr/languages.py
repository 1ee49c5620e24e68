"""Which language a window is in, and where it changes."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from deployments.asr.network import WhisperNetwork
from deployments.asr.row import Row
from deployments.asr.slots import Slots
from deployments.asr.vocabulary import Vocabulary
from deployments.decoding.devices import put
from pipelines.transcript_types import HeardLanguage, LanguageChange

PLAIN_PROBABILITY = 0.95
"""A window that is so surely of one language is not searched for another."""

SURE_PROBABILITY = 0.6
SURE_SPEECH_S = 3.0
"""Of less, or less probable, speech nobody can tell."""

MIN_PART_PROBABILITY = 0.4
MIN_ODDS = 4.0
"""What a part of a window must be at least to be heard alone: so probably of its language, and so many times more
probably than of the other part's. It is little, as a part beside another is heard badly, and alone well."""

MAX_CUTS = 8
"""Pauses of a window that are tried: each costs two steps of the decoder."""


class LanguageDetector:
    """Whisper's own: what it holds for most probable after <|startoftranscript|>.

    A part of a window is asked about by showing the decoder that part of what the encoder heard.
    """

    def __init__(self, network: WhisperNetwork, vocabulary: Vocabulary, slots: Slots) -> None:
        self._network = network
        self._slots = slots
        self._start = vocabulary.start_of_transcript
        self._token_ids = put(list(vocabulary.language_ids.values()), network.device, torch.int64)
        self._places = {language: place for place, language in enumerate(vocabulary.language_ids)}

    def detect(self, rows: Sequence[Row], slots: slice) -> list[HeardLanguage]:
        """Of whole windows; rows that are unsure get their neighbour's."""
        found = []
        for row, logits in zip(rows, self._logits(slots), strict=True):
            heard = self._best(row, logits)
            spoken_s = sum(speech.end_s - speech.start_s for speech in row.speech)
            is_sure = heard.probability >= SURE_PROBABILITY and spoken_s >= SURE_SPEECH_S
            neighbour = row.options.neighbour
            follows = not is_sure and neighbour in self._candidates(row)
            language = neighbour if follows and neighbour else heard.language
            found.append(HeardLanguage(language, heard.probability, is_sure))
        return found

    def change(self, row: Row, slot: int) -> LanguageChange | None:
        """Where the window may go on in another language: in the pause that parts it best."""
        candidates, best, found = self._candidates(row), 0.0, None
        end = self._slots.num_frames[slot]
        for cut_s in _cuts_s(row):
            cut = round((cut_s - row.chunk.offset_s) * self._network.frames_per_s)
            parts = [self._logits(slice(slot, slot + 1), frames)[0] for frames in (slice(0, cut), slice(cut, end))]
            before, after = (self._probabilities(candidates, logits) for logits in parts)
            first, second = int(before.argmax()), int(after.argmax())
            odds = before[first] / before[second], after[second] / after[first]
            sureness = float(odds[0] * odds[1])
            is_plain = min(before[first], after[second]) >= MIN_PART_PROBABILITY and min(odds) >= MIN_ODDS
            if is_plain and sureness > best:
                best, found = sureness, LanguageChange(cut_s, candidates[first], candidates[second])
        return found

    def _logits(self, slots: slice, frames: slice | None = None) -> Tensor:
        """(rows, languages), on the CPU"""
        start = torch.full((slots.stop - slots.start, 1), self._start, device=self._network.device)
        logits = self._network.logits(self._network.read(start, self._slots, slots, frames)[:, 0])
        self._slots.rewind(slots)
        return logits.index_select(1, self._token_ids).cpu()

    def _best(self, row: Row, logits: Tensor) -> HeardLanguage:
        candidates = self._candidates(row)
        probabilities = self._probabilities(candidates, logits)
        best = int(probabilities.argmax())
        return HeardLanguage(candidates[best], float(probabilities[best]))

    def _probabilities(self, candidates: list[str], logits: Tensor) -> Tensor:
        return logits[[self._places[language] for language in candidates]].softmax(dim=-1)

    def _candidates(self, row: Row) -> list[str]:
        return [language for language in row.options.languages if language in self._places] or list(self._places)


def _cuts_s(row: Row) -> list[float]:
    """Middles of pauses with enough speech on both sides, on the upload's clock."""
    pauses = [(one.end_s + following.start_s) / 2 for one, following in pairwise(row.speech)]
    first_s, last_s = row.speech[0].start_s + SURE_SPEECH_S, row.speech[-1].end_s - SURE_SPEECH_S
    fitting = [cut_s for cut_s in pauses if first_s <= cut_s <= last_s]
    every = -(-len(fitting) // MAX_CUTS) or 1
    return fitting[::every]
