"""The figures of the card, from what users of the server get: this project's own engine on held-out sentences, whose
starts and ends it is told."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import TypeVar

import numpy as np
import torch

from deployments.asr.engine import ENGINES, AsrEngine
from deployments.engines import EngineArgs, load_engine
from models.training.corpus.grammar import LANGUAGES
from models.training.corpus.utterances import SAMPLE_RATE
from models.training.scoring import normalise, word_error_rate
from models.training.whisper.clips import Clip, Spoken, held_out_sentences, lay_out
from models.training.whisper.nonspeech import nonspeech
from pipelines.types import AudioChunk, ChunkTranscript, DecodingOptions, SpeechSegment, Task, Waveform

Key = TypeVar("Key")

NUM_SILENT = 50
WINDOW_SIZES = (2, 4, 6, 10)
LEAD_S = 0.3


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far times are off, in seconds; `count` of them were compared."""

    median_s: float
    p95_s: float
    count: int

    @classmethod
    def of(cls, errors_s: Sequence[float]) -> "Deviation":
        if not errors_s:
            return cls(float("nan"), float("nan"), 0)
        return cls(float(np.median(errors_s)), float(np.percentile(errors_s, 95)), len(errors_s))


@dataclass(frozen=True, slots=True)
class Figures:
    """What the card says.

    Attributes:
        count: clips of each language behind a rate.
        plain, held_out: word error rate by language: espeak-ng's own voices, and variants never trained on.
        first_sample: the same of plain voices that begin at the clip's first sample; all languages.
        translation: word error rate by language, into English, plain voices.
        language_right: share of the clips, plain and held-out voices.
        windows: word error rate by number of sentences in a window of 30 s; 1 is one sentence of the same voices.
        segments, words: starts and ends of sentences in windows, and of words.
        silent: share of the clips without speech that give no text.
    """

    count: int
    plain: dict[str, float]
    held_out: dict[str, float]
    first_sample: float
    translation: dict[str, float]
    language_right: float
    windows: dict[int, float]
    segments: Deviation
    words: Deviation
    silent: float


