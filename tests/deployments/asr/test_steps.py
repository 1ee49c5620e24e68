"""Steps that are recorded: on a CPU what is recorded is done again, on a GPU a CUDA graph does it."""

import logging
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import WhisperForConditionalGeneration

from deployments.asr.alignment import alignment_heads
from deployments.asr.network import POSITIONS_AT_ONCE, WhisperNetwork
from deployments.asr.slots import Slots
from deployments.asr.steps import Compute, GraphRecorder, PlainStep, Record, RecordedStep, StaticStep, bucket
from deployments.decoding.devices import Precision
from tests.support.whisper_checkpoints import FAMILIES

NUM_SLOTS = 4


def network_on(device: str, dtype: torch.dtype, directory: Path) -> WhisperNetwork:
    FAMILIES["turbo"](directory)
    model = WhisperForConditionalGeneration.from_pretrained(directory, dtype=dtype).eval().to(device)  # type: ignore[arg-type]
    return WhisperNetwork(model, Precision(dtype, dtype), alignment_heads(model))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> WhisperNetwork:
    return network_on("cpu", torch.float32, tmp_path_factory.mktemp("whisper"))


@torch.inference_mode()
def boarded(network: WhisperNetwork, num_rows: int) -> Slots:
    """Rows that have heard something, and read each a token more than the one before."""
    slots = Slots(network.slot_shape, NUM_SLOTS)
    shape, generator = network.slot_shape, torch.Generator().manual_seed(0)
    heard = torch.randn(num_rows, shape.num_frames, shape.num_heads * shape.head_width, generator=generator)
    network.listen(heard.to(network.device, shape.dtype), slots, slots.take(num_rows))
    for row in range(num_rows):
        token_ids = torch.arange(100, 103 + row, device=network.device)[None]
        network.read(token_ids, slots, slice(row, row + 1))
    return slots


class Recorder:
    """Does again what it was given, and counts how often it was asked to record and to do it."""

    def __init__(self) -> None:
        self.num_made = self.num_recorded = self.num_again = 0

    def __call__(self) -> Record:
        self.num_made += 1
        return self._record

    def _record(self, compute: Compute) -> Compute:
        self.num_recorded += 1

        def again() -> Tensor:
            self.num_again += 1
            return compute()

        return again


def close(found: Tensor, expected: Tensor, share: float = 1e-4) -> bool:
    return bool((found - expected).abs().max() <= share * expected.abs().max())


def test_buckets_are_powers_of_two_as_far_as_there_are_slots() -> None:
    assert [bucket(rows, 64) for rows in (1, 2, 3, 4, 5, 8, 9, 33, 64)] == [1, 2, 4, 4, 8, 8, 16, 64, 64]
    assert [bucket(rows, 20) for rows in (16, 17, 20)] == [16, 20, 20]


@torch.inference_mode()
def test_a_padded_step_is_a_plain_one(network: WhisperNetwork) -> None:
    tokens = [7, 400, 90]
    plain, padded = boarded(network, 3), boarded(network, 3)
    expected = PlainStep(network, plain)(tokens)
    static = StaticStep(network, padded, NUM_SLOTS, POSITIONS_AT_ONCE)
    static.fill(tokens, padded.lengths)
    found = static.compute()
    assert found.shape == (NUM_SLOTS, expected.shape[1])
    assert close(found[:3], expected)
    for mine, theirs in zip(padded.layers, plain.layers, strict=True):
        for one, other in zip(mine.tensors(), theirs.tensors(), strict=True):
            assert torch.allclose(one[:3], other[:3], atol=1e-4)


@torch.inference_mode()
def test_a_full_step_is_the_plain_one_to_the_last_bit(network: WhisperNetwork) -> None:
    tokens = [7, 400, 90, 12]
    slots = boarded(network, 4)
    static = StaticStep(network, slots, NUM_SLOTS, POSITIONS_AT_ONCE)
    static.fill(tokens, slots.lengths)
    assert torch.equal(static.compute(), PlainStep(network, slots)(tokens))


