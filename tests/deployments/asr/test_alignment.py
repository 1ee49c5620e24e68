from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import medfilt
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration

from deployments.asr.alignment import (
    EARLY_S,
    HEADS_AT_ONCE,
    AlignedWord,
    align,
    alignment_heads,
    first_frames,
    frames_of,
    median,
    smooth,
    split_words,
)
from pipelines.transcript_types import Token

Cost = NDArray[np.float64]


def random_cost(seed: int, num_tokens: int, num_frames: int) -> Cost:
    return np.random.default_rng(seed).standard_normal((num_tokens, num_frames))


def cheapest_path(cost: Cost) -> tuple[float, list[int]]:
    """By trying every path from the first token and frame to the last: its cost, and each token's first frame."""
    num_tokens, num_frames = cost.shape

    def paths(token: int, frame: int) -> list[list[tuple[int, int]]]:
        if (token, frame) == (num_tokens - 1, num_frames - 1):
            return [[(token, frame)]]
        steps = [(token + 1, frame + 1), (token + 1, frame), (token, frame + 1)]
        inside = [(t, f) for t, f in steps if t < num_tokens and f < num_frames]
        return [[(token, frame), *rest] for t, f in inside for rest in paths(t, f)]

    best = min(paths(0, 0), key=lambda path: sum(cost[step] for step in path))
    starts = [min(frame for t, frame in best if t == token) for token in range(num_tokens)]
    return float(sum(cost[step] for step in best)), starts


def cost_of(starts: list[int], cost: Cost) -> float:
    """The cheapest path with these first frames: into each next token it steps straight or diagonally."""
    total = 0.0
    for token, (start, following) in enumerate(pairwise(starts)):
        straight = cost[token, start : following + 1].sum()
        diagonal = cost[token, start:following].sum() if following > start else np.inf
        total += min(straight, diagonal)
    return float(total + cost[-1, starts[-1] :].sum())


@pytest.mark.parametrize("seed", range(40))
def test_equals_trying_every_path(seed: int) -> None:
    generator = np.random.default_rng(seed)
    cost = random_cost(seed, int(generator.integers(1, 5)), int(generator.integers(1, 6)))
    best, starts = cheapest_path(cost)
    assert first_frames(cost) == starts
    assert cost_of(starts, cost) == pytest.approx(best)


def least_cost(cost: Cost) -> float:
    """Of all monotonic paths, cell by cell."""
    total = np.full((cost.shape[0] + 1, cost.shape[1] + 1), np.inf)
    total[0, 0] = 0.0
    for token, frame in np.ndindex(cost.shape):
        before = min(total[token, frame], total[token, frame + 1], total[token + 1, frame])
        total[token + 1, frame + 1] = cost[token, frame] + before
    return float(total[-1, -1])


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (2, 2), (10, 10), (30, 200), (40, 15), (100, 700)])
@pytest.mark.parametrize("seed", range(2))
def test_no_path_is_cheaper(seed: int, shape: tuple[int, int]) -> None:
    cost = random_cost(seed, *shape)
    assert cost_of(first_frames(cost), cost) == pytest.approx(least_cost(cost))


def test_the_memory_layout_does_not_matter() -> None:
    cost = random_cost(0, 20, 90)
    assert first_frames(np.asfortranarray(cost)) == first_frames(cost)
    assert first_frames(np.repeat(cost, 2, axis=1)[:, ::2]) == first_frames(cost)


def test_what_is_no_number_still_gives_a_path() -> None:
    cost = random_cost(0, 7, 30)
    cost[2:5, 4:20] = np.nan
    starts = first_frames(cost)
    assert starts == sorted(starts)
    assert (starts[0], len(starts)) == (0, 7)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_equal_costs_still_give_a_path(value: float) -> None:
    starts = first_frames(np.full((7, 30), value))
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert starts[-1] < 30


def test_each_token_is_found_where_it_is_cheap() -> None:
    cost = np.zeros((4, 40))
    for token in range(4):
        cost[token, 10 * token : 10 * token + 10] = -1.0
    assert first_frames(cost) == [0, 10, 20, 30]


def test_smoothing_normalises_over_tokens_and_filters_over_time() -> None:
    attention = np.random.default_rng(0).random((2 * HEADS_AT_ONCE + 1, 6, 40))
    found = smooth(torch.from_numpy(attention), 7).numpy()
    normalised = (attention - attention.mean(axis=1, keepdims=True)) / attention.std(axis=1, keepdims=True)
    padded = np.pad(normalised, ((0, 0), (0, 0), (3, 3)), mode="reflect")
    filtered = np.stack([[medfilt(row, 7)[3:-3] for row in head] for head in padded])
    assert found.shape == (6, 40)
    assert found == pytest.approx(filtered.mean(axis=0))


