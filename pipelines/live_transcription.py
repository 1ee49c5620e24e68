"""Text while somebody speaks: what was said of a turn up to now is decoded again and again, and told as soon as two
decodings agree on it (`pipelines.agreement`). What was told is never taken back: the next decoding begins with it.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from math import floor

import numpy as np

from pipelines.agreement import agreed_length
from pipelines.audio_types import (
    MAX_CHUNK_S,
    SAMPLE_RATE_HZ,
    AudioChunk,
    AudioInfo,
    Samples,
    SpeechSegment,
    VadOptions,
    Waveform,
)
from pipelines.errors import RetryableError
from pipelines.languages import WRITTEN_WITHOUT_SPACES
from pipelines.live_window import Window, chunk_of
from pipelines.merging import TranscriptBuilder
from pipelines.ports import Recognizer
from pipelines.transcript_types import DecodingOptions, Token
from pipelines.transcription_events import TextDelta, TranscriptFinished, TranscriptionEvent
from pipelines.utterance import PREFIX_S, SUFFIX_S, Utterance
from pipelines.vad import SpeechDetector

UTTERANCE_SILENCE_MS = 1_000
"""So long a pause inside a turn ends what is decoded together, as the silences of an upload part its chunks."""

CUT_AFTER_S = 12.0
"""A window that is longer is cut where an agreed sentence ends: the shorter, the sooner it is decoded again."""

BUSY_S = 1.0
"""Where a draft takes longer, others wait as well: as long again is left to them before the next one. By the clock, as
audio may come in large pieces, or faster than it was spoken."""

DRAFT_HEAD_START_S, FINAL_HEAD_START_S = 5.0, 20.0
"""Somebody waits for it, so it goes before uploads, but not for ever."""

DRAFT_PADDING_S, FINAL_PADDING_S, BUSY_PADDING_S = 3.0, 12.0, 5.0
"""Of silence behind it, which takes time to hear, too: the last where a try took longer than `BUSY_S`, as what is heard
a little worse is there in time."""


@dataclass(slots=True)
class LiveTranscriber:
    """One turn's. `grow` and `close` never wait; `events` are told until it is closed and all of it is known.

    interval_s: of new audio before it is decoded again.
    vad: what is speech in it; the silence that ends an utterance is `UTTERANCE_SILENCE_MS`, whatever it says.
    """

    recognizer: Recognizer
    options: DecodingOptions
    interval_s: float
    vad: VadOptions = field(default_factory=VadOptions)
    _detector: SpeechDetector = field(init=False)
    _utterances: "asyncio.Queue[Utterance | None]" = field(default_factory=asyncio.Queue, init=False)
    _kept: list[Utterance] = field(default_factory=list, init=False)
    """Of which not all is known."""
    _open: Utterance | None = field(default=None, init=False)
    _recent: Samples = field(default_factory=lambda: np.zeros(0, np.float32), init=False)
    """What no utterance has yet, up to now."""
    _num_samples: int = field(default=0, init=False)
    _numbers: "count[int]" = field(default_factory=count, init=False)
    _took_s: float = field(default=0.0, init=False)
    """The last decoding."""
    _is_busy: bool = field(default=False, init=False)
    """So many are decoded that the last try took long, whether or not it came to its end."""

    def __post_init__(self) -> None:
        self._detector = SpeechDetector(replace(self.vad, silence_duration_ms=UTTERANCE_SILENCE_MS))

    # The audio, as it comes

    def grow(self, samples: Samples, probabilities: Sequence[float]) -> None:
        self._recent = np.concatenate((self._recent, samples))
        self._num_samples += len(samples)
        for segment in self._detector.push(probabilities):
            self._end(segment)
        since_s = self._detector.certain_since_s
        if since_s is not None:
            utterance = self._open or self._begin(since_s)
            self._continue(utterance, min(self._detector.spoken_until_s, self._now_s))
        else:
            self._forget(self._detector.needed_from_s)

    def close(self) -> None:
        for segment in self._detector.finish(self._now_s):
            self._end(segment)
        if self._open:  # too short for the detector, by the last frame's missing samples
            self._end(SpeechSegment(self._open.start_s, self._now_s))
        self._utterances.put_nowait(None)

    @property
    def pending_s(self) -> float:
        """Speech that is kept, because not all of it is known."""
        return sum(utterance.kept_s for utterance in self._kept)

    @property
    def _now_s(self) -> float:
        return self._num_samples / SAMPLE_RATE_HZ

    def _begin(self, start_s: float) -> Utterance:
        self._forget(start_s)
        self._open = Utterance(self._now_s - len(self._recent) / SAMPLE_RATE_HZ)
        self._kept.append(self._open)
        self._utterances.put_nowait(self._open)
        return self._open

    def _continue(self, utterance: Utterance, spoken_until_s: float) -> None:
        """A pause is left out but for its beginning, as it may be long: then the next utterance begins in it."""
        missing = max(floor((spoken_until_s + SUFFIX_S - utterance.end_s) * SAMPLE_RATE_HZ) + 1, 0)
        utterance.grow(self._recent[:missing], spoken_until_s)
        self._recent = self._recent[missing:]

    def _end(self, segment: SpeechSegment) -> None:
        """It may have begun and ended in audio that has come at once."""
        utterance = self._open or self._begin(segment.start_s)
        missing = max(round((segment.end_s - utterance.end_s) * SAMPLE_RATE_HZ), 0)
        spoken_until_s = max(utterance.spoken_until_s, segment.end_s - SUFFIX_S)
        utterance.grow(self._recent[:missing], spoken_until_s)
        self._recent = self._recent[missing:]
        utterance.end()
        self._open = None

    def _forget(self, until_s: float) -> None:
        kept = round((self._now_s - until_s) * SAMPLE_RATE_HZ)
        self._recent = self._recent[max(len(self._recent) - kept, 0) :]

    # What is known of it

    async def events(self) -> AsyncGenerator[TranscriptionEvent, None]:
        builder = TranscriptBuilder(AudioInfo(float("inf"), "", ""), self.options)
        while (utterance := await self._utterances.get()) is not None:
            window = Window(utterance.start_s, utterance.start_s + PREFIX_S)
            self._took_s = 0.0
            while await utterance.must_be_heard(window.tried_until_s, self._pause_s):
                before, language = window.tokens, window.language
                if await self._try(utterance, window):
                    if window.is_draft and window.is_full and window.is_doubtful:
                        with suppress(RetryableError):  # then the draft has to do
                            await self._decode(utterance, window, is_draft=False)
                    is_same_language = language in (None, window.language)
                    for delta in self._agree(window, before if is_same_language else (), builder):
                        yield delta
                    self._cut(utterance, window, builder)
            async for delta in self._finish(utterance, window, builder):
                yield delta
            self._kept.remove(utterance)
        transcript = builder.finish()
        yield TranscriptFinished(replace(transcript, info=AudioInfo(self._now_s, "", "")))

    @property
    def _pause_s(self) -> float:
        """Of new audio before the next draft: where drafts take long, others wait for their turn, too."""
        return max(self.interval_s, self._took_s if self._took_s < BUSY_S else 2 * self._took_s)

    async def _try(self, utterance: Utterance, window: Window) -> bool:
        """Whether the window was decoded: as a draft while somebody speaks, else as what may be the answer. What cannot
        be the answer is given up when the utterance ends first: what comes instead is more urgent."""
        is_draft = utterance.is_going_on
        trying = asyncio.ensure_future(self._decode(utterance, window, is_draft))
        ending = asyncio.ensure_future(utterance.ended.wait())
        window.tried_until_s = end_s = utterance.end_s
        self._took_s = 0.0
        clock = asyncio.get_running_loop().time
        started_at = clock()
        try:
            await asyncio.wait({trying, ending}, return_when=asyncio.FIRST_COMPLETED)
            self._is_busy = clock() - started_at > BUSY_S
            if not trying.done() and (is_draft or end_s < utterance.must_hear_s):
                return False
            await trying
            self._took_s = clock() - started_at
        except RetryableError:
            return False  # the next one may do better
        finally:
            trying.cancel()
            ending.cancel()
            await asyncio.gather(trying, ending, return_exceptions=True)
        return True

    def _agree(self, window: Window, before: Sequence[Token], builder: TranscriptBuilder) -> list[TextDelta]:
        """What the last two decodings agree on; of a window that is full, all but its last segment."""
        length = agreed_length(before, window.tokens, window.language not in WRITTEN_WITHOUT_SPACES)
        if window.is_full:
            ends = [end for end, _ in window.boundaries()]
            length = max([length, *(ends[-2:-1] or ends)])
        return self._tell(window, window.tokens[: max(length, len(window.agreed))], builder)

    def _tell(self, window: Window, tokens: tuple[Token, ...], builder: TranscriptBuilder) -> list[TextDelta]:
        assert window.answer
        new, window.agreed = tokens[len(window.agreed) :], tokens
        text = builder.preview(chunk_of(window.answer, tokens, window.start_s, window.heard_until_s))
        delta, window.told = text[len(window.told) :], text
        return [TextDelta(delta, new)] if delta else []

    def _cut(self, utterance: Utterance, window: Window, builder: TranscriptBuilder) -> None:
        """Let a long window begin behind the last segment that is agreed on."""
        boundaries = [(end, time_s) for end, time_s in window.boundaries() if end <= len(window.agreed)]
        if not window.is_full:  # what the last decoding has not understood may be understood yet
            boundaries = [(end, time_s) for end, time_s in boundaries if time_s < window.heard_until_s]
        clean = [(end, time_s) for end, time_s in boundaries if window.is_clean_cut(end)]
        boundaries = clean or (boundaries if window.is_full else [])
        if window.answer is None or not boundaries or window.heard_until_s - window.start_s < CUT_AFTER_S:
            return
        length, cut_s = boundaries[-1]
        done, rest = window.agreed[:length], window.agreed[length:]
        builder.add(chunk_of(window.answer, done, window.start_s, cut_s))
        after = chunk_of(window.answer, window.tokens[length:], cut_s, window.heard_until_s)
        window.start_s, window.agreed, window.answer = cut_s, rest, after
        window.told = builder.preview(chunk_of(after, rest, cut_s, window.heard_until_s))
        utterance.forget(cut_s)

    async def _finish(
        self, utterance: Utterance, window: Window, builder: TranscriptBuilder
    ) -> AsyncGenerator[TextDelta, None]:
        """What was decoded last is the last word where it is no draft and has heard all: however poor it is, it was
        tried in every way."""
        while window.is_draft or window.heard_until_s < utterance.must_hear_s:
            await self._decode(utterance, window, is_draft=False)
            if window.heard_until_s >= utterance.end_s:
                break
            for delta in self._agree(window, (), builder):
                yield delta
            self._cut(utterance, window, builder)
        assert window.answer
        told = window.told
        chunk = chunk_of(window.answer, window.tokens, window.start_s, window.heard_until_s)
        text = "".join(delta.text for delta in builder.add(chunk))
        if text[len(told) :]:
            yield TextDelta(text[len(told) :], window.tokens[len(window.agreed) :])

    async def _decode(self, utterance: Utterance, window: Window, is_draft: bool) -> None:
        samples, end_s = utterance.since(window.start_s), utterance.end_s
        most = round(MAX_CHUNK_S * SAMPLE_RATE_HZ)
        if len(samples) > most:
            samples, end_s = samples[:most], window.start_s + MAX_CHUNK_S
        speech = (SpeechSegment(window.start_s, end_s),)
        options = replace(
            self.options,
            language=self.options.language or (window.language if window.agreed else None),
            may_change=False,
            timestamps=end_s - window.start_s >= CUT_AFTER_S,
            timestamp_tokens=False,
            written=window.agreed,
            is_draft=is_draft,
            padding_s=DRAFT_PADDING_S if is_draft else BUSY_PADDING_S if self._is_busy else FINAL_PADDING_S,
            head_start_s=DRAFT_HEAD_START_S if is_draft else FINAL_HEAD_START_S,
        )
        chunk = AudioChunk(next(self._numbers), window.start_s, Waveform(samples), speech)
        window.answer = await self.recognizer.transcribe(chunk, options, is_first_step=False)
        window.heard_until_s, window.is_draft = end_s, is_draft
