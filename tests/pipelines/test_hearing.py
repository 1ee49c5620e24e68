"""CHT-35: what a model reads of a recording."""

import asyncio
from typing import Any

import pytest

from pipelines.audio_types import AudioInfo
from pipelines.errors import UndecodableAudio
from pipelines.hearing import HearingPipeline, as_text
from pipelines.transcript_types import ChunkTranscript, Segment, Transcript
from pipelines.transcription import TranscriptionPipeline
from tests.support.fakes import FakeReader, FakeRecognizer
from tests.support.ports import settle


def transcript(text: str, duration_s: float = 11.0, language: str = "en") -> Transcript:
    segments = (Segment(0.0, duration_s, text, (), 0.0, -0.1, 1.0, 0.0),) if text else ()
    return Transcript(AudioInfo(duration_s, "wav", "pcm_s16le"), (language,), segments)


def speech(text: str) -> FakeRecognizer:
    return FakeRecognizer(answer=lambda chunk: ChunkTranscript(chunk.index, "en", transcript(text).segments))


def hearing(recognizer: FakeRecognizer, **reader: Any) -> HearingPipeline:
    return HearingPipeline(TranscriptionPipeline(FakeReader(num_chunks=1, **reader), recognizer))


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
        heard = await hearing(speech(text), duration_s=duration_s).run(b"upload")
        assert (heard.num_tokens, heard.duration_s) == (num_tokens, duration_s)


async def test_the_language_is_found_out_and_nobody_asks_for_times() -> None:
    recognizer = speech("Ask not.")
    await hearing(recognizer).run(b"upload")
    (options,) = recognizer.options.values()
    assert (options.task, options.language, options.has_times) == ("transcribe", None, False)
    assert not recognizer.running


async def test_what_cannot_be_used_is_said() -> None:
    with pytest.raises(UndecodableAudio):
        await hearing(FakeRecognizer(), error=UndecodableAudio("no")).run(b"upload")


async def test_who_leaves_ends_the_work() -> None:
    never = asyncio.Event()
    recognizer = FakeRecognizer(lambda index: never)
    heard = asyncio.create_task(hearing(recognizer).run(b"upload"))
    await settle()
    assert recognizer.running == {0}
    heard.cancel()
    with pytest.raises(asyncio.CancelledError):
        await heard
    assert not recognizer.running
