"""What happens in a realtime session. Times are seconds from its first audio; audio is mono at `SAMPLE_RATE_HZ`."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.audio_types import Samples, VadOptions
from pipelines.errors import AudioServerError
from pipelines.transcription_events import TranscriptFinished, TranscriptionEvent


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """When somebody's turn ends. idle_timeout_s: so much audio without speech is a turn of its own."""

    vad: VadOptions
    idle_timeout_s: float | None = None


# What a session is told


@dataclass(frozen=True, slots=True)
class AudioAppended:
    """Frames, and for each of them how probable speech is in it (`pipelines.vad`). The last one is short where the
    client has said that its audio ends, or goes on in another format."""

    samples: Samples
    probabilities: Sequence[float]


@dataclass(frozen=True, slots=True)
class CommitRequested:
    pass


@dataclass(frozen=True, slots=True)
class ClearRequested:
    pass


@dataclass(frozen=True, slots=True)
class DetectionChanged:
    """None: turns end where somebody says so."""

    detection: TurnDetection | None


@dataclass(frozen=True, slots=True)
class TurnFailed:
    error: AudioServerError


@dataclass(frozen=True, slots=True)
class TurnTold:
    """What became known of a turn; it is passed on when its time has come."""

    item_id: str
    event: TranscriptionEvent | TurnFailed

    @property
    def is_last(self) -> bool:
        return isinstance(self.event, TranscriptFinished | TurnFailed)


SessionInput = AudioAppended | CommitRequested | ClearRequested | DetectionChanged | TurnTold


# What a session tells


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    item_id: str
    start_s: float


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    item_id: str
    end_s: float


@dataclass(frozen=True, slots=True)
class TimeoutTriggered:
    """Nobody has said anything from `start_s` to `end_s`."""

    item_id: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class TurnCommitted:
    item_id: str
    previous_item_id: str | None


@dataclass(frozen=True, slots=True)
class CommitRefused:
    """There is hardly any audio to commit."""

    buffered_s: float


@dataclass(frozen=True, slots=True)
class BufferCleared:
    pass


# What is to be done about it


@dataclass(frozen=True, slots=True)
class TurnOpened:
    """Audio of this turn will come, and may be transcribed as it does."""

    item_id: str


@dataclass(frozen=True, slots=True)
class TurnGrew:
    item_id: str
    samples: Samples
    probabilities: Sequence[float]


@dataclass(frozen=True, slots=True)
class TurnClosed:
    """It is complete."""

    item_id: str


@dataclass(frozen=True, slots=True)
class TurnDropped:
    """Nobody wants to know."""

    item_id: str


SessionOutput = (
    SpeechStarted
    | SpeechStopped
    | TimeoutTriggered
    | TurnCommitted
    | CommitRefused
    | BufferCleared
    | TurnOpened
    | TurnGrew
    | TurnClosed
    | TurnDropped
    | TurnTold
)
