"""Ears for models that read: a recording becomes its transcript, marked as such, in the place where it stood."""

from dataclasses import dataclass
from math import ceil

from pipelines.audio_types import VadOptions
from pipelines.languages import language_name
from pipelines.ports import StoredUpload
from pipelines.transcript_types import DecodingOptions, Transcript
from pipelines.transcription import TranscriptionPipeline
from pipelines.transcription_events import TranscriptFinished

AUDIO_TOKENS_PER_S = 25
"""As audio language models count them, Qwen2-Audio for one."""

MAX_TOLD_SECONDS = 120.0
"""Longer recordings are told in minutes."""


@dataclass(frozen=True, slots=True)
class HeardText:
    """`text` for a prompt; `num_tokens` is what the audio counts as."""

    text: str
    duration_s: float

    @property
    def num_tokens(self) -> int:
        return ceil(AUDIO_TOKENS_PER_S * self.duration_s)


class HearingPipeline:
    """Keeps nothing between calls."""

    def __init__(self, transcription: TranscriptionPipeline) -> None:
        self._transcription = transcription

    async def run(self, upload: StoredUpload) -> HeardText:
        """
        Raises:
            InvalidRequest: the upload cannot be used.
            Overloaded, ModelUnavailable
        """
        # nobody asks when what was said, and Whisper loses fewer words without writing it down
        options = DecodingOptions()
        async with self._transcription.open(upload, VadOptions(), options) as transcription:
            async for event in transcription.events:
                if isinstance(event, TranscriptFinished):
                    return HeardText(as_text(event.transcript), event.transcript.info.duration_s)
        raise AssertionError("a transcription ends with TranscriptFinished")


def as_text(transcript: Transcript) -> str:
    """A paragraph of its own, between whatever stands before it and behind it.

    Of the wordings that were tried with SmolLM2-135M-Instruct this is the one that it quotes most, above all where the
    question comes first: asked five questions about a recording, it gave its words in all five answers.
    """
    length = _length(transcript.info.duration_s)
    if not transcript.text:
        return f"\n\nAudio recording ({length}). The speaker says nothing: there is no speech in the recording.\n\n"
    language = language_name(transcript.language).title()
    return f'\n\nAudio recording ({length}, {language}). The speaker says: "{transcript.text}"\n\n'


def _length(duration_s: float) -> str:
    if duration_s > MAX_TOLD_SECONDS:
        return f"{duration_s / 60:.0f} minutes"
    seconds = max(round(duration_s), 1)
    return f"{seconds} second{'s' if seconds > 1 else ''}"
