"""Audio that tells where it comes from: every stretch of it carries its own position in its lowest bits.

The two lowest bits of 16-bit samples hold a number per `MARK_SAMPLES`: bit 1 is set on the first sample of
a mark, and bit 0 spells the mark's number. Whoever gets any `2 * MARK_SAMPLES` of such audio knows which
samples it got, to the sample. It is inaudible, so speech stays speech; it survives WAV and FLAC at 16 kHz mono.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from pipelines.audio_types import SAMPLE_RATE_HZ, Samples

CLIPS = Path(__file__).parent.parent / "data"

MARK_SAMPLES = 32
NUMBER_SAMPLES = 4_000
"""What the tests count in: quarters of a second."""

LOUD_FRAME_SAMPLES = 320
LOUDNESS_DB = -25.0
"""Frames this far under a clip's loudest one surely hold speech."""

PcmSamples = NDArray[np.int16]


@dataclass(frozen=True)
class CodedAudio:
    """`loud`: for every frame of 20 ms, whether a speaker is surely heard in it."""

    samples: PcmSamples
    loud: NDArray[np.bool_]

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    def file(self, container: str = "FLAC", first_mark: int = 0) -> bytes:
        out = io.BytesIO()
        soundfile.write(out, lay_code(self.samples, first_mark), SAMPLE_RATE_HZ, format=container, subtype="PCM_16")
        return out.getvalue()


def lay_code(samples: PcmSamples, first_mark: int = 0) -> PcmSamples:
    position = np.arange(len(samples))
    number = first_mark + position // MARK_SAMPLES
    place = position % MARK_SAMPLES
    code = (number >> (MARK_SAMPLES - 1 - place)) & 1 | np.where(place == 0, 2, 0)
    return (samples & ~3 | code).astype(np.int16)


def read_code(samples: Samples) -> tuple[int, int]:
    """Position of the first sample, and of the one after the last.

    Raises:
        ValueError: the samples are not one uninterrupted stretch of coded audio.
    """
    bits = np.rint(samples * 32_768).astype(np.int64) & 3
    starts = np.flatnonzero(bits & 2)
    starts = starts[starts + MARK_SAMPLES <= len(bits)]
    if not len(starts):
        raise ValueError(f"no mark in {len(samples)} samples")
    digits = (bits & 1)[starts[:, None] + np.arange(MARK_SAMPLES)]
    numbers = digits @ (1 << np.arange(MARK_SAMPLES - 1, -1, -1))
    if (np.diff(starts) != MARK_SAMPLES).any() or (np.diff(numbers) != 1).any():
        raise ValueError("samples are missing, doubled or out of order")
    first = int(numbers[0]) * MARK_SAMPLES - int(starts[0])
    return first, first + len(samples)


def pause(seconds: float) -> CodedAudio:
    num_frames = round(seconds * SAMPLE_RATE_HZ / LOUD_FRAME_SAMPLES)
    return CodedAudio(np.zeros(num_frames * LOUD_FRAME_SAMPLES, np.int16), np.zeros(num_frames, np.bool_))


def join(*parts: CodedAudio) -> CodedAudio:
    return CodedAudio(np.concatenate([part.samples for part in parts]), np.concatenate([part.loud for part in parts]))


def speech_clips() -> list[CodedAudio]:
    """The synthetic clips of all languages, cut to where their speaker is heard."""
    return [_speech(np.asarray(soundfile.read(path, dtype="int16")[0])) for path in sorted(CLIPS.glob("??-??.flac"))]


def _speech(samples: PcmSamples) -> CodedAudio:
    frames = samples[: len(samples) // LOUD_FRAME_SAMPLES * LOUD_FRAME_SAMPLES].reshape(-1, LOUD_FRAME_SAMPLES)
    power = np.square(frames.astype(np.float64)).mean(axis=1)
    loud = power > power.max() * 10 ** (LOUDNESS_DB / 10)
    first, last = np.flatnonzero(loud)[[0, -1]]
    return CodedAudio(frames[first : last + 1].reshape(-1), loud[first : last + 1])


def ten_minutes(clips: list[CodedAudio]) -> CodedAudio:
    """Sentences with pauses of all lengths, 40 s of nothing, and twice somebody who does not stop to breathe."""
    chance = np.random.default_rng(20)
    parts, num_s, kinds = [pause(1.0)], 0.0, ["talk", "flood", "talk", "silence", "talk", "flood"]
    while num_s < 600.0:
        kind = kinds.pop(0) if kinds else "talk"
        if kind == "silence":
            parts.append(pause(40.0))
        elif kind == "flood":
            parts += [join(*(clips[i] for i in chance.permutation(len(clips))[:30])), pause(0.6)]
        else:
            for index in chance.permutation(len(clips))[:25]:
                parts += [clips[index], pause(float(chance.choice([0.1, 0.25, 0.4, 0.8, 1.5, 4.0])))]
        num_s = sum(part.duration_s for part in parts)
    whole = join(*parts)
    return CodedAudio(whole.samples[: 600 * SAMPLE_RATE_HZ], whole.loud[: 600 * SAMPLE_RATE_HZ // LOUD_FRAME_SAMPLES])
