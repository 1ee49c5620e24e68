"""Recordings known by heart: what of them is heard in some audio, and when.

A matched filter: audio is correlated with every recording at a low rate, where codecs leave the wave as it is. So a
scripted engine answers what was really uploaded, decoded and cut, and needs no model for it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from deployments.audio.decode import decode
from pipelines.audio_types import SAMPLE_RATE_HZ, DecodeLimits, Samples
from tests.conftest import DATA, JFK, load_clips

RATE_HZ = 2_000
MIN_LIKENESS = 0.5
MIN_SHARE = 0.6
"""Of a sentence that must lie in the audio: a chunk may end in the pause behind it."""


@dataclass(frozen=True)
class Sentence:
    """`start_s`, `end_s`: on the clock of its recording."""

    start_s: float
    end_s: float
    text: str
    language: str
    speaker: str = ""


@dataclass(frozen=True, eq=False)
class Recording:
    wave: Samples
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class Heard:
    """A sentence on the clock of the audio that it was heard in."""

    start_s: float
    end_s: float
    sentence: Sentence


def listen(samples: Samples) -> list[Heard]:
    """What is said in audio at `SAMPLE_RATE_HZ`, in order; of the same sentence twice, both."""
    return list(_listen(samples.astype(np.float32).tobytes()))


@lru_cache(64)
def _listen(data: bytes) -> tuple[Heard, ...]:
    """Most tests send the same few files."""
    samples = np.frombuffer(data, np.float32)
    duration_s = len(samples) / SAMPLE_RATE_HZ
    heard: list[Heard] = []
    for recording, offset_s in _find(_slow(samples), recordings()):
        for one in _said(recording, offset_s, duration_s):
            if not any(_is_same_time(one, other) for other in heard):
                heard.append(one)
    return tuple(sorted(heard, key=lambda one: one.start_s))


def likeness(samples: Samples, other: Samples) -> float:
    """Of the stretch that two recordings have in common: 1 when they are the same there, 0 when there is none."""
    peaks = _peaks(_slow(samples), _slow(other))
    return peaks[0][1] if peaks else 0.0


@cache
def recordings() -> tuple[Recording, ...]:
    """The clips, the talk, and John F. Kennedy."""
    clips = [(clip.path, [(0.0, None, clip.text, clip.language, "")]) for clip in [*load_clips(), JFK]]
    path = DATA / "conversations" / "talk.opus"
    turns = json.loads(path.with_suffix(".json").read_text())
    talk = [(turn["start"], turn["end"], turn["text"], "en", turn["speaker"]) for turn in turns]
    return tuple(_recording(path, sentences) for path, sentences in [*clips, (path, talk)])


def load(path: Path) -> Samples:
    return np.concatenate(list(decode(path.read_bytes(), DecodeLimits())))


def _recording(path: Path, sentences: Sequence[tuple[float, float | None, str, str, str]]) -> Recording:
    samples = load(path)
    duration_s = len(samples) / SAMPLE_RATE_HZ
    return Recording(
        _slow(samples), tuple(Sentence(start, end or duration_s, *rest) for start, end, *rest in sentences)
    )


def _slow(samples: Samples) -> Samples:
    """At `RATE_HZ`, without its mean."""
    factor = SAMPLE_RATE_HZ // RATE_HZ
    whole = samples[: len(samples) // factor * factor].reshape(-1, factor).mean(axis=1)
    return np.asarray(whole - whole.mean() if len(whole) else whole, np.float32)


def _find(wave: Samples, known: Sequence[Recording]) -> list[tuple[Recording, float]]:
    """Which recordings are in the audio, the surest first, and the seconds at which each begins: before 0 when its
    beginning is not in it."""
    found = [(value, recording, shift) for recording in known for shift, value in _peaks(wave, recording.wave)]
    sure = sorted((one for one in found if one[0] >= MIN_LIKENESS), key=lambda one: -one[0])
    return [(recording, shift / RATE_HZ) for _, recording, shift in sure]


def _peaks(wave: Samples, known: Samples) -> list[tuple[int, float]]:
    """Shifts of `known` against `wave` where both agree best, with their cosine over what overlaps."""
    if not len(wave) or not wave.any():
        return []
    size = next_fast_len(len(wave) + len(known), real=True)
    product = irfft(rfft(wave, size) * np.conj(rfft(known, size)), size)
    shifts = np.r_[np.arange(len(wave)), np.arange(-len(known), 0)]
    agreement = np.r_[product[: len(wave)], product[-len(known) :]]
    found = []
    for _ in range(len(wave) // len(known) + 1):
        best = int(np.argmax(agreement))
        shift = int(shifts[best])
        found.append((shift, _cosine(wave, known, shift)))
        agreement = np.where(np.abs(shifts - shift) < len(known) // 2, -np.inf, agreement)
    return found


def _cosine(wave: Samples, known: Samples, shift: int) -> float:
    first, last = max(shift, 0), min(shift + len(known), len(wave))
    one, other = wave[first:last], known[first - shift : last - shift]
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norm if norm and last - first > RATE_HZ // 4 else 0.0


def _said(recording: Recording, offset_s: float, duration_s: float) -> list[Heard]:
    """Those of its sentences that lie in the audio, or most of them do."""
    return [
        Heard(start_s, end_s, one)
        for one in recording.sentences
        if (end_s := min(one.end_s + offset_s, duration_s)) - (start_s := max(one.start_s + offset_s, 0.0))
        >= MIN_SHARE * (one.end_s - one.start_s)
    ]


def _is_same_time(one: Heard, other: Heard) -> bool:
    return min(one.end_s, other.end_s) - max(one.start_s, other.start_s) > 0.5 * (one.end_s - one.start_s)


def spread(text: str, start_s: float, end_s: float) -> list[tuple[str, float, float]]:
    """Words one behind the other, each as long as it has letters."""
    words = text.split()
    ends: NDArray[np.float64] = np.cumsum([len(word) for word in words]) / max(sum(map(len, words)), 1)
    bounds = start_s + (end_s - start_s) * np.r_[0.0, ends]
    return [(word, float(first), float(last)) for word, first, last in zip(words, bounds, bounds[1:], strict=False)]
