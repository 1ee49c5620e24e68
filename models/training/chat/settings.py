"""Every knob of the chat recipe, in one place."""

from dataclasses import dataclass, field

from models.training.corpus.shared import Amount
from models.training.loop import Schedule


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Sizes of the language model; those of the encoder are the Whisper checkpoint's.

    Attributes:
        vocabulary: byte-level BPE tokens, the special tokens not counted.
        hidden: width of the language model.
        feed_forward: width inside its gated feed-forward layers.
        positions: longest dialogue in tokens; one second of audio is 25 of them.
    """

    vocabulary: int = 2048
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 768
    positions: int = 2048


@dataclass(frozen=True, slots=True)
class Mix:
    """What the dialogues are about.

    Attributes:
        text_only: share of the dialogues without audio. They are short: at 0.6 they fill about a third of the batches.
        repairs: share of those that repair names, and `written` of those that ask about a written sentence; the others
            are small talk.
        no_speech: share of the recordings with silence, noise or music only.
        free_words: share of the spoken recordings with word sequences outside of the grammar.
        numbers: share of the others that begin with a number's sentence; in the grammar a quarter are such, and a
            hundred numbers in four languages are the most that there is to learn.
        disturbed: share of the spoken recordings with noise, reverberation and another gain.
        utterances: weights of one, two and three utterances in a recording.
        questions: weights of one, two, ... questions about a recording.
        longest_s: longest recording in seconds.
        easy_until: fraction of the run in which the share of easy dialogues (one grammar sentence, to be
            transcribed first) falls from one to none.
    """

    text_only: float = 0.6
    repairs: float = 0.5
    written: float = 0.42
    no_speech: float = 0.08
    free_words: float = 0.15
    numbers: float = 0.5
    disturbed: float = 0.5
    utterances: tuple[float, ...] = (0.75, 0.17, 0.08)
    questions: tuple[float, ...] = (0.35, 0.35, 0.2, 0.1)
    longest_s: float = 12.0
    easy_until: float = 0.3


@dataclass(frozen=True, slots=True)
class Guidance:
    """The training signals beside the answers. Spoken times are known, and without them a model this small finds
    the alignment late or never.

    Attributes:
        heads: (layer, head) of the language model that are to look where a word is spoken, or copied from.
        attention: weight of the guided heads' loss at the start.
        heard: weight of the loss of naming each token right where it has been spoken, at the start.
        remains: share of both weights at the end of the run.
        lag_s: how long after a word's end its guided span goes on: audio positions know only what came before them
            in the language model.
    """

    heads: tuple[tuple[int, int], ...] = ((1, 0), (2, 0))
    attention: float = 1.0
    heard: float = 0.5
    remains: float = 0.1
    lag_s: float = 0.12


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """One run of the chat recipe.

    Attributes:
        speech: what is synthesised to learn from and to measure with.
        positions_per_batch: tokens of one step, about; one second of audio is 25 tokens.
        dialogues_sorted: dialogues drawn at once and sorted by length, so that batches need little padding.
        encoder_frozen_until: fraction of the run in which the encoder only listens; after it, it learns too.
        measured: evaluated dialogues for each task while training; the card's evaluation takes its own number.
        seed: of everything random.
    """

    schedule: Schedule
    size: ModelSize = field(default_factory=ModelSize)
    mix: Mix = field(default_factory=Mix)
    guidance: Guidance = field(default_factory=Guidance)
    speech: Amount = field(default_factory=Amount)
    positions_per_batch: int = 2_000
    dialogues_sorted: int = 192
    encoder_frozen_until: float = 1.0
    measured: int = 8
    seed: int = 1


FULL = ChatSettings(Schedule(steps=10_000, learning_rate=1.5e-3, warmup_steps=200, average_over=200))

SMOKE = ChatSettings(
    Schedule(steps=4, learning_rate=1e-3, warmup_steps=1, average_over=2),
    size=ModelSize(vocabulary=512, hidden=64, layers=3, heads=2, feed_forward=128),
    speech=Amount(utterances=60, held_out=16),
    positions_per_batch=1_000,
    dialogues_sorted=16,
    measured=1,
)
