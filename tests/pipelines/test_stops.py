from random import Random

import pytest

from pipelines.stops import StopTexts


def shown(pieces: list[str], *stops: str) -> tuple[list[str], bool]:
    """What comes out for each piece and at the end, and whether a stop text was found."""
    stop_texts = StopTexts(stops)
    return [*(stop_texts.push(piece) for piece in pieces), stop_texts.finish()], stop_texts.is_found


def test_without_stop_texts_everything_passes_at_once() -> None:
    assert shown(["a", "", "bc"]) == (["a", "", "bc", ""], False)


def test_text_ends_before_a_stop_text() -> None:
    """CHT-12"""
    assert shown(["one. two. three."], "two") == (["one. ", ""], True)


def test_a_stop_text_may_come_in_pieces() -> None:
    """CHT-12"""
    assert shown(["one EN", "D two"], "END") == (["one ", "", ""], True)
    assert shown(list("xENDy"), "END") == (["x", "", "", "", "", ""], True)


def test_nothing_comes_behind_a_stop_text() -> None:
    """CHT-12"""
    assert shown(["aSTOPb", "c", "STOP", "d"], "STOP") == (["a", "", "", "", ""], True)


def test_what_was_held_back_and_is_none_comes_out() -> None:
    """CHT-12"""
    assert shown(["one EN", "Gland"], "END") == (["one ", "ENGland", ""], False)
    assert shown(["one EN"], "END") == (["one ", "EN"], False)


def test_a_false_start_may_hold_the_true_one() -> None:
    """CHT-12"""
    assert shown(["aa", "ab"], "aab") == (["", "a", ""], True)
    assert shown(list("ababac"), "abac") == (["", "", "", "ab", "", "", ""], True)


def test_only_as_much_is_held_back_as_a_stop_text_might_begin_with() -> None:
    assert shown(["xxab"], "abc", "b!") == (["xx", "ab"], False)
    assert shown(["xxb"], "abc", "b!") == (["xx", "b"], False)
    assert shown(["xxa!"], "abc", "b!") == (["xxa!", ""], False)


def test_the_first_of_several_ends_the_text() -> None:
    """CHT-12"""
    assert shown(["one two three"], "three", "two") == (["one ", ""], True)
    assert shown(["one ", "two three"], "three", "one two", "never") == (["", "", ""], True)


@pytest.mark.parametrize("stops", [("abcd", "bc"), ("bc", "abcd"), ("abc", "bc"), ("b", "abc"), ("ab", "abc")])
def test_of_several_that_overlap_the_first_to_be_complete_ends_the_text(stops: tuple[str, ...]) -> None:
    """CHT-12: however the text is cut."""
    text = "xxabcdyy"
    ends = {"".join(shown([text[:cut], text[cut:]], *stops)[0]) for cut in range(len(text))}
    assert ends == {"".join(shown(list(text), *stops)[0])}


def test_a_stop_text_of_one_character_holds_nothing_back() -> None:
    assert shown(["a", "b\nc"], "\n") == (["a", "b", ""], True)


def test_a_text_that_is_a_stop_text_leaves_nothing() -> None:
    assert shown(["END"], "END") == (["", ""], True)


def test_the_end_is_told_once() -> None:
    stop_texts = StopTexts(["END"])
    stop_texts.push("aE")
    assert (stop_texts.finish(), stop_texts.finish()) == ("E", "")


@pytest.mark.parametrize("seed", range(20))
def test_pieces_give_what_the_whole_text_gives(seed: int) -> None:
    """CHT-12, for stop texts of one length, of which none holds another."""
    random = Random(seed)
    for _ in range(50):
        text = "".join(random.choices("ab", k=30))
        stops = ["".join(random.choices("ab", k=4)) for _ in range(random.randint(1, 3))]
        first = min((text.find(stop) for stop in stops if stop in text), default=len(text))
        pieces, at = [], 0
        while at < len(text):
            size = random.randint(0, 5)
            pieces.append(text[at : at + size])
            at += size
        found, is_found = shown(pieces, *stops)
        assert "".join(found) == text[:first]
        assert is_found == (first < len(text))


def test_what_is_held_back_is_the_longest_beginning_of_any() -> None:
    """As a search through all beginnings finds it."""
    random = Random(3)
    for _ in range(2_000):
        stops = ["".join(random.choices("ab", k=random.randint(1, 5))) for _ in range(3)]
        text = "".join(random.choices("ab", k=random.randint(0, 8)))
        if any(stop in text for stop in stops):
            continue
        beginnings = [stop[:length] for stop in stops for length in range(len(stop))]
        held = max((len(one) for one in beginnings if text.endswith(one)), default=0)
        assert shown([text], *stops) == ([text[: len(text) - held], text[len(text) - held :]], False)
