"""What two decodings of the same speech agree on, the second of which has heard more of it.

Source: D. Macháček, R. Dabre, O. Bojar, "Turning Whisper into Real-Time Transcription System", 2023 (LocalAgreement-2).
"""

from collections.abc import Sequence

from pipelines.transcript_types import Token


def agreed_length(before: Sequence[Token], now: Sequence[Token], is_spaced: bool) -> int:
    """How many tokens of `now` are as they were `before`, and whole words.

    The last word that was heard does not count: it may not be over.

    Args:
        is_spaced: words are parted by spaces. Where they are not, every character counts as one.
    """
    length = 0
    while length < min(len(before), len(now)) and before[length].id == now[length].id:
        length += 1
    while length > 0 and not _begins_word(now, length, is_spaced):
        length -= 1
    return length


def text_of(tokens: Sequence[Token]) -> str:
    return b"".join(token.data for token in tokens).decode("utf-8", errors="replace")


def _begins_word(tokens: Sequence[Token], position: int, is_spaced: bool) -> bool:
    if position >= len(tokens):
        return False
    data = tokens[position].data
    return data.startswith(b" ") if is_spaced else not _is_inside_character(data)


def _is_inside_character(data: bytes) -> bool:
    """Whether the first byte goes on a character of UTF-8."""
    return bool(data) and data[0] & 0xC0 == 0x80