@torch.inference_mode()
def test_rows_that_come_and_go_get_what_plain_steps_give(network: WhisperNetwork) -> None:
    recorder = Recorder()
    plain_slots, slots = boarded(network, 3), boarded(network, 3)
    plain, recorded = PlainStep(network, plain_slots), RecordedStep(network, slots, recorder)
    for tokens in ([5, 6, 7], [8, 9, 10], [11, 12, 13]):
        assert close(recorded(tokens), plain(tokens))
    for mine in (plain_slots, slots):
        mine.give_back(0)
    for tokens in ([20, 21], [22, 23]):
        assert close(recorded(tokens), plain(tokens))
    assert slots.lengths == plain_slots.lengths == [5 + 3 + 2, 4 + 3 + 2]
    assert (recorder.num_made, recorder.num_recorded, recorder.num_again) == (1, 2, 2 + 3)


@torch.inference_mode()
def test_a_row_that_grows_beyond_what_is_read_has_another_record(network: WhisperNetwork) -> None:
    recorder = Recorder()
    plain_slots, slots = boarded(network, 1), boarded(network, 1)
    plain, recorded = PlainStep(network, plain_slots), RecordedStep(network, slots, recorder)
    for token in range(200, 200 + POSITIONS_AT_ONCE):
        assert close(recorded([token]), plain([token]))
    assert recorder.num_recorded == 2


@torch.inference_mode()
def test_more_slots_are_in_other_memory_and_recorded_anew(network: WhisperNetwork) -> None:
    recorder = Recorder()
    plain_slots, slots = boarded(network, 2), boarded(network, 2)
    plain, recorded = PlainStep(network, plain_slots), RecordedStep(network, slots, recorder)
    assert close(recorded([5, 6]), plain([5, 6]))
    for mine in (plain_slots, slots):
        mine.take(NUM_SLOTS)
        del mine.lengths[2:]
    assert close(recorded([7, 8]), plain([7, 8]))
    assert close(recorded([9, 10]), plain([9, 10]))
    assert (recorder.num_made, recorder.num_recorded) == (2, 2)


def refuses() -> Record:
    raise RuntimeError("operation not permitted when stream is capturing")


def mistakes() -> Record:
    def record(compute: Compute) -> Compute:
        return lambda: compute().flip(0)

    return record


@pytest.mark.parametrize("new_recorder", [refuses, mistakes])
@torch.inference_mode()
def test_what_cannot_be_recorded_or_is_not_the_same_is_plain_from_then_on(
    network: WhisperNetwork, new_recorder: Callable[[], Record], caplog: pytest.LogCaptureFixture
) -> None:
    plain_slots, slots = boarded(network, 2), boarded(network, 2)
    plain, recorded = PlainStep(network, plain_slots), RecordedStep(network, slots, new_recorder)
    with caplog.at_level(logging.WARNING, "ray.serve"):
        for tokens in ([5, 6], [7, 8], [9, 10]):
            assert torch.equal(recorded(tokens), plain(tokens))
    (told,) = caplog.messages
    assert told.startswith("From here on without CUDA graphs, for one of 2 rows failed: ")


@torch.inference_mode()
def test_the_memory_of_fewer_slots_is_let_go_at_once(network: WhisperNetwork) -> None:
    slots = boarded(network, 2)
    recorded = RecordedStep(network, slots, refuses)
    recorded([5, 6])
    old = weakref.ref(slots.layers[0].keys)
    slots.take(NUM_SLOTS)
    assert old() is None, "or several growths before the next step would keep as many memories"


@torch.inference_mode()
def test_a_row_that_is_lost_already_does_not_end_recording(network: WhisperNetwork) -> None:
    recorder = Recorder()
    slots = boarded(network, 2)
    slots.layers[0].audio_keys[0] = torch.nan
    recorded = RecordedStep(network, slots, recorder)
    assert not recorded([5, 6])[0].isfinite().any()
    assert recorded([7, 8])[1].isfinite().all()
    assert (recorder.num_recorded, recorder.num_again) == (1, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@torch.inference_mode()
def test_cuda_graphs_are_plain_steps(dtype: torch.dtype, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = network_on("cuda", dtype, tmp_path)
    plain_slots, slots = boarded(network, 3), boarded(network, 3)
    plain = PlainStep(network, plain_slots)
    recorded = RecordedStep(network, slots, lambda: GraphRecorder(network.device))
    for token in range(200, 300):
        tokens = [token, token + 1, token + 2]
        assert close(recorded(tokens), plain(tokens), 0.02)
    assert not caplog.messages
