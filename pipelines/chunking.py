"""Cuts a stream of samples into chunks for Whisper: at most 30 s, packed full, cut in silence.

Whisper pays for 30 s whatever a window holds, so a chunk takes in the next speech as long as it fits.
Only somebody who speaks for more than 30 s on end is cut, at the quietest moment of the last third.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import inf

import numpy as np

from pipelines.audio_types import MAX_CHUNK_S, SAMPLE_RATE_HZ, AudioChunk, Samples, SpeechSegment, Waveform

CUT_SEARCH_S = 10.0
QUIET_WINDOW_S = 0.1
QUIET_HOP_S = 0.02
MIN_REST_S = 1.0
"""Of speech behind a cut: its end is silent, and would be the quietest moment, and a chunk in which nobody speaks."""
CLOSING_DELAY_S = 1.0
"""Speech that has just ended is reported a little later: wait before deciding that it does not fit."""


class ChunkBuilder:
    """Feed samples and closed speech segments as they come; take finished chunks.

    Keeps no more than the chunk being packed and the speech that may follow it: about a minute.
    """

    def __init__(self) -> None:
        self._samples: Samples = np.zeros(0, np.float32)
        self._samples_start = 0
        self._packed: list[SpeechSegment] = []
        self._cut_s = 0.0
        self._num_chunks = 0

    def push(
        self,
        samples: Samples,
        closed: Iterable[SpeechSegment],
        open_since_s: float | None,
        needed_from_s: float,
    ) -> list[AudioChunk]:
        """Take the next samples and what the speech detector said of them.

        `open_since_s` is the start of speech that goes on, `needed_from_s` the detector's word that
        no later segment starts before it.
        """
        self._samples = np.concatenate((self._samples, samples))
        chunks = [chunk for segment in closed for chunk in self._pack(segment)]
        if self._packed and self._end_s - self._packed[0].start_s > MAX_CHUNK_S + CLOSING_DELAY_S:
            chunks += self._flush()
        if open_since_s is not None:
            chunks += self._cut_open_speech(open_since_s)
        self._forget(needed_from_s)
        return chunks

    def finish(self, closed: Iterable[SpeechSegment]) -> list[AudioChunk]:
        chunks = [chunk for segment in closed for chunk in self._pack(segment)]
        return chunks + self._flush()

    def _pack(self, segment: SpeechSegment) -> list[AudioChunk]:
        start_s = max(segment.start_s, self._cut_s)
        if segment.end_s <= start_s:
            return []
        chunks = []
        if self._packed and segment.end_s - self._packed[0].start_s > MAX_CHUNK_S:
            chunks += self._flush()
        while segment.end_s - start_s > MAX_CHUNK_S:
            chunk = self._cut(start_s, segment.end_s - MIN_REST_S)
            chunks.append(chunk)
            start_s = chunk.end_s
        self._packed.append(SpeechSegment(start_s, segment.end_s))
        return chunks

    def _cut_open_speech(self, open_since_s: float) -> list[AudioChunk]:
        start_s = max(open_since_s, self._cut_s)
        chunks = []
        while self._end_s - start_s > MAX_CHUNK_S + CLOSING_DELAY_S:
            chunk = self._cut(start_s)
            chunks.append(chunk)
            start_s = self._cut_s = chunk.end_s
        return chunks

    def _cut(self, start_s: float, latest_s: float = inf) -> AudioChunk:
        assert not self._packed, "speech packed earlier must leave first"
        latest_s = min(start_s + MAX_CHUNK_S, latest_s)
        earliest_s = start_s + MAX_CHUNK_S - CUT_SEARCH_S
        cut_s = earliest_s + quietest_moment_s(self._between(earliest_s, latest_s))
        return self._chunk((SpeechSegment(start_s, cut_s),))

    def _flush(self) -> list[AudioChunk]:
        if not self._packed:
            return []
        chunk = self._chunk(tuple(self._packed))
        self._packed = []
        return [chunk]

    def _chunk(self, speech: tuple[SpeechSegment, ...]) -> AudioChunk:
        first = round(speech[0].start_s * SAMPLE_RATE_HZ)
        samples = self._between(speech[0].start_s, speech[-1].end_s)
        chunk = AudioChunk(self._num_chunks, first / SAMPLE_RATE_HZ, Waveform(samples), speech)
        self._num_chunks += 1
        return chunk

    def _between(self, start_s: float, end_s: float) -> Samples:
        first = round(start_s * SAMPLE_RATE_HZ) - self._samples_start
        last = round(end_s * SAMPLE_RATE_HZ) - self._samples_start
        assert first >= 0, "audio of a chunk was forgotten before it was cut"
        return self._samples[first:last].copy()

    def _forget(self, needed_from_s: float) -> None:
        keep_from_s = self._packed[0].start_s if self._packed else max(needed_from_s, self._cut_s)
        drop = min(round(keep_from_s * SAMPLE_RATE_HZ) - self._samples_start, len(self._samples))
        if drop > 0:
            self._samples = self._samples[drop:].copy()
            self._samples_start += drop

    @property
    def _end_s(self) -> float:
        return (self._samples_start + len(self._samples)) / SAMPLE_RATE_HZ


def cut_chunk(chunk: AudioChunk, at_s: float) -> tuple[AudioChunk, AudioChunk]:
    """Both parts keep the chunk's number; each begins and ends with speech."""
    before = tuple(speech for speech in chunk.speech if speech.start_s < at_s)
    after = tuple(speech for speech in chunk.speech if speech.start_s >= at_s)
    assert before
    assert after
    first, last = (round((time_s - chunk.offset_s) * SAMPLE_RATE_HZ) for time_s in (before[-1].end_s, after[0].start_s))
    samples = chunk.waveform.samples
    return (
        AudioChunk(chunk.index, chunk.offset_s, Waveform(samples[:first]), before),
        AudioChunk(chunk.index, chunk.offset_s + last / SAMPLE_RATE_HZ, Waveform(samples[last:]), after),
    )


def halve_chunk(chunk: AudioChunk) -> tuple[AudioChunk, AudioChunk]:
    """Cut at the quietest moment of its middle third."""
    third_s = chunk.waveform.duration_s / 3
    first, last = round(third_s * SAMPLE_RATE_HZ), round(2 * third_s * SAMPLE_RATE_HZ)
    at_s = chunk.offset_s + third_s + quietest_moment_s(chunk.waveform.samples[first:last])
    whole = chunk.speech or (SpeechSegment(chunk.offset_s, chunk.end_s),)
    before = [SpeechSegment(speech.start_s, min(speech.end_s, at_s)) for speech in whole if speech.start_s < at_s]
    after = [SpeechSegment(max(speech.start_s, at_s), speech.end_s) for speech in whole if speech.end_s > at_s]
    return cut_chunk(replace(chunk, speech=(*before, *after)), at_s)


def quietest_moment_s(samples: Samples) -> float:
    """Middle of the quietest 100 ms of `samples` (at least as long), in seconds; of equals the last."""
    window, hop = int(QUIET_WINDOW_S * SAMPLE_RATE_HZ), int(QUIET_HOP_S * SAMPLE_RATE_HZ)
    energy = np.concatenate(([0.0], np.cumsum(np.square(samples, dtype=np.float64))))
    starts = np.arange(0, len(samples) - window + 1, hop)
    energies = energy[starts + window] - energy[starts]
    last_quietest = len(starts) - 1 - int(np.argmin(energies[::-1]))
    return float((starts[last_quietest] + window / 2) / SAMPLE_RATE_HZ)
