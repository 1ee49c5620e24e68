"""How much audio a request is charged for, while it is heard."""

from collections.abc import Callable

from pipelines.audio_types import AudioInfo
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
        self._charged_s = 0.0
        self.up_to(info.duration_s if info.is_measured else min(info.duration_s, AT_ONCE_S))

    def up_to(self, seconds: float) -> None:
        """So much was heard."""
        if seconds > self._charged_s:
            self._charge(seconds - self._charged_s)
            self._charged_s = seconds


def heard_s(event: TranscriptionEvent) -> float:
    """How far into the recording an event tells of."""
    match event:
        case TextDelta():
            return event.end_s
        case SegmentFinished(segment):
            return segment.end_s
        case TranscriptFinished(transcript):
            return transcript.info.duration_s
