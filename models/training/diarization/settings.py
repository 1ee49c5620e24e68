"""Every knob of the diarization recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from models.training.diarization.channel import Channels
from models.training.loop import Schedule

MANY_CHANNELS = Channels(p_response=0.7, response=0.8, p_telephone=0.15)
FEW_CHANNELS = Channels(p_response=0.25, response=0.5, p_telephone=0.05)


@dataclass(frozen=True, slots=True)
class Clustering:
    """What the clustering of the pipeline may be set to; `tuning.py` tries every combination.

    threshold: cosine distance at which the first pass stops. merge, noise: of `CentroidMergeClustering`.
    """

    threshold: tuple[float, ...] = (0.6, 0.7)
    merge: tuple[float, ...] = (0.5, 0.54, 0.58, 0.62, 0.66, 0.7)
    noise: tuple[float, ...] = (0.6, 0.8)


@dataclass(frozen=True, slots=True)
class Settings:
    """How much there is to hear, and how it is learned.

    Attributes:
        synthetic_utterances: for each of espeak-ng's variants.
        max_variants: the most of them that are used.
        reader_utterances: the most for each LibriSpeech reader; they are about 13 s long.
        max_readers: the most of them that are used.
        shares: how often each kind of voices is heard; kinds that there are none of do not count.
        pitches: each utterance of a reader is also heard at these, relative to its own, and is the same speaker then.
        speeds: every voice is played at each of these, and is another speaker then.
        kept_back: one voice in so many is not trained on; it measures progress and sets the clustering.
        backgrounds: noises of 10 s that are made in advance.
        embedding, segmentation: schedules of the two networks.
        channels: what the recordings come through.
        last_channels: what they come through in the last part, `last_part`, of the embedding's training. Where every
            voice has a microphone of its own, that tells voices apart, too; among many channels the embedding learns
            to ignore it.
        embedding_batch: windows in a batch. embedding_window_s: their shortest and longest duration.
        margin, scale: of the additive angular margin loss (ArcFace), the margin in radians. It grows from 0 between
            the two fractions `margin_between` of the training.
        segmentation_batch: chunks of 10 s in a batch.
        silence_weight, overlap_weight: of frames without and with several speakers, one speaker's being 1. The pipeline
            asks nearly all of the chunks that hear a frame to agree about more speakers, so those are worth more.
        embedding_share: the embedding's part of the time when the recipe is given minutes.
        tuning_conversations: of voices that were kept back, to set the clustering by. Sets of 24 did not agree.
    """

    embedding: Schedule
    segmentation: Schedule
    synthetic_utterances: int = 10
    max_variants: int = 100
    reader_utterances: int = 4
    max_readers: int = 10_000
    shares: Mapping[str, float] = field(default_factory=lambda: {"readers": 0.7, "synthetic": 0.19, "meetings": 0.11})
    pitches: tuple[float, ...] = (0.9, 1.14)
    speeds: tuple[float, ...] = (0.88, 1.0, 1.13)
    kept_back: int = 8
    backgrounds: int = 64
    channels: Channels = MANY_CHANNELS
    last_channels: Channels = FEW_CHANNELS
    last_part: float = 0.26
    embedding_batch: int = 96
    embedding_window_s: tuple[float, float] = (1.5, 3.0)
    margin: float = 0.2
    scale: float = 28.0
    margin_between: tuple[float, float] = (0.15, 0.45)
    segmentation_batch: int = 24
    silence_weight: float = 0.8
    overlap_weight: float = 1.5
    embedding_share: float = 0.5
    tuning_conversations: int = 96
    clustering: Clustering = Clustering()

    def with_minutes(self, minutes: float) -> "Settings":
        """The same recipe in a given time, which the two networks share."""
        first = self.embedding.within(minutes * self.embedding_share)
        second = self.segmentation.within(minutes * (1 - self.embedding_share))
        return replace(self, embedding=first, segmentation=second)


FULL = Settings(
    # few steps: with more it learned the training voices by heart
    embedding=Schedule(
        steps=1_900,
        learning_rate=3e-3,
        final_rate=0.05,
        weight_decay=0.02,
        clip=5.0,
        save_every_s=300,
    ),
    segmentation=Schedule(steps=2_400, learning_rate=2.5e-3, weight_decay=0.01, average_over=100, save_every_s=300),
)
"""A little more than an hour on one CPU core."""

SMOKE = Settings(
    embedding=Schedule(steps=12, learning_rate=3e-3, warmup_steps=4, average_over=4, clip=5.0),
    segmentation=Schedule(steps=8, learning_rate=2.5e-3, warmup_steps=4, average_over=4),
    synthetic_utterances=3,
    max_variants=8,
    reader_utterances=1,
    max_readers=8,
    pitches=(1.1,),
    speeds=(1.0,),
    kept_back=3,
    backgrounds=4,
    embedding_batch=16,
    segmentation_batch=4,
    tuning_conversations=2,
    clustering=Clustering(threshold=(0.65,), merge=(0.54, 0.62), noise=(0.6,)),
)
"""Shows that everything runs; what comes out knows nothing."""
