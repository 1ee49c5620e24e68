from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from pipelines.speaker_types import Embedding
from pipelines.voices import VoiceOptions, Voices, unit

DIMENSION = 8


def voice(angle: float = 0.0, axis: int = 0, length: float = 1.0) -> Embedding:
    """`angle` degrees away from an axis, towards the next one."""
    turned = np.zeros(DIMENSION, np.float32)
    turned[axis] = length * np.cos(np.radians(angle))
    turned[(axis + 1) % DIMENSION] += length * np.sin(np.radians(angle))
    return turned


def recognise(
    known: Mapping[str, Embedding], *windows: Mapping[int, Embedding], options: VoiceOptions | None = None
) -> list[dict[int, str | int]]:
    voices = Voices(known, options or VoiceOptions())
    return [voices.recognise(sorted(window), window) for window in windows]


NO_VOICES = [
    np.zeros(DIMENSION, np.float32),
    np.full(DIMENSION, np.nan, np.float32),
    np.array([1, np.inf, *[0] * (DIMENSION - 2)], np.float32),
]


# Known speakers


def test_known_speakers_are_recognised_by_their_voices() -> None:
    known = {"Ann": voice(axis=0), "Bob": voice(axis=2), "Cy": voice(axis=4)}
    [who] = recognise(known, {7: voice(10, axis=4), 3: voice(20, axis=0), 5: voice(30, axis=2)})
    assert who == {7: "Cy", 3: "Ann", 5: "Bob"}


def test_how_loud_a_voice_is_tells_nothing() -> None:
    known = {"Ann": voice(axis=0, length=0.001), "Bob": voice(80, axis=0, length=100)}
    assert recognise(known, {0: voice(10, length=50), 1: voice(75, length=0.01)}) == [{0: "Ann", 1: "Bob"}]


@pytest.mark.parametrize(("angle", "who"), [(59, "Ann"), (61, 0), (90, 0), (180, 0)])
def test_a_stranger_is_never_given_a_name(angle: float, who: str | int) -> None:
    assert recognise({"Ann": voice()}, {0: voice(angle)}) == [{0: who}]


@pytest.mark.parametrize(("minimum", "who"), [(0.5, "Ann"), (0.7, "Ann"), (0.71, 0), (1.0, 0)])
def test_how_alike_a_known_speaker_must_be_is_an_option(minimum: float, who: str | int) -> None:
    options = VoiceOptions(min_known_similarity=minimum)
    assert recognise({"Ann": voice()}, {0: voice(45)}, options=options) == [{0: who}]


@pytest.mark.parametrize(("first", "second"), [(10.0, 20.0), (20.0, 10.0)])
def test_a_name_is_given_once_to_whom_it_suits_best(first: float, second: float) -> None:
    [who] = recognise({"Ann": voice()}, {0: voice(first), 1: voice(second)})
    assert who == ({0: "Ann", 1: 0} if first < second else {0: 0, 1: "Ann"})


def test_the_surest_pair_is_taken_first() -> None:
    # 0 is nearest to Ann as well, but 1 is nearer, and so 0 is Bob, who suits too
    known = {"Ann": voice(0), "Bob": voice(50)}
    assert recognise(known, {0: voice(20), 1: voice(5)}) == [{0: "Bob", 1: "Ann"}]


def test_names_that_nobody_bears_are_given_to_nobody() -> None:
    known = {"Ann": voice(axis=0), "Bob": voice(axis=2)}
    assert recognise(known, {}) == [{}]
    assert recognise(known, {4: voice(axis=2)}) == [{4: "Bob"}]


# Strangers


def test_two_strangers_are_never_the_same() -> None:
    [who] = recognise({}, {0: voice(), 1: voice(), 2: voice(1)})
    assert len(set(who.values())) == 3


def test_strangers_are_linked_from_window_to_window_whatever_their_numbers() -> None:
    ann, bob = voice(axis=0), voice(axis=2)
    first, second, third = recognise({}, {0: ann, 1: bob}, {0: bob, 1: ann}, {5: ann})
    assert (first[0], first[1]) == (second[1], second[0])
    assert third == {5: first[0]}


def test_somebody_new_in_a_later_window_is_nobody_from_before() -> None:
    first, second = recognise({}, {0: voice(axis=0)}, {0: voice(axis=2), 1: voice(axis=0)})
    assert second[1] == first[0]
    assert second[0] != first[0]


def test_two_alike_in_one_window_are_not_linked_to_the_same_one() -> None:
    first, second = recognise({}, {0: voice(0)}, {0: voice(20), 1: voice(5)})
    assert second[1] == first[0]
    assert second[0] != first[0]


@pytest.mark.parametrize(("minimum", "is_linked"), [(0.5, True), (0.7, True), (0.71, False)])
def test_how_alike_windows_speakers_must_be_is_an_option(minimum: float, is_linked: bool) -> None:
    options = VoiceOptions(min_linked_similarity=minimum)
    first, second = recognise({}, {0: voice()}, {0: voice(45)}, options=options)
    assert (first[0] == second[0]) is is_linked


