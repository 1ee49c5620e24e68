"""Chunks' answers, in order, to one transcript whose deltas join to exactly its text."""

from dataclasses import replace

import numpy as np

from pipelines.audio_types import AudioInfo
from pipelines.languages import WRITTEN_WITHOUT_SPACES
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, Segment, Transcript, Word
from pipelines.transcription_events import TextDelta


class TranscriptBuilder:
    """Takes every chunk once, in order. `info` may become known better on the way."""

    def __init__(self, info: AudioInfo, options: DecodingOptions) -> None:
        self.info = info
        self._task = options.task
        self._language = options.language
        self._spoken_s: dict[str, float] = {}
        self._segments: list[Segment] = []
        self._chunks: list[ChunkTranscript] = []

    def add(self, chunk: ChunkTranscript) -> list[TextDelta]:
        self._chunks.append(chunk)
        deltas = []
        for number, raw_segment in enumerate(segment for segment in chunk.segments if segment.text.strip()):
            written_language = "en" if self._task == "translate" else chunk.language
            segment = self._place(raw_segment, written_language, is_first_of_chunk=number == 0)
            # only where there is text: of a chunk without speech the language is a guess
            spoken_s = self._spoken_s.get(chunk.language, 0.0) + raw_segment.end_s - raw_segment.start_s
            self._spoken_s[chunk.language] = spoken_s
            is_first = not self._segments
            self._segments.append(segment)
            text = segment.text.lstrip() if is_first else segment.text
            words = segment.words or (_as_word(segment),)
            deltas.append(TextDelta(text, segment.tokens, words, start_s=segment.start_s, end_s=segment.end_s))
        return deltas

    def preview(self, chunk: ChunkTranscript) -> str:
        """The text that `add` would tell of it, but for what follows its last word."""
        segments, chunks, spoken_s = list(self._segments), list(self._chunks), dict(self._spoken_s)
        text = "".join(delta.text for delta in self.add(chunk))
        self._segments, self._chunks, self._spoken_s = segments, chunks, spoken_s
        return text

    def finish(self) -> Transcript:
        return Transcript(
            info=self.info,
            languages=self._languages(),
            segments=tuple(self._segments),
            finish_reason="length" if any(c.finish_reason == "length" for c in self._chunks) else "stop",
            num_prompt_tokens=sum(c.num_prompt_tokens for c in self._chunks),
            num_output_tokens=sum(c.num_output_tokens for c in self._chunks),
        )

    def _languages(self) -> tuple[str, ...]:
        if self._language:
            return (self._language,)
        heard = sorted(self._spoken_s, key=self._spoken_s.__getitem__, reverse=True)
        return tuple(heard) or (self._chunks[0].language if self._chunks else "en",)

    def _place(self, segment: Segment, language: str, is_first_of_chunk: bool) -> Segment:
        """Separate the text of chunks from each other, and keep times inside the upload and in order."""
        text = segment.text.rstrip()
        if is_first_of_chunk and text[:1].strip() and language not in WRITTEN_WITHOUT_SPACES:
            text = " " + text
        earliest_s = self._segments[-1].start_s if self._segments else 0.0
        start_s = min(max(segment.start_s, earliest_s), self.info.bound_s)
        end_s = min(max(segment.end_s, start_s), self.info.bound_s)
        return replace(segment, text=text, start_s=start_s, end_s=end_s)


def _as_word(segment: Segment) -> Word:
    """What a recogniser without word times knows of a segment."""
    return Word(segment.text.strip(), segment.start_s, segment.end_s, float(np.exp(segment.avg_logprob)))
