"""From a window's tokens to segments and words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from deployments.asr.alignment import AlignedWord, align, frames_of
from deployments.asr.row import Attempt
from deployments.asr.vocabulary import Vocabulary
from pipelines.audio_types import SpeechSegment
from pipelines.segmenting import TimedWord, split_into_segments
from pipelines.transcript_types import DecodingOptions, Segment, Token, Word
from pipelines.whisper import TimedTokens, compression_ratio, split_at_timestamps


@dataclass(frozen=True, slots=True)
class DecodedWindow:
    """All that is needed of a window when its slot has gone to somebody else.

    speech: on the upload's clock, as the window's own bounds are.
    scores: (alignment heads, tokens read, encoder frames), from the one on that looked for the first of the attempt's
        tokens; None when nobody asks for times that they would tell.
    """

    window: SpeechSegment
    speech: tuple[SpeechSegment, ...]
    attempt: Attempt
    no_speech_prob: float
    options: DecodingOptions
    is_timed: bool
    scores: Tensor | None


class Writer:
    """Stateless, so that any thread may write."""

    def __init__(self, vocabulary: Vocabulary, filter_width: int) -> None:
        self._vocabulary = vocabulary
        self._filter_width = filter_width

    def write(self, decoded: DecodedWindow) -> list[Segment]:
        """Segments with text, in order, on the upload's clock."""
        ids = [token for token in decoded.attempt.tokens if token != self._vocabulary.end_of_text]
        tokens = [self._token(token, logprob) for token, logprob in zip(ids, decoded.attempt.logprobs, strict=False)]
        if decoded.is_timed:
            segments = self._by_timestamp_tokens(decoded, ids, tokens)
        elif decoded.scores is not None:
            segments = self._by_attention(decoded, decoded.scores, tokens)
        else:
            segments = [_segment(decoded, decoded.speech[0].start_s, decoded.speech[-1].end_s, tokens)]
        return [segment for segment in segments if segment.text.strip()]

    def _by_timestamp_tokens(self, decoded: DecodedWindow, ids: list[int], tokens: list[Token]) -> list[Segment]:
        start_s = decoded.window.start_s
        duration_s = decoded.window.end_s - start_s
        return [
            _segment(
                decoded,
                start_s + part.start_s,
                start_s + part.end_s,
                tokens[part.first : part.last],
                self._words_of(decoded, part, tokens),
            )
            for part in split_at_timestamps(ids, self._vocabulary.timestamp_begin, duration_s)
        ]

    def _words_of(self, decoded: DecodedWindow, part: TimedTokens, tokens: list[Token]) -> list[Word]:
        """Aligned within the part's own times: where there are timestamps, they are surer."""
        if decoded.scores is None or not decoded.options.word_timestamps:
            return []
        scores = decoded.scores[:, part.first : part.last + 1]
        frames = frames_of([(part.start_s, part.end_s)], scores.shape[-1])
        mine = tokens[part.first : part.last]
        words = align(scores, mine, frames, self._filter_width)
        start_s = decoded.window.start_s
        bounds = SpeechSegment(start_s + part.start_s, start_s + part.end_s)
        return [_word(word, start_s, bounds, mine) for word in words]

    def _by_attention(self, decoded: DecodedWindow, scores: Tensor, tokens: list[Token]) -> list[Segment]:
        start_s = decoded.window.start_s
        stretches = [(speech.start_s - start_s, speech.end_s - start_s) for speech in decoded.speech]
        aligned = align(scores, tokens, frames_of(stretches, scores.shape[-1]), self._filter_width)
        if not aligned:
            return [_segment(decoded, decoded.speech[0].start_s, decoded.speech[-1].end_s, tokens)]
        bounds = SpeechSegment(decoded.speech[0].start_s, decoded.speech[-1].end_s)
        words = [_word(word, start_s, bounds, tokens) for word in aligned]
        timed = [TimedWord(one.text, word.start_s, word.end_s) for one, word in zip(aligned, words, strict=True)]
        firsts = [0, *(word.first for word in aligned[1:]), len(tokens)]
        return [
            _segment(
                decoded,
                words[first].start_s,
                words[last - 1].end_s,
                tokens[firsts[first] : firsts[last]],
                words[first:last] if decoded.options.word_timestamps else (),
            )
            for first, last in split_into_segments(timed, decoded.options.cues)
        ]

    def _token(self, token_id: int, logprob: float) -> Token:
        data = self._vocabulary.data(token_id)
        return Token(token_id, data.decode("utf-8", errors="replace"), logprob, data)


def _segment(
    decoded: DecodedWindow, start_s: float, end_s: float, tokens: Sequence[Token], words: Sequence[Word] = ()
) -> Segment:
    text = b"".join(token.data for token in tokens).decode("utf-8", errors="replace")
    return Segment(
        start_s=start_s,
        end_s=end_s,
        text=text,
        tokens=tuple(tokens),
        temperature=decoded.attempt.temperature,
        avg_logprob=min(decoded.attempt.avg_logprob, 0.0),
        compression_ratio=compression_ratio(text),
        no_speech_prob=decoded.no_speech_prob,
        seek_s=decoded.window.start_s,
        words=tuple(words),
    )


def _word(word: AlignedWord, window_start_s: float, bounds: SpeechSegment, tokens: Sequence[Token]) -> Word:
    start_s = np.clip(window_start_s + word.start_s, bounds.start_s, bounds.end_s)
    end_s = np.clip(window_start_s + word.end_s, start_s, bounds.end_s)
    probability = np.exp([token.logprob for token in tokens[word.first : word.last]]).mean()
    return Word(word.text.strip(), float(start_s), float(end_s), float(probability))
