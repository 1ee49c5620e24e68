"""What becomes of a decoded window: tried again hotter, thrown away, or taken."""

from deployments.asr.row import Attempt, Row
from deployments.asr.vocabulary import Vocabulary
from pipelines.whisper import (
    MAX_COMPRESSION_RATIO,
    TEMPERATURE_LADDER,
    is_silence,
    loop_start,
    needs_fallback,
    repetition,
)

LOOP_CHECK_TOKENS = 16


class Reviewer:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def cut_loop(self, attempt: Attempt) -> bool:
        """Whether the attempt repeats itself without end; it is cut where that begins. Asked at every token, it looks
        now and then."""
        if len(attempt.tokens) % LOOP_CHECK_TOKENS:
            return False
        # timestamps of repeated segments differ
        start = loop_start([min(token, self._vocabulary.timestamp_begin) for token in attempt.tokens])
        if start is None:
            return False
        attempt.cut(start)
        attempt.is_loop = True
        return True

    def must_retry(self, row: Row) -> bool:
        if (
            row.options.is_draft
            or row.options.temperature > 0
            or len(row.failed_attempts) + 1 >= len(TEMPERATURE_LADDER)
        ):
            return False
        is_cut_short = row.attempt.finish_reason == "length" and row.options.max_tokens is not None
        return not is_cut_short and self._is_poor(row, row.attempt)

    def best_attempt(self, row: Row) -> Attempt:
        """When every temperature failed, the most probable one that does not repeat itself (as faster-whisper does)."""
        if not row.failed_attempts or not self._is_poor(row, row.attempt):
            return row.attempt
        attempts = [*row.failed_attempts, row.attempt]
        varied = [
            attempt
            for attempt in attempts
            if not attempt.is_loop and repetition(self._vocabulary.text(attempt.tokens)) <= MAX_COMPRESSION_RATIO
        ]
        return max(varied or attempts, key=lambda attempt: attempt.avg_logprob)

    def is_heard(self, row: Row) -> bool:
        """Whether somebody has said what the row's attempt says."""
        return not is_silence(row.attempt.avg_logprob, row.no_speech_prob)

    def _is_poor(self, row: Row, attempt: Attempt) -> bool:
        if attempt.is_loop:
            return True
        ratio = repetition(self._vocabulary.text(attempt.tokens))
        return needs_fallback(attempt.avg_logprob, ratio, row.no_speech_prob)
