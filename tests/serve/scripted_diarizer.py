"""A diarizer without a model, for `engine: tests.serve.scripted_diarizer:ScriptedDiarizer`.

It reads in the code of the audio which samples it gets, and what it is to do with them: the order stands in the
marks' numbers (`ordered`). Two speakers take turns of `TURN_S`; each has a voice of its own, but their
numbers are swapped from one window to the next.
"""

import os
import time
from collections.abc import Callable
from enum import IntEnum
from typing import ClassVar

import numpy as np

from deployments.diarization.engine import Cancelled, DiarizerArgs
from pipelines.audio_types import AudioStretch, Waveform
from pipelines.speaker_types import Diarization, Embedding, SpeakerTurn
from tests.serve.coded_audio import MARK_SAMPLES, NUMBER_SAMPLES, CodedAudio, read_code
from tests.serve.records import Records

TURN_S = 10.0
TURN_GAP_S = 0.05

MARKS_PER_ORDER = 1_000_000
SAMPLES_PER_ORDER = MARKS_PER_ORDER * MARK_SAMPLES
NUMBERS_PER_ORDER = SAMPLES_PER_ORDER // NUMBER_SAMPLES

PATIENCE_S = 60.0
STEP_S = 0.01
WHO = "diarizer"


class Order(IntEnum):
    ANSWER = 0
    WAIT = 1
    """until the records are released."""
    SLOW = 2
    """a second for every window."""
    FAIL = 3


class ScriptedDiarizer:
    """`source` is the directory of its records."""

    voices: ClassVar[list[Embedding]] = list(np.eye(2, 8, dtype=np.float32))

    def __init__(self, args: DiarizerArgs) -> None:
        self._records = Records(args.source)

    def diarize(self, window: AudioStretch, is_cancelled: Callable[[], bool]) -> Diarization:
        start, end = read_code(window.pcm / 32_768)
        order, first = divmod(start, SAMPLES_PER_ORDER)
        last = first + end - start
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES") or "none"
        self._records.write(WHO, "begins", index=window.index, first=first, last=last, gpu=gpu)
        self._obey(Order(order), is_cancelled)
        self._records.write(WHO, "ends", index=window.index, first=first, last=last)
        turns = tuple(_turns(window))
        return Diarization(turns, turns, {_number(window, speaker): voice for speaker, voice in enumerate(self.voices)})

    def embed(self, speech: Waveform) -> Embedding:
        return self.voices[0]

    def _obey(self, order: Order, is_cancelled: Callable[[], bool]) -> None:
        if order is Order.FAIL:
            raise FloatingPointError("this window fails, with secret details")
        started_at = time.monotonic()
        patience_s = {Order.SLOW: 1.0, Order.WAIT: PATIENCE_S}.get(order, 0.0)
        while time.monotonic() - started_at < patience_s and not (order is Order.WAIT and self._records.is_released):
            if is_cancelled():
                self._records.write(WHO, "is cancelled")
                raise Cancelled
            time.sleep(STEP_S)


def ordered(audio: CodedAudio, order: Order) -> bytes:
    """A file of `audio` that tells the diarizer what to do."""
    return quiet(audio).file(first_mark=order * MARKS_PER_ORDER)


def quiet(audio: CodedAudio) -> CodedAudio:
    """Half as loud: windows travel scaled by 32 767 / 32 768, which takes a bit off samples from 16 385 on."""
    return CodedAudio(audio.samples // 2, audio.loud)


def speaker_at(time_s: float) -> int:
    return int(time_s // TURN_S) % 2


def _turns(window: AudioStretch) -> list[SpeakerTurn]:
    turns = []
    for index in range(int(window.offset_s // TURN_S), int(window.end_s // TURN_S) + 1):
        start_s = max(index * TURN_S + TURN_GAP_S, window.offset_s)
        end_s = min((index + 1) * TURN_S - TURN_GAP_S, window.end_s)
        if start_s < end_s:
            turns.append(SpeakerTurn(start_s, end_s, _number(window, speaker_at(index * TURN_S))))
    return turns


def _number(window: AudioStretch, speaker: int) -> int:
    return (speaker + window.index) % 2
