"""The way of a window on a GPU that has no numbers: what lies on the wrong device, and where the host would wait."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from deployments.asr.engine import AsrEngineArgs, Timestamps
from deployments.asr.slots import Slots
from deployments.asr.steps import StaticStep
from deployments.asr.whisper import WhisperEngine
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioChunk
from pipelines.transcript_types import ChunkTranscript, DecodingOptions
from tests.support.fake_gpu import Watch, fake_gpu
from tests.support.whisper_checkpoints import FAMILIES
from tests.support.whisper_driving import chunk_of

LANGUAGE = DecodingOptions(language="en")
ALL_OPTIONS = [
    DecodingOptions(),
    DecodingOptions(language="en", temperature=0.5, seed=1),
    DecodingOptions(language="en", temperature=0.5, top_p=0.9, top_k=5, min_p=0.1, seed=2),
    DecodingOptions(language="en", frequency_penalty=0.5, presence_penalty=0.1, repetition_penalty=1.2),
    DecodingOptions(language="en", word_timestamps=True),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whisper")
    FAMILIES["turbo"](directory)
    return directory


def noise(length_s: float) -> AudioChunk:
    samples = np.random.default_rng(round(length_s)).normal(size=round(length_s * SAMPLE_RATE_HZ))
    return chunk_of(samples.astype(np.float32))


def boarded(
    checkpoint: Path, options: Sequence[DecodingOptions], timestamps: Timestamps = "attention"
) -> WhisperEngine:
    args = AsrEngineArgs(str(checkpoint), "cuda", timestamps=timestamps, cache_mb=16, cuda_graphs="off")
    engine = WhisperEngine(args)
    for number, one in enumerate(options):
        engine.add(str(number), noise(2.0 + number), one)
    assert engine.step() == []
    assert len(engine._batch.rows) == len(options)
    return engine


def test_what_a_fake_gpu_tells() -> None:
    def waits(watch: Watch) -> dict[str, int]:
        found = dict(watch.waits)
        watch.waits.clear()
        return found

    with fake_gpu() as watch:
        row = torch.zeros(4, device="cuda")
        assert waits(watch) == {}
        assert row.tolist() == [1.0] * 4
        assert waits(watch) == {"read": 1}
        assert [int(row[place]) for place in range(3)] == [1] * 3
        assert waits(watch) == {"read": 3}
        assert not row.cpu().is_cuda
        assert waits(watch) == {"fetch": 1}
        assert torch.tensor([1, 2], device="cuda").is_cuda
        assert row[[0, 1]].is_cuda
        assert waits(watch) == {"send": 2}
        with pytest.raises(RuntimeError, match="same device"):
            row + torch.zeros(4)
        with pytest.raises(Exception, match="nonzero"):
            row[row > 0]
        with torch.inference_mode():
            assert torch.zeros(4).to("cuda").is_cuda
        assert waits(watch) == {"send": 1}


@pytest.mark.parametrize("timestamps", ["attention", "tokens"])
@pytest.mark.parametrize("options", [[LANGUAGE], ALL_OPTIONS], ids=["greedy", "all options"])
def test_a_step_waits_once(checkpoint: Path, options: Sequence[DecodingOptions], timestamps: Timestamps) -> None:
    with fake_gpu() as watch:
        engine = boarded(checkpoint, options, timestamps)
        watch.waits.clear()
        for _ in range(3):
            assert engine.step() == []
            assert dict(watch.waits) == {"read": 1}
            watch.waits.clear()


def test_who_joins_waits_once_and_once_more_where_the_language_is_detected(checkpoint: Path) -> None:
    waits = []
    with fake_gpu() as watch:
        engine = boarded(checkpoint, [LANGUAGE])
        for options in (LANGUAGE, DecodingOptions()):
            engine._waiting, engine._ear.windows_at_once = [], 1
            watch.waits.clear()
            engine.add(str(options.language), noise(3.0), options)
            engine.step()
            waits.append(watch.waits.total() - 1)  # without the step's own
    assert waits == [1, 2]


def test_windows_end_and_are_tried_again(checkpoint: Path) -> None:
    """All that is read is 1, so that every answer is the same token without end."""
    answers = {}
    with fake_gpu():
        engine = boarded(checkpoint, [LANGUAGE, DecodingOptions(language="en", max_tokens=5)])
        for _ in range(400):
            answers.update((output.request_id, output.result) for output in engine.step())
            if len(answers) == 2:
                break
    assert sorted(answers) == ["0", "1"]
    assert all(isinstance(answer, ChunkTranscript) for answer in answers.values())


def test_scores_stay_on_the_gpu_until_words_are_timed(checkpoint: Path) -> None:
    with fake_gpu() as watch:
        engine = boarded(checkpoint, [LANGUAGE])
        watch.waits.clear()
        assert engine._batch.slots.scores(0, 0, 3).is_cuda
    assert not watch.waits


def test_windows_that_wait_are_encoded_together(checkpoint: Path) -> None:
    sizes: list[int] = []
    with fake_gpu():
        engine = boarded(checkpoint, [LANGUAGE])
        encode = engine._network.encode

        def counted(features: torch.Tensor) -> torch.Tensor:
            sizes.append(len(features))
            return encode(features)

        engine._network.encode = counted  # type: ignore[method-assign]
        for number in range(engine._ear.windows_at_once + 3):
            engine.add(f"more {number}", noise(3.0 + number), LANGUAGE)
        engine.step()
    assert sizes == [engine._ear.windows_at_once, 3]


def test_who_has_just_come_waits_a_moment_for_others_while_somebody_writes(checkpoint: Path) -> None:
    with fake_gpu():
        engine = boarded(checkpoint, [LANGUAGE])
        engine.add("new", noise(3.0), LANGUAGE)
        (new,) = engine._waiting
        new.added_at_s += 60.0  # for whatever this machine does meanwhile
        engine.step()
        assert new not in engine._batch.rows
        new.added_at_s -= 120.0
        engine.step()
        assert new in engine._batch.rows
        engine.abort("0")
        engine.abort("new")
        engine.add("alone", noise(4.0), LANGUAGE)
        engine._waiting[0].added_at_s += 60.0
        engine.step()
        assert [row.request_id for row in engine._batch.rows] == ["alone"]


@pytest.mark.parametrize("num_rows", [1, 8])
def test_a_graph_can_hold_all_of_a_step(checkpoint: Path, num_rows: int) -> None:
    """Nothing in it waits, and nothing comes from the host."""
    with fake_gpu() as watch:
        network = boarded(checkpoint, [LANGUAGE])._network
        slots = Slots(network.slot_shape, 8)
        static = StaticStep(network, slots, num_rows, 64)
        watch.waits.clear()
        with torch.inference_mode():
            static.fill([5], [3])
            logits = static.compute()
    assert logits.is_cuda
    assert logits.shape[0] == num_rows
    assert not watch.waits
