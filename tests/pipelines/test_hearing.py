"""CHT-35: what a model reads of a recording."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from pipelines.audio_types import AudioInfo, VadOptions
from pipelines.errors import UndecodableAudio
from pipelines.hearing import HearingPipeline, as_text
from pipelines.transcript_types import DecodingOptions, Segment, Transcript
from pipelines.transcription_events import TextDelta, TranscriptFinished, Transcription, TranscriptionEvent


def transcript(text: str, duration_s: float = 11.0, language: str = "en") -> Transcript:
    segments = (Segment(0.0, duration_s, text, (), 0.0, -0.1, 1.0, 0.0),) if text else ()
    return Transcript(AudioInfo(duration_s, "wav", "pcm_s16le"), language, segments)


@dataclass
class FakeTranscription:
    """Hears `transcript`, or waits for ever, or raises."""

    transcript: Transcript | None = None
    error: Exception | None = None
    options: list[DecodingOptions] = field(default_factory=list)
    num_running: int = 0

    @asynccontextmanager
    async def open(
        self, upload: bytes, vad: VadOptions, options: DecodingOptions
    ) -> AsyncGenerator[Transcription, None]:
        self.options.append(options)
        self.num_running += 1
        try:
            if self.error:
                raise self.error
            if self.transcript is None:
                await asyncio.Event().wait()
            assert self.transcript is not None
            yield Transcription(self.transcript.info, _events(self.transcript))
        finally:
            self.num_running -= 1


async def _events(transcript: Transcript) -> AsyncGenerator[TranscriptionEvent, None]:
    yield TextDelta(transcript.text)
    yield TranscriptFinished(transcript)


def hearing(transcription: FakeTranscription) -> HearingPipeline:
    return HearingPipeline(transcription)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("duration_s", "language", "told"),
    [
        (0.1, "en", "1 second, English"),
        (1.4, "de", "1 second, German"),
        (10.6, "ht", "11 seconds, Haitian Creole"),
        (120.0, "en", "120 seconds, English"),
        (121.0, "en", "2 minutes, English"),
        (3_600.0, "xx", "60 minutes, Xx"),
    ],
)
def test_a_transcript_is_marked_with_length_and_language(duration_s: float, language: str, told: str) -> None:
    assert told in as_text(transcript(" Ask not.", duration_s, language))


def test_a_transcript_is_a_paragraph_of_its_own() -> None:
    for said in (" Ask not what your country can do. ", ""):
        text = as_text(transcript(said))
        assert text == f"\n\n{text.strip()}\n\n"
        assert f'"{said.strip()}"' in text or not said


def test_silence_is_said_to_be_silence() -> None:
    text = as_text(transcript("", 3.0))
    assert "3 seconds" in text
    assert "there is no speech" in text
    assert "English" not in text  # nobody knows


@pytest.mark.parametrize(("duration_s", "num_tokens"), [(0.1, 3), (1.0, 25), (11.0, 275), (11.01, 276)])
async def test_audio_counts_25_tokens_a_second(duration_s: float, num_tokens: int) -> None:
    for text in ("Ask not.", ""):
        heard = await hearing(FakeTranscription(transcript(text, duration_s))).run(b"upload")
        assert (heard.num_tokens, heard.duration_s) == (num_tokens, duration_s)


async def test_the_language_is_found_out_and_nobody_asks_for_times() -> None:
    transcription = FakeTranscription(transcript("Ask not."))
    await hearing(transcription).run(b"upload")
    (options,) = transcription.options
    assert (options.task, options.language, options.timestamps) == ("transcribe", None, False)
    assert transcription.num_running == 0


async def test_what_cannot_be_used_is_said() -> None:
    with pytest.raises(UndecodableAudio):
        await hearing(FakeTranscription(error=UndecodableAudio("no"))).run(b"upload")


async def test_who_leaves_ends_the_work() -> None:
    transcription = FakeTranscription()
    heard = asyncio.create_task(hearing(transcription).run(b"upload"))
    await asyncio.sleep(0)
    assert transcription.num_running == 1
    heard.cancel()
    with pytest.raises(asyncio.CancelledError):
        await heard
    assert transcription.num_running == 0
