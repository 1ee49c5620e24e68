from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

import pytest

from pipelines.chat_types import ChatDelta, ChatUsage, ScoredToken, join_deltas
from pipelines.errors import ModelUnavailable
from pipelines.resuming import Resumer
from pipelines.transcript_types import Token


@dataclass(frozen=True)
class Answer:
    """`deltas` may hold its text back, so that tokens come before their characters."""

    text: str
    tokens: tuple[ScoredToken, ...]

    def deltas(self, random: Random) -> list[ChatDelta]:
        num_deltas = random.randint(1, 12)
        texts, tokens = places(len(self.text), num_deltas, random), places(len(self.tokens), num_deltas, random)
        return [
            ChatDelta(
                self.text[texts[i] : texts[i + 1]],
                ChatUsage(5, 0, tokens[i + 1]),
                self.tokens[tokens[i] : tokens[i + 1]],
                "stop" if i == num_deltas - 1 else None,
            )
            for i in range(num_deltas)
        ]


def places(length: int, num_pieces: int, random: Random) -> list[int]:
    """Borders of `num_pieces` pieces of any length, empty ones too."""
    return [0, *sorted(random.choices(range(length + 1), k=num_pieces - 1)), length]


def some_answer(random: Random, with_tokens: bool = True) -> Answer:
    text = "".join(random.choices("aab \n😀é中\u200d", k=random.choice([0, 1, 2, 10, 60])))
    num_tokens = random.choice([0, 1, 5, 40]) if with_tokens else 0
    return Answer(text, tuple(token(number) for number in range(num_tokens)))


def token(number: int) -> ScoredToken:
    return ScoredToken(Token(number, f"t{number}", -0.5))


def delta(text: str, num_tokens: int = 0, first: int = 0, is_last: bool = False) -> ChatDelta:
    tokens = tuple(token(first + number) for number in range(num_tokens))
    return ChatDelta(text, ChatUsage(5, 0, first + num_tokens), tokens, "stop" if is_last else None)


def pushed(resumer: Resumer, deltas: Iterable[ChatDelta]) -> list[ChatDelta]:
    return [news for one in deltas if (news := resumer.push(one)) is not None]


def text_of(deltas: Sequence[ChatDelta]) -> str:
    return "".join(one.text for one in deltas)


@pytest.mark.parametrize("seed", range(500))
def test_wherever_it_is_cut_off_everything_comes_once(seed: int) -> None:
    """Any number of replicas die, each with another way to cut the same answer into pieces."""
    random = Random(seed)
    answer, resumer = some_answer(random, with_tokens=seed % 3 > 0), Resumer()
    delivered: list[ChatDelta] = []
    for _ in range(random.randint(0, 4)):
        deltas = answer.deltas(random)
        delivered += pushed(resumer, deltas[: random.randint(0, len(deltas) - 1)])
        resumer.begin_anew()
    last = answer.deltas(random)
    delivered += pushed(resumer, last)
    whole = join_deltas(delivered)
    assert whole.text == answer.text
    assert whole.tokens == answer.tokens
    assert whole.finish_reason == "stop"
    assert [one.finish_reason for one in delivered].count("stop") == 1
    assert whole.usage == last[-1].usage


@pytest.mark.parametrize("seed", range(20))
def test_without_a_restart_nothing_is_changed(seed: int) -> None:
    random = Random(seed)
    deltas, resumer = some_answer(random).deltas(random), Resumer()
    assert pushed(resumer, deltas) == [one for one in deltas if one.text or one.tokens or one.finish_reason]


def test_what_was_delivered_is_not_delivered_again() -> None:
    resumer = Resumer()
    assert text_of(pushed(resumer, [delta("abc"), delta("def")])) == "abcdef"
    resumer.begin_anew()
    assert resumer.push(delta("ab")) is None
    assert resumer.push(delta("cde")) is None
    assert resumer.push(delta("fg")) == delta("g")
    assert resumer.push(delta("hi", is_last=True)) == delta("hi", is_last=True)


def test_a_restart_before_the_first_piece() -> None:
    resumer = Resumer()
    resumer.begin_anew()
    resumer.begin_anew()
    assert resumer.push(delta("abc", 2)) == delta("abc", 2)


def test_a_restart_while_the_last_one_catches_up() -> None:
    resumer = Resumer()
    pushed(resumer, [delta("abcdef", 6)])
    resumer.begin_anew()
    assert pushed(resumer, [delta("abc", 3)]) == []
    resumer.begin_anew()
    assert pushed(resumer, [delta("abc", 3), delta("defg", 4, 3)]) == [delta("g", 1, 6)]


def test_an_answer_that_was_cut_off_just_before_its_end() -> None:
    resumer = Resumer()
    pushed(resumer, [delta("abc", 3)])
    resumer.begin_anew()
    assert resumer.push(delta("abc", 3, is_last=True)) == ChatDelta("", ChatUsage(5, 0, 3), (), "stop")


def test_tokens_are_counted_apart_from_their_text() -> None:
    """Half a character, or what may become a stop text, is held back although its token is told."""
    resumer = Resumer()
    assert pushed(resumer, [delta("", 2), delta("a", 1, 2)]) == [delta("", 2), delta("a", 1, 2)]
    resumer.begin_anew()
    assert resumer.push(delta("ab", 2)) == ChatDelta("b", ChatUsage(5, 0, 2))
    assert resumer.push(delta("c", 2, 2)) == ChatDelta("c", ChatUsage(5, 0, 4), (token(3),))


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("first", range(1, 7))
def test_another_answer_is_refused(place: int, first: int) -> None:
    """At the first character that differs, however the answer is cut."""
    resumer = Resumer()
    pushed(resumer, [delta("abcdef")])
    resumer.begin_anew()
    other = "abcdef"[:place] + "X" + "abcdef"[place + 1 :]
    with pytest.raises(ModelUnavailable):
        pushed(resumer, [delta(other[:first]), delta(other[first:], is_last=True)])


def test_what_differs_behind_the_delivered_is_simply_the_answer() -> None:
    resumer = Resumer()
    pushed(resumer, [delta("abc")])
    resumer.begin_anew()
    assert text_of(pushed(resumer, [delta("abcXYZ", is_last=True)])) == "XYZ"


@pytest.mark.parametrize(
    "other",
    [
        [delta("ab", 6, is_last=True)],
        [delta("", is_last=True)],
        [delta("a", 2), delta("b", 2, 2), delta("", 2, 4, is_last=True)],
        [delta("abcdef", 4, is_last=True)],
    ],
    ids=["text", "nothing", "in pieces", "tokens"],
)
def test_an_answer_that_ends_before_the_delivered_is_another_answer(other: list[ChatDelta]) -> None:
    resumer = Resumer()
    pushed(resumer, [delta("abcdef", 6)])
    resumer.begin_anew()
    with pytest.raises(ModelUnavailable):
        pushed(resumer, other)