def test_smoothing_survives_flat_attention_and_few_frames() -> None:
    assert smooth(torch.full((2, 5, 3), 0.2), 7).isfinite().all()
    assert smooth(torch.full((2, 5, 1), 0.2), 7).shape == (5, 1)


@pytest.mark.parametrize("width", [1, 3, 5, 7, 9])
def test_the_median_is_that_of_each_neighbourhood(width: int) -> None:
    values = torch.from_numpy(np.random.default_rng(width).random((2, 3, 50)))
    expected = median_filter(values.numpy(), size=(1, 1, width), mode="mirror")
    assert np.array_equal(median(values, width).numpy(), expected)


# Words in time


FRAMES_EACH = 10


def scores_of(num_tokens: int, num_frames: int = 100, first: int = 0) -> Tensor:
    """Each token looks at frames of its own, one after the other from `first` on; what follows looks behind them."""
    scores = torch.zeros(2, num_tokens + 1, num_frames)
    for token in range(num_tokens + 1):
        place = first + FRAMES_EACH * token
        scores[:, token, place : place + FRAMES_EACH if token < num_tokens else num_frames] = 9.0
    return scores


def test_words_begin_and_end_where_they_are_looked_for() -> None:
    words = align(scores_of(4), tokens(" One", " two", " th", "ree"), np.arange(100), 7)
    assert [word.text for word in words] == [" One", " two", " three"]
    assert [word.start_s for word in words] == pytest.approx([0.0, 0.2 + EARLY_S, 0.4 + EARLY_S])
    assert [word.end_s for word in words] == pytest.approx([0.2 + EARLY_S, 0.4 + EARLY_S, 0.8])


def test_a_pause_belongs_to_punctuation() -> None:
    words = align(scores_of(3), tokens(" One", ".", " Two"), np.arange(100), 7)
    assert [(word.text, word.start_s, word.end_s) for word in words] == [
        (" One.", pytest.approx(0.0), pytest.approx(0.2)),
        (" Two", pytest.approx(0.4), pytest.approx(0.6)),
    ]


def test_no_word_lies_in_frames_that_are_left_out() -> None:
    """Where the attention falls into a silence, words are put to its edges."""
    frames = frames_of([(0.0, 0.2), (0.6, 2.0)], 100)
    assert frames.tolist() == [*range(10), *range(30, 100)]
    words = align(scores_of(3), tokens(" One", " two", " three"), frames, 7)
    for word in words:
        assert word.start_s <= word.end_s
        assert not 0.2 + EARLY_S < word.start_s < 0.6


def test_without_the_last_token_s_look_ahead_the_last_word_takes_the_rest() -> None:
    words = align(scores_of(2)[:, :2], tokens(" One", " two"), np.arange(100), 7)
    assert words[-1].end_s == pytest.approx(2.0)


def test_no_text_and_no_frames() -> None:
    assert align(scores_of(0), [], np.arange(100), 7) == []
    assert align(scores_of(1), tokens(" One"), np.arange(0), 7) == []
    assert frames_of([(0.0, 0.0), (5.0, 9.0)], 100).tolist() == [0, 99]


def tokens(*pieces: str | bytes) -> list[Token]:
    data = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
    return [Token(number, one.decode("utf-8", "replace"), -0.1, one) for number, one in enumerate(data)]


def words(*pieces: str | bytes) -> list[str]:
    return [word.text for word in split_words(tokens(*pieces))]


def spans(*pieces: str | bytes) -> list[tuple[int, int]]:
    return [(word.first, word.last) for word in split_words(tokens(*pieces))]


def test_words_begin_at_spaces() -> None:
    assert words(" We", " me", "et", " at", " t", "en") == [" We", " meet", " at", " ten"]
    assert spans(" We", " me", "et", " at", " t", "en") == [(0, 1), (1, 3), (3, 4), (4, 6)]


def test_the_first_word_needs_no_space() -> None:
    assert words("We", " meet") == ["We", " meet"]


def test_punctuation_belongs_to_the_word_before() -> None:
    assert words(" ten", ".", " Bye", "!", "?") == [" ten.", " Bye!?"]
    assert words(" a", ",", " b") == [" a,", " b"]


def test_opening_punctuation_belongs_to_the_word_after() -> None:
    assert words(" ¿", "Qué", " (", "now", ")") == [" ¿Qué", " (now)"]
    assert words(' "', "Yes", '"', " she") == [' "Yes"', " she"]
    assert words(" He", ' "', "said", '"') == [" He", ' "said"']


def test_apostrophes_and_hyphens_inside_a_word() -> None:
    assert words(" o", "'", "clock") == [" o'clock"]
    assert words(" well", "-", "known") == [" well-known"]


