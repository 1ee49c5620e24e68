"""Upload to chunks of speech: decode, detect, cut. Synchronous; knows no Ray."""

from collections.abc import Callable, Generator
from dataclasses import replace

from deployments.audio.decode import decode, probe
from deployments.audio.silero import SileroModel, SileroStream
from pipelines.chunking import ChunkBuilder
from pipelines.types import SAMPLE_RATE_HZ, AudioChunk, AudioPage, DecodeLimits, Samples, VadOptions
from pipelines.vad import SpeechDetector

MAX_EXACT_SILENCE_MS = 1_000
MIN_EXACT_THRESHOLD = 0.3


class UploadReader:
    """Reads one upload from its beginning, a page at a time.

    Holds the upload, the decoder and about a minute of samples, however long the audio is. Reading is
    deterministic: another reader of the same upload gives the same chunks.
    """

    def __init__(
        self,
        upload: bytes,
        vad: VadOptions,
        model: SileroModel,
        limits: DecodeLimits,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.num_bytes = len(upload)
        self.info = probe(upload, limits, is_cancelled)
        self._batches = self._read(upload, vad, model, limits)
        self._knows_silence = vad.silence_duration_ms <= MAX_EXACT_SILENCE_MS and vad.threshold >= MIN_EXACT_THRESHOLD
        self.next_chunk = 0
        """Index of the first chunk that no page has held yet."""

    def next_page(self, first_chunk: int = 0, is_cancelled: Callable[[], bool] = lambda: False) -> AudioPage:
        """Read on until there is a chunk numbered `first_chunk` or higher, or the audio ends."""
        for chunks, is_last in self._batches:
            self.next_chunk += len(chunks)
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
        self, upload: bytes, vad: VadOptions, model: SileroModel, limits: DecodeLimits
    ) -> Generator[tuple[list[AudioChunk], bool], None, None]:
        detector, builder, silero = SpeechDetector(vad), ChunkBuilder(), SileroStream(model)
        num_samples = 0
        for samples in decode(upload, limits):
            num_samples += len(samples)
            yield self._chunks_of(samples, detector, builder, silero), False
        closed = detector.push(silero.finish()) + detector.finish(num_samples / SAMPLE_RATE_HZ)
        yield builder.finish(closed), True

    def _chunks_of(
        self, samples: Samples, detector: SpeechDetector, builder: ChunkBuilder, silero: SileroStream
    ) -> list[AudioChunk]:
        closed = detector.push(silero.push(samples).tolist())
        return builder.push(samples, closed, detector.open_since_s, detector.needed_from_s)
