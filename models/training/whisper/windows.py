"""Windows to learn from, made on the fly: utterances laid one after the other, and what the model is to say of them."""

from collections import defaultdict
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from models.training.corpus.acoustics import disturb
from models.training.corpus.synthesis import SHARES
from models.training.corpus.utterances import SAMPLE_RATE, Corpus, Utterance
from models.training.whisper.labels import FRAME, FRAMES_PER_S, SILENCE, Labels, Spans
from models.training.whisper.nonspeech import nonspeech
from models.training.whisper.settings import Content
from models.training.whisper.tokenizer import Vocabulary

WINDOW_S = 30.0
FULL_SAMPLES = int(WINDOW_S * SAMPLE_RATE)
FULL_FRAMES = FULL_SAMPLES // FRAME
IGNORED = -100
MAX_TOKENS = 448

P_FIRST_SAMPLE = 0.15
"""A clip that begins with speech, without any silence before it."""
P_PADDED = 0.25
"""A 30 s window that holds one to three sentences and then zeros, as a short upload does."""
MOST_SENTENCES = 20
P_ONE_VOICE = 0.5
SPEEDS = (0.86, 1.16)
"""How fast an utterance is played: pitch and formants move too, as far as those of one speaker are from another's."""
P_CUT = 0.3
"""The window's end cuts a sentence off: of that one only the start is written."""

Kind = Literal["short", "medium", "full"]
Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Placed:
    """An utterance in a window, played `speed` times faster, from sample `start` on."""

    utterance: Utterance
    samples: Samples
    start: int
    speed: float

    @property
    def end(self) -> int:
        return self.start + len(self.samples)


@dataclass(frozen=True, slots=True)
class Window:
    """An example, its times counted from its own first frame.

    Attributes:
        samples: shape (frames * FRAME,).
        tokens: what the decoder reads, and `labels` what it is to say after each, `IGNORED` where nothing.
        spans: where each label is spoken, in encoder frames, shape (tokens, 2); -1 where it is not known.
        phones: the phone of each encoder frame, shape (frames,).
    """

    samples: Samples
    tokens: list[int]
    labels: list[int]
    spans: Spans
    phones: NDArray[np.int64]

    @property
    def num_frames(self) -> int:
        return len(self.phones)


