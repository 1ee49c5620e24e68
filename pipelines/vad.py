"""Speech probabilities to speech segments, a few frames at a time.

The two thresholds (a lower one ends speech than starts it) are those of Silero VAD's own
`get_speech_timestamps`; padding and silence follow OpenAI's `server_vad`.
"""

from collections.abc import Iterable

from pipelines.audio_types import SAMPLE_RATE_HZ, SpeechSegment, VadOptions

FRAME_SAMPLES = 512
"""Silero VAD judges so many samples at 16 kHz at a time."""

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ

HYSTERESIS = 0.15
MIN_SPEECH_S = 0.1
MAX_PADDING_S = 5.0
"""Bounds how much audio must be kept for the padding of speech that has not begun."""


class SpeechDetector:
    """Turns one probability per frame into padded segments that never overlap.

    A segment is reported once the silence after it has lasted `silence_duration_ms`.
    """

    def __init__(self, options: VadOptions) -> None:
        self.adjust(options)
        self._now_s = 0.0
        self._start_s: float | None = None
        self._silent_since_s: float | None = None
        self._last_end_s = 0.0

    def adjust(self, options: VadOptions) -> None:
        """Go by other options from now on."""
        self._threshold = options.threshold
        self._release = max(options.threshold - HYSTERESIS, 0.01)
        self._prefix_s = min(options.prefix_padding_ms / 1000, MAX_PADDING_S)
        self._silence_s = options.silence_duration_ms / 1000
        self._suffix_s = min(self._silence_s, 0.2)

    @property
    def open_since_s(self) -> float | None:
        """Padded start of the speech going on now, or None."""
        return None if self._start_s is None else self._padded_start(self._start_s)

    @property
    def certain_since_s(self) -> float | None:
        """The same, of speech that has lasted long enough to be reported in any case."""
        if self._start_s is None or self.spoken_until_s - self._start_s < MIN_SPEECH_S:
            return None
        return self.open_since_s

    @property
    def spoken_until_s(self) -> float:
        """Where the speech that is open was last heard."""
        return self._now_s if self._silent_since_s is None else self._silent_since_s

    @property
    def needed_from_s(self) -> float:
        """No segment reported later starts before this: older audio may be forgotten."""
        if self.open_since_s is not None:
            return self.open_since_s
        return max(self._last_end_s, self._now_s - self._prefix_s)

    @property
    def needed_next_from_s(self) -> float:
        """The same, if the speech that is open has had its last word."""
        return max(self.spoken_until_s + self._suffix_s, self._now_s - self._prefix_s)

    def push(self, probabilities: Iterable[float]) -> list[SpeechSegment]:
        closed = []
        for probability in probabilities:
            segment = self._step(probability)
            self._now_s += FRAME_S
            if segment is not None:
                closed.append(segment)
        return closed

    def finish(self, duration_s: float) -> list[SpeechSegment]:
        """Close what is still open at the end of the audio."""
        if self._start_s is None:
            return []
        end_s = duration_s if self._silent_since_s is None else self._silent_since_s
        segment = self._close(end_s)
        if segment is None:
            return []
        return [SpeechSegment(segment.start_s, min(segment.end_s, duration_s))]

    def _step(self, probability: float) -> SpeechSegment | None:
        if probability >= self._threshold:
            self._silent_since_s = None
            if self._start_s is None:
                self._start_s = self._now_s
            return None
        if self._start_s is None or (probability >= self._release and self._silent_since_s is None):
            return None
        if self._silent_since_s is None:
            self._silent_since_s = self._now_s
        if self._now_s + FRAME_S - self._silent_since_s >= self._silence_s:
            return self._close(self._silent_since_s)
        return None

    def _close(self, end_s: float) -> SpeechSegment | None:
        assert self._start_s is not None
        start_s, padded_start_s = self._start_s, self._padded_start(self._start_s)
        self._start_s = self._silent_since_s = None
        if end_s - start_s < MIN_SPEECH_S:
            return None
        self._last_end_s = end_s + self._suffix_s
        return SpeechSegment(padded_start_s, self._last_end_s)

    def _padded_start(self, start_s: float) -> float:
        return max(self._last_end_s, start_s - self._prefix_s, 0.0)
