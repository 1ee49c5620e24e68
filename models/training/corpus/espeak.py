"""espeak-ng through its C library: speech with the exact time of every word and phone.

The library and its voices come with the package `espeakng-loader`.
"""

import ctypes
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

from models.training.corpus.invented import INVENTED, variant

_VARIANTS = Path("voices", "!v")
_INVENTED = "invented"  # espeak-ng's list of voices has no room for hundreds: this one is written anew for each

# from espeak-ng's speak_lib.h
_SYNCHRONOUS = 2
_PHONEME_EVENTS = 1
_UTF8 = 1
_END, _WORD, _PHONEME = 0, 1, 7
_RATE, _PITCH, _RANGE, _WORD_GAP = 1, 3, 4, 7


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(slots=True)
class EspeakSpeech:
    """What espeak-ng said, at its own sample rate.

    Attributes:
        parts: int16 samples.
        words: (first character of the word in the text, start in seconds).
        phones: (espeak-ng's mnemonic, start in seconds).
    """

    parts: list[NDArray[np.int16]] = field(default_factory=list)
    words: list[tuple[int, float]] = field(default_factory=list)
    phones: list[tuple[str, float]] = field(default_factory=list)

    @property
    def samples(self) -> NDArray[np.float32]:
        return np.concatenate(self.parts).astype(np.float32) / np.float32(32768)


class Espeak:
    """The library, initialised once in a process; it has one voice at a time and is not for several threads."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        self._data = _linked_data()
        self.sample_rate: int = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, self._data.name.encode(), _PHONEME_EVENTS
        )
        if self.sample_rate <= 0:
            raise RuntimeError("espeak-ng could not be initialised")
        self._speech = EspeakSpeech()
        self._callback = _Callback(self._receive)  # kept: the library calls it later
        self._library.espeak_SetSynthCallback(self._callback)

    def say(
        self, text: str, voice: str, rate: int = 160, pitch: int = 50, pitch_range: int = 50, word_gap: int = 0
    ) -> EspeakSpeech:
        """Speak a text.

        Args:
            voice: an espeak-ng voice with or without a variant, its own or an invented one: `en-us+f3`.
            rate: words per minute.
            pitch: 0 to 99, as is `pitch_range`.
            word_gap: pause between words, in units of 10 ms.

        Raises:
            ValueError: there is no such voice.
        """
        if self._library.espeak_SetVoiceByName(self._known(voice).encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range), (_WORD_GAP, word_gap)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._speech = EspeakSpeech()
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _UTF8, None, None)
        return self._speech

    def _known(self, voice: str) -> str:
        """The name by which espeak-ng finds the voice."""
        base, _, name = voice.partition("+")
        if name not in INVENTED:
            return voice
        Path(self._data.name, _VARIANTS, _INVENTED).write_text(variant(name))
        return f"{base}+{_INVENTED}"

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if count > 0 and samples:
            self._speech.parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        place = 0
        while events[place].type != _END:
            event = events[place]
            seconds = event.sample / self.sample_rate
            if event.type == _WORD:
                self._speech.words.append((event.text_position - 1, seconds))
            elif event.type == _PHONEME:
                self._speech.phones.append((event.id.string.decode("utf-8", "replace"), seconds))
            place += 1
        return 0


def _linked_data() -> TemporaryDirectory[str]:
    """espeak-ng's data, linked to, and room for a variant of our own: it looks for them nowhere else."""
    folder = TemporaryDirectory(prefix="espeak-ng-")
    own = Path(espeakng_loader.get_data_path())
    for part in (Path(), _VARIANTS.parent, _VARIANTS):
        Path(folder.name, part).mkdir(exist_ok=True)
        for entry in (own / part).iterdir():
            if part / entry.name not in (_VARIANTS.parent, _VARIANTS):
                Path(folder.name, part, entry.name).symlink_to(entry)
    return folder
