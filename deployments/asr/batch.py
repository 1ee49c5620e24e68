"""Rows that are decoded together, each in a slot of its own: told what comes first, then a token further at a time."""

from collections.abc import Iterable, Sequence
from functools import partial

from torch import Tensor

from deployments.asr.network import WhisperNetwork
from deployments.asr.row import Row
from deployments.asr.sampling import TokenChooser
from deployments.asr.slots import Slots
from deployments.asr.steps import GraphRecorder, PlainStep, RecordedStep
from deployments.asr.vocabulary import Vocabulary
from deployments.decoding.devices import put
from deployments.decoding.memory import Budget

NUM_SLOTS = 8
"""To begin with; more are made when more rows come aboard."""


class Batch:
    """`rows` are in the order of `slots`; `max_rows` is how many there is memory for, None where nothing bounds it."""

    def __init__(
        self, network: WhisperNetwork, vocabulary: Vocabulary, num_tokens: int, budget: Budget | None, has_graphs: bool
    ) -> None:
        """
        Args:
            num_tokens: that the model chooses from.
            has_graphs: steps are recorded as CUDA graphs.
        """
        self._network = network
        self._vocabulary = vocabulary
        self._num_tokens = num_tokens
        self.row_bytes = network.slot_shape.num_bytes
        self.max_rows = None if budget is None else budget.num_growing_rows(self.row_bytes, "a row", NUM_SLOTS)
        self.slots = Slots(network.slot_shape, min(NUM_SLOTS, self.max_rows or NUM_SLOTS), self.max_rows)
        self.rows: list[Row] = []
        recorder = partial(GraphRecorder, network.device)
        self._step = RecordedStep(network, self.slots, recorder) if has_graphs else PlainStep(network, self.slots)
        self._chooser: TokenChooser | None = None
        """Of those aboard; none after they have changed."""

    def take(self, rows: Sequence[Row], encoded: Tensor) -> slice:
        """
        Args:
            encoded: (rows, frames, width), what they look at.
        """
        slots = self.slots.take(len(rows))
        self.rows += rows
        self._chooser = None
        self._network.listen(encoded, self.slots, slots)
        return slots

    def leave(self, rows: Iterable[Row]) -> None:
        """Those of them who are aboard."""
        for row in [row for row in rows if row in self.rows]:
            slot = self.rows.index(row)
            last = self.slots.give_back(slot)
            self.rows[slot] = self.rows[last]
            self.rows.pop()
            self._chooser = None

    def begin(self, slots: slice) -> None:
        """What the decoder is told before it writes, and its first word. It is told as much of all of these rows."""
        rows = self.rows[slots]
        for row in rows:
            assert row.heard is not None
            row.prefix = self._vocabulary.prefix(row.options, row.heard.language, row.is_timed)
        told = [[*row.prefix, *row.attempt.tokens] for row in rows]
        hidden = self._network.read(put(told, self._network.device), self.slots, slots)
        start = rows[0].prefix.index(self._vocabulary.start_of_transcript)
        probabilities = self._network.logits(hidden[:, start]).softmax(dim=-1)[:, self._vocabulary.no_speech]
        self._choose(rows, self._new_chooser(rows), self._network.logits(hidden[:, -1]))
        for row, probability in zip(rows, probabilities.tolist(), strict=True):
            row.no_speech_prob = probability

    def begin_again(self, row: Row) -> None:
        """With another attempt at the same window."""
        self.begin(self._rewound(row))
        self._chooser = None

    def go_on(self) -> None:
        """One token for everybody."""
        logits = self._step([row.attempt.tokens[-1] for row in self.rows])
        if self._chooser is None:
            self._chooser = self._new_chooser(self.rows)
        self._choose(self.rows, self._chooser, logits)

    def scores(self, row: Row, is_in_slot: bool) -> Tensor:
        """How much each token looked at each frame (`Slots.scores`).

        Args:
            is_in_slot: the row's attempt is the last that was written, so nothing has to be read again.
        """
        if not is_in_slot:
            token_ids = put([[*row.prefix, *row.attempt.tokens]], self._network.device)
            self._network.read(token_ids, self.slots, self._rewound(row))
        slot = self.rows.index(row)
        return self.slots.scores(slot, len(row.prefix) - 1, self.slots.lengths[slot])

    def _rewound(self, row: Row) -> slice:
        slot = self.rows.index(row)
        slots = slice(slot, slot + 1)
        self.slots.rewind(slots)
        return slots

    def _new_chooser(self, rows: Sequence[Row]) -> TokenChooser:
        return TokenChooser(self._vocabulary, [row.choice for row in rows], self._num_tokens, self._network.device)

    def _choose(self, rows: Sequence[Row], chooser: TokenChooser, logits: Tensor) -> None:
        tokens, logprobs = chooser.choose(logits)
        for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
            row.attempt.tokens.append(token)
            row.attempt.logprobs.append(logprob)
