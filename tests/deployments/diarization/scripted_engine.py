"""A diarizer without a model, for `engine: tests.deployments.diarization.scripted_engine:Scripted`."""

import threading
import time
from collections.abc import Callable

import numpy as np

from deployments.diarization.engine import Cancelled, DiarizerArgs
from pipelines.audio_types import AudioStretch, Waveform
from pipelines.errors import ConfigurationError
from pipelines.speaker_types import Diarization, Embedding, SpeakerTurn

BROKEN = -1
"""The index of a window that it cannot diarize."""


class Scripted:
    """Answers window `index` with one turn of speaker `index`. While `is_gated`, each call takes one of `allow`,
    and asks meanwhile whether it was cancelled. The source `broken` cannot be loaded.
    """

    def __init__(self, args: DiarizerArgs) -> None:
        if args.source == "broken":
            raise ConfigurationError("This source is broken.")
        self.args = args
        self.is_gated = False
        self.allow = threading.Semaphore(0)
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self.threads: set[int] = set()
        self.most_at_once = 0
        self._num_at_once = 0

    def diarize(self, window: AudioStretch, is_cancelled: Callable[[], bool]) -> Diarization:
        self.threads.add(threading.get_ident())
        self.started.append(window.index)
        self._num_at_once += 1
        self.most_at_once = max(self.most_at_once, self._num_at_once)
        try:
            while self.is_gated and not self.allow.acquire(timeout=0.001):
                if is_cancelled():
                    self.cancelled.append(window.index)
                    raise Cancelled
            if window.index == BROKEN:
                raise FloatingPointError("this window fails, with secret details")
            time.sleep(0.001)
        finally:
            self._num_at_once -= 1
        turns = (SpeakerTurn(window.offset_s, window.end_s, window.index),)
        return Diarization(turns, turns, {window.index: np.ones(4, np.float32)})

    def embed(self, speech: Waveform) -> Embedding:
        self.threads.add(threading.get_ident())
        if not len(speech.samples):
            raise FloatingPointError("this clip fails, with secret details")
        return np.full(4, len(speech.samples), np.float32)