def test_a_character_shared_by_tokens_stays_whole() -> None:
    emoji = "😀".encode()
    assert words(" ok", b" " + emoji[:2], emoji[2:], " then") == [" ok", " 😀", " then"]
    assert spans(" ok", b" " + emoji[:2], emoji[2:], " then") == [(0, 1), (1, 3), (3, 4)]
    umlaut = "ü".encode()
    assert words(" T", umlaut[:1], umlaut[1:], "r") == [" Tür"]


def test_scripts_without_spaces_are_split_at_tokens() -> None:
    assert words("你好", "世界", "。") == ["你好", "世界。"]
    assert words("日", "本", "語", "です") == ["日", "本", "語", "です"]
    first = "語".encode()
    assert words("日", "本", first[:1], first[1:]) == ["日", "本", "語"]
    assert spans("日", "本", first[:1], first[1:]) == [(0, 1), (1, 2), (2, 4)]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([" 산", "책", "하", "러", " 가"], [" 산책하러", " 가"]),
        ([" v", "ộ", "i", " quá"], [" vội", " quá"]),
        ([" don", "’", "t", " go"], [" don’t", " go"]),  # noqa: RUF001
        ([" wait", "—", "no"], [" wait—no"]),
    ],
)
def test_a_word_is_not_parted_inside(pieces: list[str], expected: list[str]) -> None:
    assert words(*pieces) == expected


def test_scripts_may_be_mixed() -> None:
    assert words(" Ray", "と", " Serve") == [" Ray", "と", " Serve"]


def test_cjk_punctuation_opens_and_closes() -> None:
    colon, mark = "\uff1a", "\uff01"
    assert words("他", "说", colon, "你", "好", mark) == ["他", f"说{colon}", "你", f"好{mark}"]


def test_bytes_that_are_no_text_do_not_swallow_what_follows() -> None:
    found = "".join(words(" a", b"\xff", " b", " c"))
    assert "b" in found
    assert "c" in found


def test_an_unfinished_character_at_the_end_keeps_the_words_before() -> None:
    assert words(" We", " meet", "語".encode()[:2])[:2] == [" We", " meet"]


def test_nothing_and_blank() -> None:
    assert split_words([]) == []
    assert words(" ", "  ") == []


def test_all_text_is_in_some_word_and_spans_do_not_overlap() -> None:
    pieces = [" ¡", "Hola", ",", " se", "ñ", "or", "!", ' "', "Bien", '"', " -", " dijo", "…", "。"]
    found: list[AlignedWord] = split_words(tokens(*pieces))
    assert "".join(word.text for word in found) == "".join(pieces)
    assert all(left.last <= right.first for left, right in pairwise(found))
    assert (found[0].first, found[-1].last) == (0, len(pieces))


UPPER_HALF = [(layer, head) for layer in (1, 2) for head in range(4)]


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (None, UPPER_HALF),
        ([], UPPER_HALF),
        ([[0, 3], [2, 1]], [(0, 3), (2, 1)]),
        ([[0, 3], [3, 0], [1, 4], [-1, 0]], [(0, 3)]),
        ([[5, 7], [0, 4]], UPPER_HALF),
    ],
    ids=str,
)
def test_heads_are_those_that_the_checkpoint_names_and_the_model_has(
    named: list[list[int]] | None, found: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(
            WhisperConfig(
                d_model=8, encoder_layers=1, encoder_attention_heads=4, decoder_layers=3, decoder_attention_heads=4
            )
        )
    model.generation_config.alignment_heads = named
    assert alignment_heads(model) == found
    assert bool(caplog.records) == bool(named and len(found) != len(named))


def test_a_character_that_is_shared_with_the_word_before_stays_whole() -> None:
    """Whisper's vocabulary has tokens of a whole character and the first bytes of the next."""
    assert words("インタ", "ー".encode() + b"\xe3\x83", b"\x8d", "ット") == ["インタ", "ーネ", "ット"]
    assert words("เรื่อง", "เ".encode() + b"\xe0\xb8", b"\x97", "คโน") == ["เรื่อง", "เท", "คโน"]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["เรื", "่อง", "ที่"], ["เรื่อง", "ที่"]),
        (["แล", "ะ", "ว่า"], ["และ", "ว่า"]),
        (["นี้", "เ", "ป็น"], ["นี้", "เป็น"]),
        (["မြန်", "မာ", "စကား"], ["မြန်", "မာ", "စကား"]),
        (["က", "ျ", "ွန်"], ["ကျွန်"]),
        (["ខ្", "មែរ"], ["ខ្មែរ"]),
    ],
)
def test_a_mark_stays_with_its_letter(pieces: list[str], expected: list[str]) -> None:
    assert words(*pieces) == expected
