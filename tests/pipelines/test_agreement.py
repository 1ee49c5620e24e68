import pytest

from pipelines.agreement import agreed_length, text_of
from pipelines.transcript_types import Token


def tokens(*texts: str | bytes) -> list[Token]:
    pieces = [text.encode() if isinstance(text, str) else text for text in texts]
    return [Token(hash(data) % 10_000, data.decode(errors="replace"), -0.1, data) for data in pieces]


@pytest.mark.parametrize(
    ("before", "now", "agreed"),
    [
        ([], [" one", " two"], 0),
        ([" one"], [" one"], 0),  # it may go on: "ones"
        ([" one"], [" one", " two"], 1),
        ([" one", " tw"], [" one", " tw", "elve", " three"], 1),
        ([" one", " tw", "elve"], [" one", " tw", "elve", " three"], 3),
        ([" one", "."], [" one", " two"], 1),
        ([" one", ".", " Two"], [" one", ".", " Two", "-fold", " three"], 2),
        ([" one", " two", " three"], [" won", " two", " three"], 0),
        ([" one", " two", " three"], [" one", " too", " three"], 1),
    ],
)
def test_whole_words_that_both_have(before: list[str], now: list[str], agreed: int) -> None:
    assert agreed_length(tokens(*before), tokens(*now), is_spaced=True) == agreed


def test_without_spaces_every_character_counts() -> None:
    now = tokens("今", "日", "は".encode()[:2], "は".encode()[2:], "雨")
    assert [agreed_length(now[:n], now, is_spaced=False) for n in range(6)] == [0, 1, 2, 2, 4, 4]


def test_text_of_half_a_character() -> None:
    assert text_of(tokens(" gr", "ü".encode()[:1], "ü".encode()[1:], "n")) == " grün"