def test_a_voice_that_changes_slowly_stays_the_same_speaker() -> None:
    angles = range(0, 110, 10)  # the last is 100 degrees from the first
    who = recognise({}, *({0: voice(angle), 1: voice(angle + 180)} for angle in angles))
    assert all(window == who[0] for window in who)
    assert len(set(who[0].values())) == 2
    assert recognise({}, {0: voice(0)}, {0: voice(100)})[1] != who[0]


def test_many_strangers_are_told_apart_and_found_again() -> None:
    random = np.random.default_rng(0)
    people = random.normal(size=(30, 256)).astype(np.float32)
    first = dict(enumerate(people))
    order = random.permutation(30)
    second = {
        number: people[person] + 0.3 * random.normal(size=256).astype(np.float32) for number, person in enumerate(order)
    }
    before, after = recognise({}, first, second)
    assert len(set(before.values())) == 30
    assert [after[number] for number in range(30)] == [before[person] for person in order]


# Both


def test_a_known_speaker_is_found_again_in_the_next_window() -> None:
    first, second = recognise({"Ann": voice()}, {0: voice(50), 1: voice(axis=4)}, {0: voice(axis=4), 1: voice(95)})
    assert first == {0: "Ann", 1: 0}
    assert second == {0: 0, 1: "Ann"}  # too far from the reference, but as in the first window


def test_a_known_speaker_who_comes_late_is_still_recognised() -> None:
    first, second = recognise({"Ann": voice(axis=4)}, {0: voice(axis=0)}, {0: voice(axis=0), 1: voice(axis=4)})
    assert second == {0: first[0], 1: "Ann"}


def test_a_name_is_given_once_though_two_recall_its_bearer() -> None:
    # 0 is like Ann's reference, 1 like what she sounded like in the first window
    _, second = recognise({"Ann": voice(0)}, {0: voice(40)}, {0: voice(2), 1: voice(40)})
    assert sorted(map(str, second.values())) == ["0", "Ann"]


def test_the_surest_is_who_is_most_above_what_is_asked_for() -> None:
    options = VoiceOptions(min_known_similarity=0.9, min_linked_similarity=0.3)
    first, second = recognise({"Ann": voice(0)}, {0: voice(60)}, {0: voice(20)}, options=options)
    assert first == second == {0: 0}


# Voices that tell nothing


@pytest.mark.parametrize("nothing", NO_VOICES)
def test_who_has_no_voice_is_a_stranger_every_time(nothing: Embedding) -> None:
    first, second = recognise({"Ann": voice()}, {0: nothing, 1: voice()}, {0: nothing, 1: voice(5)})
    assert first[1] == second[1] == "Ann"
    assert isinstance(first[0], int)
    assert isinstance(second[0], int)
    assert first[0] != second[0]


def test_a_speaker_without_a_voice_is_a_stranger() -> None:
    voices = Voices({"Ann": voice()}, VoiceOptions())
    assert voices.recognise([0, 1, 2], {1: voice()}) == {0: 0, 1: "Ann", 2: 1}


@pytest.mark.parametrize("nothing", NO_VOICES)
def test_a_reference_that_tells_nothing_names_nobody(nothing: Embedding) -> None:
    assert recognise({"Ann": nothing, "Bob": voice(axis=2)}, {0: voice(), 1: voice(axis=2)}) == [{0: 0, 1: "Bob"}]


def test_opposite_voices_of_one_speaker_harm_nothing() -> None:
    options = VoiceOptions(min_linked_similarity=-1.0)
    who = recognise({}, {0: voice(0)}, {0: voice(180)}, {0: voice(0)}, options=options)
    assert who[0] == who[1]
    assert len(who[2]) == 1


@pytest.mark.parametrize("seed", range(30))
def test_whatever_the_voices_nobody_is_two_and_strangers_stay_strangers(seed: int) -> None:
    random = np.random.default_rng(seed)
    known = {name: random.normal(size=4).astype(np.float32) for name in ("Ann", "Bob", "A")}
    voices = Voices(known, VoiceOptions(0.6, 0.7))
    named: dict[str, list[Embedding]] = {name: [reference] for name, reference in known.items()}
    for _ in range(5):
        window = {number: random.normal(size=4).astype(np.float32) for number in range(random.integers(0, 6))}
        who = voices.recognise(list(window), window)
        assert set(who) == set(window)
        assert len(set(who.values())) == len(who)
        for number, speaker in who.items():
            if isinstance(speaker, str):
                assert is_like_any(window[number], named[speaker])
                named[speaker].append(window[number])


def is_like_any(one: Embedding, others: Sequence[Embedding]) -> bool:
    """Like the reference, or like what else was heard of somebody, all of it together."""
    reference, *heard = [other / np.linalg.norm(other) for other in others]
    candidates = [(reference, 0.6), *([(np.sum(heard, axis=0), 0.7)] if heard else [])]
    return any(
        one @ other / np.linalg.norm(one) / np.linalg.norm(other) > minimum - 1e-5 for other, minimum in candidates
    )


def test_a_unit_has_length_one_and_the_same_direction() -> None:
    found = unit(np.array([3, 0, 4], np.float32))
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0.6, 0, 0.8], rtol=1e-6)


@pytest.mark.parametrize("nothing", [None, *NO_VOICES])
def test_what_has_no_direction_has_no_unit(nothing: Embedding | None) -> None:
    assert unit(nothing) is None
