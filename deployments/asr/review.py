"""What becomes of a decoded window: tried again hotter, thrown away, or turned into segments and words."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deployments.asr.alignment import AlignedWord, Aligner, TimedText
from deployments.asr.row import Attempt, Row
from deployments.asr.vocabulary import Vocabulary
from pipelines.audio_types import SpeechSegment
from pipelines.transcript_types import Segment, Token, Word
from pipelines.whisper import (
    MAX_COMPRESSION_RATIO,
    TEMPERATURE_LADDER,
    TimedTokens,
    compression_ratio,
    is_silence,
    needs_fallback,
    skipped_speech,
    split_at_timestamps,
)


class Reviewer:
    def __init__(self, vocabulary: Vocabulary, aligner: Aligner) -> None:
        self._vocabulary = vocabulary
        self._aligner = aligner

    def must_retry(self, row: Row) -> bool:
        if row.options.temperature > 0 or len(row.failed_attempts) + 1 >= len(TEMPERATURE_LADDER):
            return False
        is_extra_window = row.num_windows > 0
        if is_extra_window or row.options.max_tokens is not None:
            return False
        return self._is_poor(row, row.attempt)

    def _is_poor(self, row: Row, attempt: Attempt) -> bool:
        ratio = compression_ratio(self._vocabulary.text(attempt.tokens))
        return needs_fallback(attempt.avg_logprob, ratio, row.no_speech_prob)

    def best_attempt(self, row: Row) -> Attempt:
        """When every temperature failed, the most probable one that does not repeat itself (as faster-whisper does)."""
        if not row.failed_attempts or not self._is_poor(row, row.attempt):
            return row.attempt
        attempts = [*row.failed_attempts, row.attempt]
        varied = [
            attempt
            for attempt in attempts
            if compression_ratio(self._vocabulary.text(attempt.tokens)) <= MAX_COMPRESSION_RATIO
        ]
        return max(varied or attempts, key=lambda attempt: attempt.avg_logprob)

    def accept(self, row: Row) -> None:
        """Add the window's segments to the row, and note the speech that they leave out."""
        attempt = row.attempt
        if is_silence(attempt.avg_logprob, row.no_speech_prob):
            return
        if row.num_windows > 1 and self._is_poor(row, attempt):
            return  # left out by the first decoding and no better alone: noise, or nobody
        ids = [token for token in attempt.tokens if token != self._vocabulary.end_of_text]
        timed = split_at_timestamps(ids, self._vocabulary.timestamp_begin, row.duration_s)
        segments = [self._segment(row, ids, part) for part in timed]
        segments = [segment for segment in segments if segment.text.strip()]
        if row.options.word_timestamps and segments:
            segments = self._add_words(row, segments)
        row.segments += segments
        if segments and row.options.timestamps and row.finish_reason == "stop":
            self._note_skipped(row, segments)

    def _note_skipped(self, row: Row, segments: Sequence[Segment]) -> None:
        covered = [SpeechSegment(segment.start_s, segment.end_s) for segment in segments]
        inside = (clip for speech in row.chunk.speech if (clip := _clip(speech, row.window)))
        searched = replace(row.chunk, speech=tuple(inside))
        row.skipped += skipped_speech(searched, covered)

    def _segment(self, row: Row, ids: list[int], part: TimedTokens) -> Segment:
        attempt = row.attempt
        positions = range(part.first, part.last)
        text = self._vocabulary.text([ids[position] for position in positions])
        return Segment(
            start_s=row.window.start_s + part.start_s,
            end_s=row.window.start_s + part.end_s,
            text=text,
            tokens=tuple(self._token(ids[position], attempt.logprobs[position]) for position in positions),
            temperature=attempt.temperature,
            avg_logprob=min(attempt.avg_logprob, 0.0),
            compression_ratio=compression_ratio(text),
            no_speech_prob=row.no_speech_prob,
            seek_s=row.window.start_s,
        )

    def _token(self, token_id: int, logprob: float) -> Token:
        data = self._vocabulary.data(token_id)
        return Token(token_id, data.decode("utf-8", errors="replace"), logprob, data)

    def _add_words(self, row: Row, segments: Sequence[Segment]) -> list[Segment]:
        assert row.encoded is not None
        assert row.language is not None
        prefix = self._vocabulary.alignment_prefix(row.options, row.language)
        timed = [
            TimedText(segment.tokens, segment.start_s - row.window.start_s, segment.end_s - row.window.start_s)
            for segment in segments
        ]
        aligned = self._aligner.align(row.encoded, prefix, timed, self._vocabulary.end_of_text)
        return [
            replace(segment, words=tuple(_word(word, segment, row.window.start_s) for word in words))
            for segment, words in zip(segments, aligned, strict=True)
        ]


def _word(word: AlignedWord, segment: Segment, window_start_s: float) -> Word:
    start_s = np.clip(window_start_s + word.start_s, segment.start_s, segment.end_s)
    end_s = np.clip(window_start_s + word.end_s, start_s, segment.end_s)
    probability = np.exp([token.logprob for token in segment.tokens[word.first : word.last]]).mean()
    return Word(word.text.strip(), float(start_s), float(end_s), float(probability))


def _clip(speech: SpeechSegment, window: SpeechSegment) -> SpeechSegment | None:
    start_s, end_s = max(speech.start_s, window.start_s), min(speech.end_s, window.end_s)
    return SpeechSegment(start_s, end_s) if start_s < end_s else None
