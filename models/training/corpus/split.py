"""Which sentences are kept for evaluation. The hash of a text decides, so no list has to be kept."""

import zlib
from collections.abc import Iterable

HELD_OUT_SHARE = 20  # one text in so many
SHORTEST_HELD_OUT = 4  # words; "Good morning." may be known


def is_held_out(texts: Iterable[str]) -> bool:
    """True if any of the texts is kept for evaluation: pass all translations, and none of them is trained on."""
    return any(_is_held_out(text) for text in texts)


def _is_held_out(text: str) -> bool:
    return len(text.split()) >= SHORTEST_HELD_OUT and zlib.crc32(text.encode()) % HELD_OUT_SHARE == 0
