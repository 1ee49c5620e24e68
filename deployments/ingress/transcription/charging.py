"""How much audio a request is charged for, while it is heard."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.audio_types import AudioInfo
from pipelines.errors import RetryableError
from pipelines.transcription_events import SegmentFinished, TextDelta, TranscriptFinished, TranscriptionEvent

AT_ONCE_S = 60.0
"""Of what only its header measures. The rest is charged as its text comes: headers lie in both directions, and who
leaves early has had no more."""


class AudioCharge:
    def __init__(self, charge: Callable[[float], None], info: AudioInfo) -> None:
        """
        Args:
            charge: is told how many seconds more there are to pay for.
        """
        self._charge = charge
        self.charged_s = 0.0
        self._pay_up_to(info.duration_s if info.is_measured else min(info.duration_s, AT_ONCE_S))
        self.has_begun = False
        """Something was heard."""

    def up_to(self, seconds: float) -> None:
        """So much was heard."""
        self.has_begun = True
        self._pay_up_to(seconds)

    def _pay_up_to(self, seconds: float) -> None:
        if seconds > self.charged_s:
            self._charge(seconds - self.charged_s)
            self.charged_s = seconds


@contextmanager
def charging(
    info: AudioInfo, charge: Callable[[float], None], give_back: Callable[[float], None]
) -> Iterator[AudioCharge]:
    """A model that is busy, or was lost, before anything was heard has cost its client nothing: it will come again."""
    audio = AudioCharge(charge, info)
    try:
        yield audio
    except RetryableError:
        if not audio.has_begun:
            give_back(audio.charged_s)
        raise


def heard_s(event: TranscriptionEvent) -> float:
    """How far into the recording an event tells of."""
    match event:
        case TextDelta():
            return event.end_s
        case SegmentFinished(segment):
            return segment.end_s
        case TranscriptFinished(transcript):
            return transcript.info.duration_s
