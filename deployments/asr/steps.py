"""One token further for everybody aboard: kernel by kernel, or, on a GPU, from CUDA graphs.

A step of Whisper's decoder is hundreds of small kernels, and to launch each may take longer than it runs. A graph is
launched at once, but always does the same by the same memory (NVIDIA, "CUDA C++ Programming Guide", CUDA Graphs): so
there is one for each power of two of rows, and for each number of positions that are read.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deployments.asr.network import Step, WhisperNetwork, num_read
from deployments.asr.slots import Slots
from deployments.decoding.devices import put

logger = logging.getLogger("ray.serve")

MAX_ROWS = 64
"""In a graph; more are read kernel by kernel."""

MAX_DIFFERENCE = 0.02
"""Between a graph's logits and those of the plain step, as a share of the largest: float16 rounds to 0.001, and other
numbers of rows are added up in another order."""

Compute = Callable[[], Tensor]
Record = Callable[[Compute], Compute]
"""What does again, faster, what it was given; the result is the same tensor every time."""


class PlainStep:
    def __init__(self, network: WhisperNetwork, slots: Slots) -> None:
        self._network, self._slots = network, slots

    def __call__(self, tokens: Sequence[int]) -> Tensor:
        """
        Args:
            tokens: the last of each row aboard, by slot.

        Returns:
            float32 (rows, vocabulary), what may come next; the caller may change it, until the next step.
        """
        token_ids = put([[token] for token in tokens], self._network.device)
        hidden = self._network.read(token_ids, self._slots, slice(0, len(tokens)))
        return self._network.logits(hidden[:, -1])


class StaticStep:
    """A step of `num_rows` rows that reads its input from the same memory every time.

    Where fewer are aboard, free slots are read and written as well: nobody looks at what comes of it, and who takes
    such a slot finds it cleaned.
    """

    def __init__(self, network: WhisperNetwork, slots: Slots, num_rows: int, num_positions: int) -> None:
        self._network, self._slots = network, slots
        self._num_rows, self._num_positions = num_rows, num_positions
        self._inputs = torch.zeros(2, num_rows, 1, dtype=torch.int64, device=network.device)

    def fill(self, tokens: Sequence[int], lengths: Sequence[int]) -> None:
        """Of those aboard, `lengths` being what they have read."""
        padding = [0] * (self._num_rows - len(tokens))
        inputs = put([[*tokens, *padding], [*lengths, *padding]], self._network.device)
        self._inputs.copy_(inputs[..., None])

    def compute(self) -> Tensor:
        """float32 (num_rows, vocabulary)"""
        token_ids, places = self._inputs.unbind()
        step = Step(self._slots, slice(0, self._num_rows), places, self._num_positions, slice(None))
        hidden = self._network.read_step(token_ids, self._slots, step)
        return self._network.logits(hidden[:, -1])


class RecordedStep:
    """As `PlainStep`, from what was recorded at the first step of its kind, and held against the plain one then.

    Whatever goes wrong with that is logged once, and all steps are plain from then on.
    """

    def __init__(self, network: WhisperNetwork, slots: Slots, new_recorder: Callable[[], Record]) -> None:
        self._network, self._slots = network, slots
        self._plain = PlainStep(network, slots)
        self._new_recorder = new_recorder
        self.is_on = True
        self._forget()

    def __call__(self, tokens: Sequence[int]) -> Tensor:
        if self._num_growths != self._slots.num_growths:
            self._forget()  # there are more slots now, in other memory
        if not self.is_on or len(tokens) > MAX_ROWS or self._has_drafts(len(tokens)):
            return self._plain(tokens)
        rows = slice(0, len(tokens))
        lengths = self._slots.lengths[rows]
        kind = bucket(len(tokens), self._slots.num_slots), num_read(self._slots, max(lengths) + 1)
        if kind not in self._recorded:
            return self._first(kind, tokens, lengths)
        static, again = self._recorded[kind]
        static.fill(tokens, lengths)
        logits = again()[rows]
        self._slots.advance(rows, 1)
        return logits

    def _has_drafts(self, num_rows: int) -> bool:
        """Who have less to look at than others."""
        return min(self._slots.num_frames[:num_rows]) < self._slots.shape.num_frames

    def _forget(self) -> None:
        self._num_growths = self._slots.num_growths
        self._recorded: dict[tuple[int, int], tuple[StaticStep, Compute]] = {}
        self._record: Record | None = None

    def _first(self, kind: tuple[int, int], tokens: Sequence[int], lengths: Sequence[int]) -> Tensor:
        expected = self._plain(tokens)
        try:
            self._record = self._record or self._new_recorder()
            static = StaticStep(self._network, self._slots, *kind)
            static.fill(tokens, lengths)
            again = self._record(static.compute)
            _check(again()[: len(tokens)], expected)
            self._recorded[kind] = static, again
        except Exception as error:  # whatever a driver has to say: without graphs it goes on as well
            self.is_on = False
            self._forget()
            logger.warning("From here on without CUDA graphs, for one of %d rows failed: %s", kind[0], error)
        return expected


class GraphRecorder:
    """All graphs of one have their memory in common, and replay one after the other."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Compute) -> Compute:
        before, graph = torch.cuda.current_stream(self._device), torch.cuda.CUDAGraph()
        self._stream.wait_stream(before)
        # The outer context restores the stream where recording fails; other threads may copy meanwhile.
        with torch.cuda.stream(self._stream):
            compute()  # libraries allocate what they need at their first call, which cannot be recorded
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                result = compute()
        before.wait_stream(self._stream)

        def again() -> Tensor:
            graph.replay()
            return result

        return again


def bucket(num_rows: int, num_slots: int) -> int:
    """The next power of two, as far as there are slots."""
    return min(1 << (num_rows - 1).bit_length(), num_slots)


def _check(found: Tensor, expected: Tensor) -> None:
    """
    Raises:
        ArithmeticError: they are not the same.
    """
    found, expected = found.nan_to_num(), expected.nan_to_num()  # a row may be lost already, and fails alone then
    difference, largest = (found - expected).abs().amax(), expected.abs().amax()
    if not bool(difference <= MAX_DIFFERENCE * largest):
        raise ArithmeticError(f"its logits are {difference:.3g} off those of the plain step, of at most {largest:.3g}")
