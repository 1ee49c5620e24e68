"""What a transcription tells while it goes on."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from pipelines.audio_types import AudioInfo
from pipelines.transcript_types import SpeakerSegment, Token, Transcript, Word


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text, in order; joined deltas are exactly `Transcript.text`.

    words: at least one for each segment in `text`, with its times.
    segment_id: of the speaker's segment that this text belongs to, when speakers are told apart.
    start_s, end_s: where speakers are not told apart, when it was said.
    """

    text: str
    tokens: tuple[Token, ...] = ()
    words: tuple[Word, ...] = ()
    segment_id: str | None = None
    start_s: float = 0.0
    end_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SegmentFinished:
    """No more deltas of this segment will come."""

    segment: SpeakerSegment


@dataclass(frozen=True, slots=True)
class TranscriptFinished:
    transcript: Transcript


TranscriptionEvent = TextDelta | SegmentFinished | TranscriptFinished


@dataclass(frozen=True, slots=True)
class Transcription:
    """What an upload is, and what is told of it: deltas, then `TranscriptFinished`. Nothing is worked on before
    somebody asks for the first event."""

    info: AudioInfo
    events: AsyncGenerator[TranscriptionEvent, None]
