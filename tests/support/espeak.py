"""espeak-ng through its C library: speech whose words begin at known times.

The library and its voices come with the package `espeakng-loader`.
"""

import ctypes
from dataclasses import dataclass, field
from typing import Any

import espeakng_loader
import numpy as np
import soxr
from numpy.typing import NDArray

from pipelines.audio_types import SAMPLE_RATE_HZ, Samples

# from espeak-ng's speak_lib.h
_SYNCHRONOUS, _UTF8 = 2, 1
_END, _WORD = 0, 1
_RATE = 1


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass
class Speech:
    """`starts_s`: of every word, in order."""

    samples: Samples
    starts_s: list[float]


@dataclass
class _Spoken:
    parts: list[NDArray[np.int16]] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)


class Espeak:
    """Initialised once in a process; it has one voice at a time and is not for several threads."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        data = str(espeakng_loader.get_data_path()).encode()
        self._rate_hz: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        if self._rate_hz <= 0:
            raise RuntimeError("espeak-ng could not be initialised")
        self._spoken = _Spoken()
        self._callback = _Callback(self._receive)  # kept: the library calls it later
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, words_per_minute: int = 130) -> Speech:
        """At `SAMPLE_RATE_HZ`.

        Raises:
            ValueError: there is no such voice.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._spoken = _Spoken()
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _UTF8, None, None)
        samples = np.concatenate(self._spoken.parts).astype(np.float32) / np.float32(32_768)
        return Speech(soxr.resample(samples, self._rate_hz, SAMPLE_RATE_HZ), self._spoken.starts_s)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if count > 0 and samples:
            self._spoken.parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        place = 0
        while events[place].type != _END:
            if events[place].type == _WORD:
                self._spoken.starts_s.append(events[place].sample / self._rate_hz)
            place += 1
        return 0
