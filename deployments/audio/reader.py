"""Upload to chunks of speech, to long stretches, to one short clip, or as a whole. Synchronous; knows no Ray."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from itertools import takewhile

import numpy as np

from deployments.audio.decode import decode, kept_bytes, read
from deployments.audio.levelling import levelled
from deployments.audio.memory_file import UploadBytes
from deployments.audio.silero import SileroModel, SileroStream
from pipelines.audio import to_pcm
from pipelines.audio_types import (
    SAMPLE_RATE_HZ,
    AudioChunk,
    AudioClip,
    AudioInfo,
    AudioPage,
    AudioRecording,
    DecodeLimits,
    PcmSamples,
    Samples,
    VadOptions,
    Waveform,
)
from pipelines.chunking import ChunkBuilder
from pipelines.vad import SpeechDetector

MAX_EXACT_SILENCE_MS = 1_000
MIN_EXACT_THRESHOLD = 0.3


class UploadReader:
    """Reads one upload from its beginning, a page at a time.

    Holds the upload, about a minute of samples, and the decoder, or what is left of a short upload that was decoded at
    once. Reading is deterministic: another reader of the same upload gives the same chunks.
    """

    def __init__(
        self,
        upload: UploadBytes,
        vad: VadOptions,
        model: SileroModel,
        limits: DecodeLimits,
        is_cancelled: Callable[[], bool] = lambda: False,
        audio_track: int | None = None,
    ) -> None:
        self.info, blocks = read(upload, limits, is_cancelled, audio_track)
        self.num_bytes = len(upload) + kept_bytes(self.info)
        self._batches = self._read(blocks, vad, model)
        self._knows_silence = vad.silence_duration_ms <= MAX_EXACT_SILENCE_MS and vad.threshold >= MIN_EXACT_THRESHOLD
        self.position = 0
        """Index of the first chunk that no page has held yet."""

    def next_page(self, first_chunk: int = 0, is_cancelled: Callable[[], bool] = lambda: False) -> AudioPage:
        """Read on until there is a chunk numbered `first_chunk` or higher, or the audio ends."""
        for chunks, is_last in self._batches:
            self.position += len(chunks)
            wanted = tuple(self._described(chunk) for chunk in chunks if chunk.index >= first_chunk)
            if wanted or is_last:
                return AudioPage(self.info, wanted, is_last)
            if is_cancelled():
                break
        return AudioPage(self.info, (), is_last=True)

    def _described(self, chunk: AudioChunk) -> AudioChunk:
        """Where the caller's settings count long silences or noise as speech, nobody shall look for words there."""
        return chunk if self._knows_silence else replace(chunk, speech=())

    def _read(
        self, blocks: Iterator[Samples], vad: VadOptions, model: SileroModel
    ) -> Generator[tuple[list[AudioChunk], bool], None, None]:
        detector, builder, silero = SpeechDetector(vad), ChunkBuilder(), SileroStream(model)
        num_samples = 0
        for samples, gain in levelled(blocks):
            num_samples += len(samples)
            yield self._chunks_of(samples, gain, detector, builder, silero), False
        self.info = _measured(self.info, num_samples)
        end_s = num_samples / SAMPLE_RATE_HZ
        closed = detector.push(silero.finish()) + detector.finish(end_s)  # the last frame of the model was filled up
        yield builder.finish([replace(speech, end_s=min(speech.end_s, end_s)) for speech in closed]), True

    def _chunks_of(
        self, samples: Samples, gain: float, detector: SpeechDetector, builder: ChunkBuilder, silero: SileroStream
    ) -> list[AudioChunk]:
        closed = detector.push(silero.push(samples * np.float32(gain)).tolist())
        return builder.push(samples, closed, detector.open_since_s, detector.needed_from_s)


class StretchReader:
    """Reads an upload that was found good as 16-bit samples, so many at a time; holds no more than was asked for."""

    def __init__(self, upload: UploadBytes, limits: DecodeLimits, audio_track: int | None = None) -> None:
        self.num_bytes = len(upload)
        self.position = 0
        """The first sample that was not read yet."""
        self._blocks = decode(upload, limits, audio_track)
        self._rest: PcmSamples = np.zeros(0, np.int16)

    def next_stretch(
        self, first_sample: int, num_samples: int, is_cancelled: Callable[[], bool] = lambda: False
    ) -> PcmSamples:
        """`num_samples` from `first_sample` on; fewer at the end of the audio."""
        self._take(first_sample - self.position, is_cancelled, keep=False)
        return self._take(num_samples, is_cancelled, keep=True)

    def _take(self, num_samples: int, is_cancelled: Callable[[], bool], keep: bool) -> PcmSamples:
        taken = [self._rest[:num_samples]]
        self._rest = self._rest[num_samples:].copy()
        missing = num_samples - len(taken[0])
        self.position += len(taken[0])
        while missing > 0 and not is_cancelled() and (block := next(self._blocks, None)) is not None:
            pcm = to_pcm(block)
            self._rest = pcm[missing:].copy()
            self.position += min(missing, len(pcm))
            if keep:
                taken.append(pcm[:missing])
            missing -= len(pcm)
        return np.concatenate(taken)


def read_clip(
    upload: UploadBytes, model: SileroModel, limits: DecodeLimits, is_cancelled: Callable[[], bool] = lambda: False
) -> AudioClip:
    """All of a short upload, and what is spoken in it.

    Raises:
        UndecodableAudio, AudioTooShort, AudioTooLong
    """
    reader = UploadReader(upload, VadOptions(), model, limits, is_cancelled)
    pages = [reader.next_page()]
    while not pages[-1].is_last:
        pages.append(reader.next_page())
    spoken = [
        chunk.waveform.samples[_sample(speech.start_s - chunk.offset_s) : _sample(speech.end_s - chunk.offset_s)]
        for page in pages
        for chunk in page.chunks
        for speech in chunk.speech
    ]
    return AudioClip(reader.info, Waveform(np.concatenate([np.zeros(0, np.float32), *spoken])))


def read_recording(
    upload: UploadBytes, limits: DecodeLimits, is_cancelled: Callable[[], bool] = lambda: False
) -> AudioRecording:
    """All of an upload, silences included.

    Raises:
        UndecodableAudio, AudioTooShort, AudioTooLong
    """
    info, blocks = read(upload, limits, is_cancelled)
    pieces = [to_pcm(block) for block in takewhile(lambda _: not is_cancelled(), blocks)]
    pcm = np.concatenate([np.zeros(0, np.int16), *pieces])
    return AudioRecording(_measured(info, len(pcm)), pcm)


def _measured(info: AudioInfo, num_samples: int) -> AudioInfo:
    """`num_samples`: all that there are."""
    return (
        info if info.is_measured else replace(info, duration_s=round(num_samples / SAMPLE_RATE_HZ, 6), is_measured=True)
    )


def _sample(time_s: float) -> int:
    return round(time_s * SAMPLE_RATE_HZ)
