"""Batches of the windows that Whisper learns from."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import WhisperTokenizer

from models.training.corpus.synthesis import build
from models.training.corpus.utterances import SAMPLE_RATE
from models.training.whisper.batches import Batch, Batches
from models.training.whisper.echoes import shuffled
from models.training.whisper.labels import FRAME, Labels, phone_set
from models.training.whisper.settings import FULL, Content, Mix, Stage
from models.training.whisper.tokenizer import Vocabulary
from models.training.whisper.windows import FULL_FRAMES, IGNORED, WindowMaker

CHECKPOINT = Path(__file__).parent.parent.parent / "models" / "whisper-embedded"
BATCH_S = 60.0

CLEAN = Content(
    p_translate=0, p_free=0, p_timestamps=1, p_prompt=0, p_offset=0, p_silent=0, p_disturb=0, p_speed=0
)  # fmt: skip


class BatchesOf:
    """Batches of one content and mix."""

    def __init__(self, maker: WindowMaker, vocabulary: Vocabulary) -> None:
        self._maker, self._vocabulary = maker, vocabulary

    def __call__(self, content: Content, mix: Mix) -> Iterator[Batch]:
        stage: Stage = replace(FULL.stages[0], start=mix, end=mix, content=content)
        return Batches(self._maker, self._vocabulary, stage, BATCH_S, lambda: 0.0)(seed=3)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.of(WhisperTokenizer.from_pretrained(CHECKPOINT))


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary) -> BatchesOf:
    corpus = build(tmp_path_factory.mktemp("corpus"), 60, seed=1)
    labels = Labels(WhisperTokenizer.from_pretrained(CHECKPOINT), phone_set(corpus, at_least=5))
    return BatchesOf(WindowMaker(corpus, labels, vocabulary), vocabulary)


def test_a_batch_holds_windows_of_like_length(batches: BatchesOf) -> None:
    for _, batch in zip(range(6), batches(CLEAN, Mix(1, 1, 1)), strict=False):
        count, num_frames = batch.phones.shape
        assert batch.mel.shape == (count, 80, 2 * num_frames)
        assert batch.tokens.shape == batch.labels.shape == batch.spans.shape[:2]
        assert batch.spans.shape[2] == 2
        assert num_frames <= FULL_FRAMES
        assert count == 1 or count * num_frames <= BATCH_S * SAMPLE_RATE // FRAME
        is_read = batch.labels != IGNORED
        assert is_read.any(1).all()
        assert torch.isfinite(batch.mel).all()


def test_offsets_shift_positions_and_timestamps_together(batches: BatchesOf, vocabulary: Vocabulary) -> None:
    for _, batch in zip(range(4), batches(replace(CLEAN, p_offset=1), Mix(0.5, 0.5, 0)), strict=False):
        assert (batch.offsets + batch.phones.shape[1] <= FULL_FRAMES).all()
        # two of them may be the same by chance
        assert len(set(batch.offsets.tolist())) > 0.8 * len(batch.offsets)
        for row, place in (batch.labels >= vocabulary.timestamps).nonzero().tolist():
            frame = int(batch.labels[row, place]) - vocabulary.timestamps - int(batch.offsets[row])
            first, last = batch.spans[row, place].tolist()
            # spans are counted from the window's first frame: from 1 before to 3 after a start, or the other way
            assert any(abs(last - frame - after) <= 0.51 for after in (1, 3)), (frame, first, last)
            if place + 1 < batch.tokens.shape[1]:
                assert batch.tokens[row, place + 1] in (batch.labels[row, place], vocabulary.end)


def test_echoes_come_as_often_as_asked_and_mixed() -> None:
    nothing = torch.zeros(1)
    drawn = (Batch(torch.tensor([number]), *[nothing] * 5) for number in range(1_000))
    heard: list[int] = []

    def hear(batch: Batch) -> Batch:
        heard.append(int(batch.mel))
        return replace(batch, encoded=batch.mel * 2)

    echoes = list(islice(shuffled(Random(1), drawn, hear, times=3, waiting=30), 2_000))
    counts = Counter(int(batch.mel) for batch in echoes)
    assert set(counts.values()) <= {1, 2, 3}
    assert all(counts[number] == 3 for number in range(400))
    assert all(torch.equal(batch.encoded, batch.mel * 2) for batch in echoes if batch.encoded is not None)
    assert heard == list(range(len(heard))), "each is heard once"
    order = [int(batch.mel) for batch in echoes]
    neighbours = sum(one == other for one, other in pairwise(order))
    assert neighbours < 0.1 * len(order)


def test_a_stage_that_teaches_the_encoder_hears_every_batch_anew() -> None:
    with pytest.raises(ValueError, match="echoes must be 1"):
        replace(FULL.stages[0], echoes=2)


def test_full_windows_start_at_the_first_position(batches: BatchesOf) -> None:
    batch = next(batches(replace(CLEAN, p_offset=1), Mix(0, 0, 1)))
    assert batch.phones.shape[1] == FULL_FRAMES
    assert batch.offsets.tolist() == [0] * len(batch.offsets)


def test_the_same_seed_gives_the_same_batches(batches: BatchesOf) -> None:
    content = replace(CLEAN, p_disturb=1, p_speed=0.5, p_silent=0.2)
    first, again = next(batches(content, Mix(1, 0, 0))), next(batches(content, Mix(1, 0, 0)))
    assert torch.equal(first.mel, again.mel)
    assert torch.equal(first.labels, again.labels)


def test_the_mix_moves_with_the_run() -> None:
    start, end = Mix(0.8, 0.2, 0.0), Mix(0.2, 0.2, 0.6)
    assert start.towards(end, 0.0) == (0.8, 0.2, 0.0)
    assert start.towards(end, 0.5) == pytest.approx((0.5, 0.2, 0.3))
    assert start.towards(end, 1.0) == pytest.approx((0.2, 0.2, 0.6))