class WindowMaker:
    def __init__(self, corpus: Corpus, labels: Labels, vocabulary: Vocabulary) -> None:
        self._corpus, self._labels, self._vocabulary = corpus, labels, vocabulary
        self._sentences: dict[str, list[Utterance]] = defaultdict(list)
        self._free: dict[str, list[Utterance]] = defaultdict(list)
        self._voices: dict[tuple[str, bool], list[Utterance]] = defaultdict(list)
        for utterance in corpus:
            is_free = utterance.english is None
            (self._free if is_free else self._sentences)[utterance.language].append(utterance)
            self._voices[utterance.voice, is_free].append(utterance)

    def draw(self, random: Random, kind: Kind, content: Content) -> Window:
        language = random.choices(*zip(*SHARES.items(), strict=True))[0]
        p_translate = content.p_translate if language != "en" else content.p_translate / 6
        task = "translate" if random.random() < p_translate else "transcribe"
        if random.random() < content.p_silent:
            return self._silent(random, kind, content, language, task)
        is_padded = kind == "full" and random.random() < P_PADDED
        pool = self._pool(random, language, content.p_free if task == "transcribe" else 0)
        placed = self._place(random, pool, _num_sentences(random, kind, is_padded), content.p_speed)
        samples = _mix(random, placed, kind, is_padded, content.p_disturb)
        is_timed = random.random() < content.p_timestamps
        whole = [item for item in placed if item.end <= len(samples)]
        cut = [item for item in placed[len(whole) :] if item.start < len(samples) - SAMPLE_RATE // 2]
        script = _Script(self._vocabulary, is_timed)
        self._prompt(script, random, content, pool, task)
        script.begin(self._vocabulary.languages[language], language, task)
        for item in whole:
            script.say(*self._said(item, task), item.start, item.end)
        if cut and is_timed:
            script.cut(cut[0].start)
        return script.window(samples, self._phones(placed, len(samples) // FRAME))

    def _silent(self, random: Random, kind: Kind, content: Content, language: str, task: str) -> Window:
        length = FULL_SAMPLES if kind == "full" and random.random() < 0.5 else int(random.uniform(0.5, 8) * SAMPLE_RATE)
        samples = np.zeros(FULL_SAMPLES if kind == "full" else _whole_frames(length), np.float32)
        samples[:length] = nonspeech(random, length)
        script = _Script(self._vocabulary, random.random() < content.p_timestamps)
        script.begin(self._vocabulary.no_speech, language, task)
        script.fall_silent()
        return script.window(samples, np.full(len(samples) // FRAME, SILENCE))

    def _pool(self, random: Random, language: str, p_free: float) -> list[Utterance]:
        is_free = random.random() < p_free and bool(self._free[language])
        pool = (self._free if is_free else self._sentences)[language]
        if random.random() < P_ONE_VOICE:
            voice = self._voices[random.choice(pool).voice, is_free]
            # the same three sentences all over again would teach nothing
            return voice if len(voice) > 8 else pool
        return pool

    def _place(self, random: Random, pool: list[Utterance], count: int, p_speed: float) -> list[Placed]:
        """At most `count` utterances and the pauses between them; the last may reach over the end of 30 s."""
        position = int(_lead_s(random, count) * SAMPLE_RATE)
        longest_pause = random.choice((0.3, 0.8, 1.5, 3.0))
        placed: list[Placed] = []
        for _ in range(count):
            utterance = random.choice(pool)
            speed = random.uniform(*SPEEDS) if random.random() < p_speed else 1.0
            samples = _faster(self._corpus.samples(utterance), speed) * random.uniform(0.5, 1)
            if placed and position + len(samples) > FULL_SAMPLES and random.random() > P_CUT:
                break
            placed.append(Placed(utterance, samples, position, speed))
            position = placed[-1].end + int(random.uniform(0.1, longest_pause) * SAMPLE_RATE)
            if position > FULL_SAMPLES - SAMPLE_RATE:
                break
        return placed

    def _prompt(self, script: "_Script", random: Random, content: Content, pool: list[Utterance], task: str) -> None:
        if random.random() >= content.p_prompt:
            return
        earlier = random.choices(pool, k=random.choice((1, 1, 2, 3)))
        texts = [utterance.english if task == "translate" else utterance.text for utterance in earlier]
        script.prompt([token for text in texts for token in self._labels.tokens(text or "")])

    def _said(self, item: Placed, task: str) -> tuple[list[int], Spans]:
        """The tokens and their spans in frames of the window."""
        if task == "translate":
            tokens = self._labels.tokens(item.utterance.english or "")
            return tokens, np.full((len(tokens), 2), -1, np.float32)
        tokens, seconds = self._labels.timed_tokens(item.utterance)
        frames = item.start / FRAME + seconds / item.speed * FRAMES_PER_S + np.array([-1, 1], np.float32)
        return tokens, np.where(seconds < 0, -1, frames)

    def _phones(self, placed: list[Placed], num_frames: int) -> NDArray[np.int64]:
        phones = np.full(num_frames, SILENCE)
        for item in placed:
            frames = np.arange(item.start // FRAME, min(item.end // FRAME, num_frames))
            seconds = (frames * FRAME + FRAME / 2 - item.start) / SAMPLE_RATE * item.speed
            phones[frames] = self._labels.frames(item.utterance, seconds)
        return phones


class _Script:
    """The decoder's tokens, labels and spans as they grow: each label is what follows its token."""

    def __init__(self, vocabulary: Vocabulary, is_timed: bool) -> None:
        self._vocabulary, self._is_timed = vocabulary, is_timed
        self._read: list[int] = []
        self._labels: list[int] = []
        self._said: list[int] = []
        self._spans: list[Spans] = []

    def prompt(self, tokens: list[int]) -> None:
        self._read += [self._vocabulary.previous, *tokens[-(MAX_TOKENS // 2 - 1) :]]
        self._labels += [IGNORED] * len(self._read)

    def begin(self, heard: int, language: str, task: str) -> None:
        """`heard` is the language's token or <|nospeech|>: what <|startoftranscript|> is answered with."""
        vocabulary = self._vocabulary
        self._read += [vocabulary.start, vocabulary.languages[language], vocabulary.task(task)]
        self._labels += [heard, IGNORED]
        if not self._is_timed:
            self._read.append(vocabulary.no_timestamps)
            self._labels.append(IGNORED)

    def say(self, tokens: list[int], spans: Spans, start: int, end: int) -> None:
        """A sentence between two samples of the window."""
        if self._is_timed:
            self._time(start, before=1, after=3)
        self._said += tokens
        self._spans.append(spans)
        if self._is_timed:
            self._time(end, before=3, after=1)

    def cut(self, start: int) -> None:
        """A sentence that the window's end cuts off."""
        self._time(start, before=1, after=3)

    def fall_silent(self) -> None:
        if self._is_timed:
            self._said.append(self._vocabulary.timestamps)
            self._spans.append(np.full((1, 2), -1, np.float32))

    def _time(self, sample: int, before: int, after: int) -> None:
        frame = sample / FRAME
        self._said.append(self._vocabulary.timestamps + min(FULL_FRAMES, round(frame)))
        self._spans.append(np.array([[max(0, frame - before), frame + after]], np.float32))

    def window(self, samples: Samples, phones: NDArray[np.int64]) -> Window:
        unknown = np.full((len(self._labels), 2), -1, np.float32)
        spans = np.concatenate([unknown, *self._spans, unknown[:1]])
        tokens = self._read + self._said
        labels = [*self._labels, *self._said, self._vocabulary.end]
        return Window(samples, tokens[:MAX_TOKENS], labels[:MAX_TOKENS], spans[:MAX_TOKENS], phones)


def _num_sentences(random: Random, kind: Kind, is_padded: bool) -> int:
    if kind == "short":
        return 1
    if kind == "medium":
        return random.randint(2, 6)
    if is_padded:
        return random.choice((1, 1, 2, 3))
    # half of them as many as there is room for
    return random.choice((random.randint(2, 12), MOST_SENTENCES))


def _lead_s(random: Random, count: int) -> float:
    """Seconds before the first word."""
    if random.random() < P_FIRST_SAMPLE:
        return 0.0
    return random.uniform(0, 8) if count > 1 and random.random() < 0.1 else random.uniform(0.02, 0.8)


def _mix(random: Random, placed: list[Placed], kind: Kind, is_padded: bool, p_disturb: float) -> Samples:
    """The window's samples: what is disturbed is what was recorded, and the padding behind it is pure zeros."""
    end = placed[-1].end + int(_tail_s(random) * SAMPLE_RATE)
    is_filled = kind == "full" and not is_padded and random.random() < 0.6
    length = FULL_SAMPLES if is_filled else min(_whole_frames(end), FULL_SAMPLES)
    samples = np.zeros(length, np.float32)
    for item in placed:
        samples[item.start : item.end] += item.samples[: length - item.start]
    if random.random() < p_disturb:
        samples = disturb(random, samples)
    return np.pad(samples, (0, FULL_SAMPLES - length)) if kind == "full" else samples


def _tail_s(random: Random) -> float:
    return random.uniform(0.02, 0.8) if random.random() < 0.9 else random.uniform(0.8, 6)


def _whole_frames(length: int) -> int:
    return -(-length // FRAME) * FRAME


def _faster(samples: Samples, speed: float) -> Samples:
    if speed == 1.0:
        return samples
    return np.asarray(soxr.resample(samples, SAMPLE_RATE * speed, SAMPLE_RATE), np.float32)
