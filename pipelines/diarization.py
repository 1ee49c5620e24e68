"""Upload to events with speakers: recognition and diarization side by side, joined as both go on."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any, TypeVar

from pipelines.audio_types import AudioInfo, AudioStretch, VadOptions
from pipelines.ports import AudioReader, Diarizer, StoredUpload
from pipelines.speaker_types import Diarization, Embedding, KnownSpeaker, Speaker
from pipelines.speakers import SpeakerAttribution, SpeakerLabels
from pipelines.transcript_types import DecodingOptions
from pipelines.transcription import TranscriptionPipeline
from pipelines.transcription_events import TextDelta, TranscriptFinished, Transcription, TranscriptionEvent
from pipelines.voices import VoiceOptions, Voices

EventT = TypeVar("EventT")

ROUNDING_S = 0.1

ReadStretches = Callable[[float], AsyncGenerator[AudioStretch, None]]
"""Of an upload, in stretches of so many seconds."""


@dataclass(frozen=True, slots=True)
class DiarizedStretch:
    """`names` tells for every speaker of the stretch who it is in the whole recording."""

    end_s: float
    diarization: Diarization
    names: Mapping[int, Speaker]


class DiarizedTranscriptionPipeline:
    """A transcription with speakers."""

    def __init__(
        self,
        transcription: TranscriptionPipeline,
        reader: AudioReader,
        diarizer: Diarizer,
        voices: VoiceOptions,
        max_window_s: float,
    ) -> None:
        self._transcription = transcription
        self._reader = reader
        self._diarizer = diarizer
        self._voices = voices
        self._attributor = SpeakerAttributor(diarizer, max_window_s)

    @asynccontextmanager
    async def open(
        self,
        upload: StoredUpload,
        vad: VadOptions,
        options: DecodingOptions,
        known_speakers: Sequence[KnownSpeaker] = (),
        audio_track: int | None = None,
    ) -> AsyncGenerator[Transcription, None]:
        """Its events are deltas with the ids of their segments, each segment's end behind its last delta; then
        `TranscriptFinished`. Leaving ends whatever runs.

        Raises:
            InvalidRequest: when the upload cannot be used.
            Overloaded, ModelUnavailable: also by the events, before the first delta, or when a replica cannot be
                replaced.
        """
        text = self._transcription.open(upload, vad, replace(options, word_timestamps=True), audio_track)
        read = partial(self._reader.read_stretches, upload, audio_track=audio_track)
        async with text as transcription, aclosing(self._events(read, transcription, known_speakers)) as events:
            yield Transcription(transcription.info, events)

    async def _events(
        self, read: ReadStretches, transcription: Transcription, known_speakers: Sequence[KnownSpeaker]
    ) -> AsyncGenerator[TranscriptionEvent, None]:
        async def meet() -> Voices:
            known: dict[str, Embedding] = {}
            for speaker in known_speakers:
                if len(speaker.speech.samples):
                    known[speaker.name] = await self._diarizer.embed(speaker.speech, is_first_step=not known)
            return Voices(known, self._voices)

        has_begun = any(len(speaker.speech.samples) for speaker in known_speakers)
        labels = SpeakerLabels(speaker.name for speaker in known_speakers)
        async with aclosing(self._attributor.events(transcription, read, labels, meet, has_begun)) as events:
            async for event in events:
                yield event


class SpeakerAttributor:
    """Tells who says what a transcription tells.

    Diarization takes memory by the length of what it looks at, so a long recording is diarized in stretches of
    at most `max_window_s`, and their speakers are recognised again by their voices.
    """

    def __init__(self, diarizer: Diarizer, max_window_s: float) -> None:
        self._diarizer = diarizer
        self._max_window_s = max_window_s

    async def events(
        self,
        transcription: Transcription,
        read: ReadStretches,
        labels: SpeakerLabels,
        meet: Callable[[], Awaitable[Voices]],
        has_begun: bool,
    ) -> AsyncGenerator[TranscriptionEvent, None]:
        """
        Args:
            labels: what speakers are called; may be another recording's, too.
            meet: the voices that are known, and will be known behind it; it is asked beside the transcription.
            has_begun: these are not a request's first steps, and wait where a queue is full.
        """
        info = transcription.info
        attribution = SpeakerAttribution(info.bound_s, labels)
        finished: TranscriptFinished | None = None
        stretches = self._stretches(read, info, meet, has_begun)
        async with aclosing(side_by_side(transcription.events, stretches)) as events:
            async for event in events:
                match event:
                    case TextDelta():
                        decided = attribution.add_text(event)
                    case DiarizedStretch():
                        decided = attribution.add_turns(event.end_s, event.diarization, event.names)
                    case TranscriptFinished():
                        finished = event
                        attribution.bound_s = event.transcript.info.bound_s
                        continue
                for one in decided:
                    yield one
        for one in attribution.finish():
            yield one
        assert finished is not None
        yield TranscriptFinished(replace(finished.transcript, speaker_segments=tuple(attribution.segments)))

    async def _stretches(
        self, read: ReadStretches, info: AudioInfo, meet: Callable[[], Awaitable[Voices]], has_begun: bool
    ) -> AsyncGenerator[DiarizedStretch, None]:
        voices = await meet()
        # Windows of equal length, because a short last one would tell little about its speakers; and a little
        # longer than that, so that rounding does not leave one of a few samples.
        stretch_s = info.duration_s / ceil(info.duration_s / self._max_window_s) + ROUNDING_S
        async with aclosing(read(stretch_s)) as stretches:
            async for stretch in stretches:
                diarization = await self._diarizer.diarize(stretch, stretch.index == 0 and not has_begun)
                speakers = sorted({turn.speaker for turn in diarization.turns + diarization.exclusive_turns})
                yield DiarizedStretch(stretch.end_s, diarization, voices.recognise(speakers, diarization.voices))


async def side_by_side(*generators: AsyncGenerator[EventT, None]) -> AsyncGenerator[EventT, None]:
    """Yield what any of `generators` yields, as it comes; the first error ends all of them, and so does leaving."""
    running: dict[asyncio.Future[EventT | None], AsyncGenerator[EventT, None]] = {
        asyncio.ensure_future(anext(generator, None)): generator for generator in generators
    }
    try:
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                generator = running.pop(future)
                event = future.result()
                if event is not None:
                    running[asyncio.ensure_future(anext(generator, None))] = generator
                    yield event
    finally:
        pending: list[asyncio.Future[Any]] = list(running)
        for future in pending:
            future.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for generator in generators:
            await generator.aclose()