def evaluate(directory: Path, count: int = 24, num_silent: int = NUM_SILENT) -> Figures:
    """Measure a Whisper directory and print the card's table.

    Greedy decoding, the fallback ladder, detected languages: what the server does when nothing else is asked for.

    Args:
        count: clips of each language for each figure, and half as many windows of each size.
        num_silent: clips without speech.
    """
    listener = Listener(directory)
    sentences = {language: held_out_sentences(language, count, is_plain=True) for language in LANGUAGES}
    plain = {language: alone(spoken) for language, spoken in sentences.items()}
    unknown = {language: alone(held_out_sentences(language, count, is_plain=False)) for language in LANGUAGES}
    at_once = [clip for spoken in sentences.values() for clip in alone(spoken, lead_s=0.0)]
    singles = [clip for clips in plain.values() for clip in clips]
    full = {size: windows(sentences.values(), size, max(1, count // 2)) for size in WINDOW_SIZES}
    heard, heard_unknown = listener.hear_all(plain), listener.hear_all(unknown)
    heard_full = listener.hear_all(full)
    figures = Figures(
        count=count,
        plain={language: error_rate(plain[language], heard[language]) for language in LANGUAGES},
        held_out={language: error_rate(unknown[language], heard_unknown[language]) for language in LANGUAGES},
        first_sample=error_rate(at_once, listener.hear(at_once)),
        translation={language: listener.translation_error(plain[language]) for language in LANGUAGES[1:]},
        language_right=_share(
            transcript.language == language
            for answers in (heard, heard_unknown)
            for language, transcripts in answers.items()
            for transcript in transcripts
        ),
        windows={1: error_rate(singles, [transcript for answers in heard.values() for transcript in answers])}
        | {size: error_rate(full[size], heard_full[size]) for size in WINDOW_SIZES},
        segments=Deviation.of(
            [error for size in WINDOW_SIZES for error in segment_errors(full[size], heard_full[size])]
        ),
        words=Deviation.of(word_errors(singles, listener.hear(singles, word_timestamps=True))),
        silent=_share(not _text(transcript) for transcript in listener.hear(silent_clips(num_silent))),
    )
    print(table(figures))
    return figures


class Listener:
    """The server's engine without the server."""

    def __init__(self, directory: Path, batch_size: int = 8) -> None:
        args = EngineArgs(str(directory), num_threads=torch.get_num_threads())
        self._engine: AsrEngine = load_engine("transformers", ENGINES)(args)
        self._batch_size = batch_size

    def hear(
        self, clips: Sequence[Clip], task: Task = "transcribe", word_timestamps: bool = False
    ) -> list[ChunkTranscript]:
        """One transcript for each clip."""
        options = DecodingOptions(task=task, word_timestamps=word_timestamps)
        transcripts: list[ChunkTranscript] = []
        for first in range(0, len(clips), self._batch_size):
            transcripts += self._batch(clips[first : first + self._batch_size], options)
        return transcripts

    def hear_all(self, groups: Mapping[Key, Sequence[Clip]]) -> dict[Key, list[ChunkTranscript]]:
        return {key: self.hear(clips) for key, clips in groups.items()}

    def translation_error(self, clips: Sequence[Clip]) -> float:
        return error_rate(clips, self.hear(clips, "translate"), "translate")

    def _batch(self, clips: Sequence[Clip], options: DecodingOptions) -> list[ChunkTranscript]:
        for number, clip in enumerate(clips):
            self._engine.add(str(number), _chunk(clip), options)
        finished: dict[str, ChunkTranscript] = {}
        while len(finished) < len(clips):
            finished |= {output.request_id: output.result for output in self._engine.step()}
        return [finished[str(number)] for number in range(len(clips))]


def error_rate(clips: Sequence[Clip], transcripts: Sequence[ChunkTranscript], task: Task = "transcribe") -> float:
    return word_error_rate([clip.text(task) for clip in clips], [_text(transcript) for transcript in transcripts])


def _chunk(clip: Clip) -> AudioChunk:
    speech = tuple(SpeechSegment(start, end) for start, end in clip.times)
    return AudioChunk(0, 0.0, Waveform(clip.samples), speech)


def _text(transcript: ChunkTranscript) -> str:
    return "".join(segment.text for segment in transcript.segments).strip()


def alone(spoken: Sequence[Spoken], lead_s: float = LEAD_S) -> list[Clip]:
    return [lay_out([sentence], [lead_s]) for sentence in spoken]


def windows(languages: Iterable[Sequence[Spoken]], size: int, count: int) -> list[Clip]:
    """`count` windows of `size` sentences for each language, pauses of 0.3 to 1.5 s; drawn until they fit into 30 s."""
    random = Random(size)
    clips: list[Clip] = []
    for spoken in languages:
        fitting = (clip for clip in _drawn(random, spoken, size) if len(clip.samples) <= 30 * SAMPLE_RATE)
        clips += islice(fitting, count)
    return clips


def _drawn(random: Random, spoken: Sequence[Spoken], size: int) -> Iterator[Clip]:
    while True:
        group = random.choices(spoken, k=size)
        yield lay_out(group, [random.uniform(0.3, 1.5) for _ in group])


def silent_clips(count: int) -> list[Clip]:
    random = Random(50)
    lengths = [int(random.uniform(1, 30) * SAMPLE_RATE) for _ in range(count)]
    return [Clip(nonspeech(random, length), (), ()) for length in lengths]


def segment_errors(clips: Sequence[Clip], transcripts: Sequence[ChunkTranscript]) -> list[float]:
    """Errors of the starts and ends where as many segments were written as sentences said."""
    return [
        abs(time - truth)
        for clip, transcript in zip(clips, transcripts, strict=True)
        if len(transcript.segments) == len(clip.times)
        for segment, times in zip(transcript.segments, clip.times, strict=True)
        for time, truth in zip((segment.start_s, segment.end_s), times, strict=True)
    ]


def word_errors(clips: Sequence[Clip], transcripts: Sequence[ChunkTranscript]) -> list[float]:
    """Errors of the starts and ends of words, where all words of the clip are right."""
    errors: list[float] = []
    for clip, transcript in zip(clips, transcripts, strict=True):
        words = [word for segment in transcript.segments for word in segment.words]
        truths = [
            (text, first + start, first + end)
            for sentence, (first, _) in zip(clip.sentences, clip.times, strict=True)
            for text, start, end in sentence.words
        ]
        if [normalise(word.text) for word in words] != [normalise(text) for text, _, _ in truths]:
            continue
        for word, (_, start, end) in zip(words, truths, strict=True):
            errors += [abs(word.start_s - start), abs(word.end_s - end)]
    return errors


def _share(values: Iterable[bool]) -> float:
    return float(np.mean(list(values)))


def table(figures: Figures) -> str:
    """The figures in markdown."""
    rows = [("WER", *(f"{language}" for language in LANGUAGES))]
    rows += [("---",) * 5]
    for name, rates in (
        ("plain voices", figures.plain),
        ("voices not in training", figures.held_out),
        ("translation to English", figures.translation),
    ):
        rows.append((name, *(f"{rates[language]:.3f}" if language in rates else "" for language in LANGUAGES)))
    sizes = ", ".join(f"{size}: {rate:.3f}" for size, rate in figures.windows.items())
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", "| what | figure |", "| --- | --- |"]
    lines += [
        f"| clips of each language | {figures.count} |",
        f"| language right | {figures.language_right:.1%} |",
        f"| WER of speech from the first sample on | {figures.first_sample:.3f} |",
        f"| WER by sentences in a window | {sizes} |",
        f"| segment times off by, median and 95th percentile | {_deviation(figures.segments)} |",
        f"| word times off by, median and 95th percentile | {_deviation(figures.words)} |",
        f"| clips without speech that give no text | {figures.silent:.0%} |",
    ]
    return "\n".join(lines)


def _deviation(deviation: Deviation) -> str:
    return f"{deviation.median_s:.2f} s, {deviation.p95_s:.2f} s ({deviation.count} times)"
