"""The rows that are read and written together, and their slots: both change at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from deployments.chat.row import Row
from deployments.chat.slots import POSITIONS_AT_ONCE, Slots


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step reads of a row: its tokens from `first` to `last`."""

    row: Row
    first: int
    last: int

    @classmethod
    def next(cls, row: Row, room: int) -> "Piece | None":
        """At most `room` tokens of what is still to be read, cut where a block ends; None where no block fits in.

        A prompt with audio is read whole, for its features belong to all of it.
        """
        first = row.num_read
        if row.prompt.has_audio and not first:
            return cls(row, 0, len(row.read))
        last = row.num_tokens
        if last - first > room:
            last = (first + room) // POSITIONS_AT_ONCE * POSITIONS_AT_ONCE
        return cls(row, first, last) if last > first else None

    @property
    def num_tokens(self) -> int:
        return self.last - self.first

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to be read behind it."""
        return self.last == self.row.num_tokens

    @property
    def is_heard(self) -> bool:
        return self.row.prompt.has_audio and not self.first


def parted(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Piece]]:
    """Of rows that write, and of those that are read."""
    writing = [piece for piece in pieces if not piece.row.is_reading]
    return writing, [piece for piece in pieces if piece.row.is_reading]


class Batch:
    """A row's place is its slot. Those that write come first, behind them those that are read: between two steps at
    most one, whose prompt is longer than a step."""

    def __init__(self, max_tokens: int, max_tokens_of_all: int | None = None) -> None:
        """
        Args:
            max_tokens: of a row, prompt and answer together.
            max_tokens_of_all: for which there is memory; None where nothing bounds it.
        """
        self.rows: list[Row] = []
        self.slots = Slots(in_blocks(max_tokens), max_tokens_of_all)

    @property
    def writing(self) -> list[Row]:
        return [row for row in self.rows if not row.is_reading]

    @property
    def reading(self) -> list[Row]:
        return [row for row in self.rows if row.is_reading]

    def has_room(self, row: Row) -> bool:
        """Whether there is memory for it, also when it and all others have what is reserved for them."""
        return self.slots.has_room(*_room_of([*self.rows, row]))

    def prolong(self, row: Row) -> bool:
        """Reserve another block for a row aboard; False where there is no memory for it."""
        row.reserve(POSITIONS_AT_ONCE)
        room = _room_of(self.rows)
        if not self.slots.has_room(*room):
            return False
        self.slots.reserved = room
        return True

    def board(self, row: Row, passes: bool = False) -> None:
        """`passes`: who is half read will still be so when this row is read. Where memory is lacking for that, nothing
        has changed."""
        reserved = _room_of([*self.rows, row])
        place = self._place() if passes else len(self.rows)
        self.slots.reserved = reserved
        self.slots.clean(place)
        self.rows.insert(place, row)

    def fork(self, row: Row, twin: Row) -> None:
        """Take a row aboard whose prompt its twin has read. Where memory is lacking, nothing has changed."""
        self.slots.reserved = _room_of([*self.rows, row])
        place = self._place()
        self.slots.copy(self.rows.index(twin), place, len(twin.read))
        row.num_read, row.positions, row.first_logits = len(twin.read), twin.positions, twin.first_logits
        self.rows.insert(place, row)

    def leave(self, row: Row) -> None:
        slot, last = self.rows.index(row), len(self.writing) - 1
        if slot < last:
            self._move(last, slot)
            slot = last
        for behind in range(slot + 1, len(self.rows)):
            self._move(behind, behind - 1)
        self.rows.pop()
        self.slots.reserved = _room_of(self.rows)
        if not self.rows:
            self.slots.clear()

    def twin(self, row: Row) -> Row | None:
        """A row aboard that has the same prompt, and knows or will know what comes behind it."""
        alike = (other for other in self.rows if other.prompt.is_like(row.prompt))
        return next((other for other in alike if other.first_logits is not None or not other.written), None)

    def _place(self) -> int:
        """The next slot; who is half read makes room, so that it stays behind those that write."""
        last = len(self.rows) - 1
        if last < 0 or not self.rows[last].is_half_read:
            return last + 1
        self.slots.copy(last, last + 1, self.rows[last].num_read)
        return last

    def _move(self, source: int, target: int) -> None:
        row = self.rows[source]
        self.slots.copy(source, target, row.num_read)
        self.rows[target] = row


def _room_of(rows: Sequence[Row]) -> tuple[int, int]:
    """Slots, and how long the longest will be."""
    return len(rows), max((in_blocks(row.reserved) for row in rows), default=0)


def in_blocks(num_tokens: int) -> int:
    return ceil(num_tokens / POSITIONS_AT_ONCE) * POSITIONS_AT_ONCE
