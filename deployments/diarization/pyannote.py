"""Speaker diarization by pyannote.audio's own pipelines, from the hub or from a directory."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pyannote.core import Annotation

from deployments.compat.glibc import trim_heap
from deployments.compat.pyannote import embedding_of, put_embedding
from deployments.diarization.engine import Cancelled, DiarizerArgs
from deployments.diarization.loading import load_pipeline
from deployments.diarization.shared_trunk import SharedTrunkEmbedding
from deployments.diarization.windowed_pipeline import WindowedSpeakerDiarization
from pipelines.audio import from_pcm
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioStretch, Samples, Waveform
from pipelines.errors import ConfigurationError
from pipelines.speaker_types import Diarization, Embedding, SpeakerTurn

MIN_EMBEDDED_S = 0.5
MAX_EMBEDDED_S = 30.0

LONG_S, TRIM_EVERY_S = 60.0, 3.0
"""What a longer stretch has taken is given back to the system, now and then and at its end, or it grows with each: by
75 MB for ten minutes. Only at the end, its holes took 0.1 GB more; mapping what is large took half as long again."""


class PyannoteDiarizer:
    def __init__(self, args: DiarizerArgs) -> None:
        torch.set_num_threads(args.num_threads)
        self._pipeline = load_pipeline(args.source)
        self._pipeline.legacy = False
        self._pipeline.segmentation_batch_size = args.batch_size
        self._pipeline.embedding_batch_size = args.batch_size
        if args.hop_s is not None:
            _set_hop(self._pipeline, args.source, args.hop_s)
        self._embedding = embedding_of(self._pipeline)
        if SharedTrunkEmbedding.suits(self._embedding):
            self._embedding = SharedTrunkEmbedding(self._embedding)
            put_embedding(self._pipeline, self._embedding)
        self._pipeline.to(torch.device(args.device))

    def diarize(self, stretch: AudioStretch, is_cancelled: Callable[[], bool]) -> Diarization:
        is_long = len(stretch.pcm) > LONG_S * SAMPLE_RATE_HZ
        trimmed_at = time.monotonic()

        def watch(*_: Any, **__: Any) -> None:
            nonlocal trimmed_at
            if is_cancelled():
                raise Cancelled
            if is_long and time.monotonic() - trimmed_at > TRIM_EVERY_S:
                trim_heap(collect=False)
                trimmed_at = time.monotonic()

        try:
            return self._diarized(stretch, watch)
        finally:
            if is_long:
                trim_heap()

    def _diarized(self, stretch: AudioStretch, watch: Callable[..., None]) -> Diarization:
        samples = from_pcm(stretch.pcm)
        file = {"waveform": torch.from_numpy(samples)[None], "sample_rate": SAMPLE_RATE_HZ}  # never a path: slow
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # means of nothing, where nobody was heard alone
            output = self._pipeline(file, hook=watch)
        speakers = {label: number for number, label in enumerate(output.speaker_diarization.labels())}
        exclusive = _turns(output.exclusive_speaker_diarization, speakers, stretch)
        voices = {
            number: np.asarray(centroid, np.float32)
            for number, centroid in zip(speakers.values(), output.speaker_embeddings, strict=False)
            if np.isfinite(centroid).all() and np.any(centroid)
        }
        for number in set(speakers.values()) - set(voices):
            if np.any(voice := self._voice_of(number, exclusive, stretch.offset_s, samples)):
                voices[number] = voice
        return Diarization(_turns(output.speaker_diarization, speakers, stretch), exclusive, voices)

    def embed(self, speech: Waveform) -> Embedding:
        samples = speech.samples[: int(MAX_EMBEDDED_S * SAMPLE_RATE_HZ)]
        if len(samples) < MIN_EMBEDDED_S * SAMPLE_RATE_HZ:
            return np.zeros(self._embedding.dimension, np.float32)
        waveforms = torch.from_numpy(np.array(samples))[None, None]
        return np.nan_to_num(np.asarray(self._embedding(waveforms)[0], np.float32))

    def _voice_of(
        self, speaker: int, exclusive: tuple[SpeakerTurn, ...], offset_s: float, samples: Samples
    ) -> Embedding:
        """For who was never heard alone for long enough to found a cluster: all of the speech at once."""
        spoken = [
            samples[int((turn.start_s - offset_s) * SAMPLE_RATE_HZ) : int((turn.end_s - offset_s) * SAMPLE_RATE_HZ)]
            for turn in exclusive
            if turn.speaker == speaker
        ]
        return self.embed(Waveform(np.concatenate([np.zeros(0, np.float32), *spoken])))


def _set_hop(pipeline: Any, source: str, hop_s: float) -> None:
    if not isinstance(pipeline, WindowedSpeakerDiarization):
        raise ConfigurationError(f"The diarization pipeline '{source}' has no hop: leave 'diarization.hop_s' out.")
    if hop_s > pipeline.window_s:
        raise ConfigurationError(
            f"diarization.hop_s is {hop_s:g}, but the windows of '{source}' are {pipeline.window_s:g} s: "
            "nobody would hear what lies between them."
        )
    pipeline.hop_s = hop_s


def _turns(annotation: Annotation, speakers: dict[str, int], stretch: AudioStretch) -> tuple[SpeakerTurn, ...]:
    turns = (
        SpeakerTurn(
            stretch.offset_s + max(segment.start, 0.0),
            min(stretch.offset_s + segment.end, stretch.end_s),
            speakers[label],
        )
        for segment, _, label in annotation.itertracks(yield_label=True)
    )
    return tuple(sorted((turn for turn in turns if turn.end_s > turn.start_s), key=lambda turn: turn.start_s))
