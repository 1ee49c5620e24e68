"""The same marks as transformers', in less time."""

import random

import pytest
from transformers.utils.chat_template_utils import (
    _CONTROL_TOKEN_END,
    _CONTROL_TOKEN_START,
    _get_control_token_patterns,
    mark_control_tokens,
)

from deployments.chat.control_tokens import ControlTokens
from tests.support.driving import used_s

FEW = ("<s>", "</s>", "[INST]", "<SPECIAL_999>")
MANY = (*FEW, *(f"<SPECIAL_{id}>" for id in range(999)))
"""As Mistral's tokenizers have."""

VOCABULARIES = {
    "none": (),
    "one": ("</s>",),
    "many": MANY,
    "begin_alike": ("<", "<s>", "<s>x", "<s>xyz", "</s>", "<|im_start|>", "<|im_end|>", "<|"),
    "end_alike": ("|>", "x|>", "<x|>", ">"),
    "one_in_another": ("abab", "ab", "babab", "b"),
    "of_patterns": ("(?:a|b)*", "[^a]", "a.", ".", "\\d", "\\", "$^", "a{2}", "\n", "a\n", " "),
    "of_all_scripts": ("<音频>", "<音>", "é", "é́", "😀", "😀😀"),
}


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_marks_are_those_of_transformers(vocabulary: str) -> None:
    tokens = VOCABULARIES[vocabulary]
    pattern, _ = _get_control_token_patterns(tokens)
    control_tokens = ControlTokens(tokens)
    chance = random.Random(0)
    several = chance.sample(tokens, min(len(tokens), 10))
    pieces = [*several, *(token[:-1] for token in several), *(token[1:] for token in several)]
    pieces += ["", "x", "a", "ab", "<", ">", " ", "\n", _CONTROL_TOKEN_START, _CONTROL_TOKEN_END]
    num_marked = 0
    for _ in range(1_000):
        text = "".join(chance.choices(pieces, k=chance.randrange(12)))
        expected = mark_control_tokens(text, pattern)
        assert control_tokens.marked(text) == expected, text
        num_marked += _CONTROL_TOKEN_START in expected
    assert (num_marked > 100) == bool(tokens)


@pytest.mark.parametrize(
    "texts",
    [["<" * 50_000], ["<SPECIAL_" * 5_000], ["<SPECIAL_999>" * 2_000], ["x"] * 2_000],
    ids=["beginnings", "halves", "tokens", "many_texts"],
)
def test_a_thousand_tokens_take_hardly_longer_than_a_few(texts: list[str]) -> None:
    """With one tried after another it would be a hundred times as long."""
    few, many = (ControlTokens(tokens) for tokens in (FEW, MANY))
    least_s = used_s(lambda: [few.marked(text) for text in texts])
    assert used_s(lambda: [many.marked(text) for text in texts]) < 5 * least_s
