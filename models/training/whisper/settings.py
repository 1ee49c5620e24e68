"""Every knob of the Whisper recipe."""

import math
from dataclasses import dataclass, field, replace

from models.training.corpus.shared import Amount
from models.training.loop import Schedule


@dataclass(frozen=True, slots=True)
class Size:
    """The model's dimensions; the feed-forward layers are four times `width` wide."""

    width: int = 192
    encoder_layers: int = 4
    decoder_layers: int = 3
    heads: int = 4


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the batches by kind of window.

    short: one sentence. medium: two to six, as long as they take. full: 30 s, as at inference.
    """

    short: float
    medium: float
    full: float

    def towards(self, other: "Mix", fraction: float) -> tuple[float, float, float]:
        """The shares (short, medium, full) at `fraction` of the way from this mix to the other."""
        pairs = ((self.short, other.short), (self.medium, other.medium), (self.full, other.full))
        short, medium, full = (start + (end - start) * fraction for start, end in pairs)
        return short, medium, full


@dataclass(frozen=True, slots=True)
class Content:
    """What the windows hold and what is asked of them; `p_` are probabilities.

    Attributes:
        p_translate: a window in another language than English is to be translated.
        p_free: a window's sentences are random words instead of sentences of the grammar.
        p_timestamps: the timestamps are to be written.
        p_prompt: earlier text precedes the window.
        p_offset: a window shorter than 30 s lies anywhere in the encoder's positions, so that every timestamp is
            seen at the price of a short window.
        p_silent: nobody speaks.
        p_disturb: noise, reverberation, gain and channel are varied.
        p_speed: an utterance is played slower or faster (`windows.SPEEDS`), which makes another speaker of its voice.
        p_misread: a token of the text is another one where the decoder reads it, so that it trusts what it hears more
            than what it wrote (word dropout: Bowman et al. 2016, https://arxiv.org/abs/1511.06349).
    """

    p_translate: float
    p_free: float
    p_timestamps: float = 0.55
    p_prompt: float = 0.06
    p_offset: float = 0.4
    p_silent: float = 0.06
    p_disturb: float = 0.6
    p_speed: float = 0.6
    p_misread: float = 0.0


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the losses beside the text tokens' own, which is 1.

    frames: phone of each encoder frame. attention: guided cross-attention. timestamps: the timestamp tokens.
    """

    frames: float = 0.5
    attention: float = 1.0
    timestamps: float = 1.0


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the training, a run of its own.

    Attributes:
        share: its part of the whole time when the recipe is given minutes.
        start, end: the mix of windows at its beginning and end.
        copy_positions: before it, one attention head is made to copy where it looks (see position_head.py).
        encoder_learns: else only the decoder does.
        echoes: how often each batch is learned from, if the encoder does not learn: it hears each once.
    """

    name: str
    schedule: Schedule
    share: float
    start: Mix
    end: Mix
    content: Content
    weights: Weights = Weights()
    copy_positions: bool = False
    encoder_learns: bool = True
    echoes: int = 1

    def __post_init__(self) -> None:
        if self.encoder_learns and self.echoes > 1:
            raise ValueError("an encoder that learns hears each batch anew: echoes must be 1")


@dataclass(frozen=True, slots=True)
class WhisperSettings:
    """The recipe.

    Attributes:
        speech: what is synthesised to learn from and to validate with.
        text_tokens: size of the byte-level BPE vocabulary; `tokenizer_texts` sentences teach it.
        rare_phone: a phone seen less often than this is not asked of the encoder.
        batch_s: seconds of audio in one step.
        validate: utterances of each language in a validation.
    """

    stages: tuple[Stage, ...]
    size: Size = Size()
    speech: Amount = field(default_factory=Amount)
    text_tokens: int = 1024
    tokenizer_texts: int = 40_000
    rare_phone: int = 100
    batch_s: float = 60.0
    validate: int = 16
    seed: int = 0

    def with_minutes(self, minutes: float) -> "WhisperSettings":
        """The same recipe in a given time; its stages share it."""
        shares = sum(stage.share for stage in self.stages)
        return replace(self, stages=tuple(_limit(stage, minutes * stage.share / shares) for stage in self.stages))


def _limit(stage: Stage, minutes: float) -> Stage:
    return replace(stage, schedule=stage.schedule.within(minutes))


# Short windows come first because attention finds its place in them sooner; 30 s windows are what is asked for at
# inference and come last, where they cost three quarters of the time.
FULL = WhisperSettings(
    stages=(
        Stage(
            "align",
            Schedule(steps=6_000, learning_rate=1.2e-3, final_rate=0.7, warmup_steps=150),
            share=0.25,
            start=Mix(0.8, 0.2, 0.0),
            end=Mix(0.7, 0.25, 0.05),
            content=Content(p_translate=0.1, p_free=0.1, p_disturb=0.4),
            weights=Weights(attention=1.0),
        ),
        Stage(
            "read",
            Schedule(steps=9_000, learning_rate=9e-4, final_rate=0.5, warmup_steps=100),
            share=0.35,
            start=Mix(0.7, 0.25, 0.05),
            end=Mix(0.45, 0.25, 0.3),
            content=Content(p_translate=0.25, p_free=0.15),
            weights=Weights(attention=0.8, timestamps=1.5),
            copy_positions=True,
        ),
        Stage(
            "fill",
            Schedule(steps=10_000, learning_rate=4e-4, final_rate=0.01, warmup_steps=200),
            share=0.6,
            start=Mix(0.3, 0.6, 0.1),
            end=Mix(0.2, 0.45, 0.35),
            content=Content(p_translate=0.4, p_free=0.08, p_timestamps=0.85, p_offset=0.25, p_silent=0.08),
            weights=Weights(frames=0.4, attention=0.6, timestamps=1.2),
        ),
        Stage(
            "decode",
            Schedule(steps=12_000, learning_rate=5e-4, final_rate=0.01, warmup_steps=200),
            share=0.35,
            start=Mix(0.1, 0.25, 0.65),
            end=Mix(0.1, 0.15, 0.75),
            content=Content(
                p_translate=0.45, p_free=0.12, p_timestamps=0.85, p_offset=0.25, p_silent=0.06, p_misread=0.08
            ),
            weights=Weights(attention=0.6, timestamps=1.2),
            encoder_learns=False,
            echoes=3,
        ),
    )
)

SMOKE = replace(
    FULL,
    stages=tuple(
        replace(stage, schedule=replace(stage.schedule, steps=3, warmup_steps=1, save_every_s=math.inf))
        for stage in FULL.stages
    ),
    size=Size(width=32, encoder_layers=1, decoder_layers=2, heads=2),
    speech=Amount(utterances=60, held_out=16),
    text_tokens=512,
    tokenizer_texts=2_000,
    rare_phone=5,
    batch_s=30.0,
    validate=2,
)
