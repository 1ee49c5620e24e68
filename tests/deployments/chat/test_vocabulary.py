import json
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import GenerationConfig, PreTrainedTokenizerFast

from deployments.chat.vocabulary import Vocabulary
from tests.support.small_tokenizers import BLANK, TURN_END, byte_level, sentencepiece_bpe, unigram

PLENTY = 10**6


def vocabulary_of(tokenizer: Any, num_logits: int = PLENTY, **generation: Any) -> Vocabulary:
    return Vocabulary(tokenizer, GenerationConfig(**generation), num_logits)


def data(tokenizer: PreTrainedTokenizerFast, text: str) -> list[bytes]:
    vocabulary = vocabulary_of(tokenizer)
    return [vocabulary.data(token_id) for token_id in tokenizer.encode(text, add_special_tokens=False)]


def test_byte_level_tokens_are_bytes() -> None:
    found = data(byte_level(), " ten o'clock \n€")
    assert b"".join(found) == " ten o'clock \n€".encode()
    assert b" t" in found
    assert found[-3:] == [b"\xe2", b"\x82", b"\xac"]


def test_sentencepiece_s_blanks_are_spaces_and_its_bytes_are_bytes() -> None:
    found = data(sentencepiece_bpe(), "ten 🎉")
    assert b"".join(found) == " ten 🎉".encode()
    assert found[-4:] == [b"\xf0", b"\x9f", b"\x8e", b"\x89"]


def test_who_drops_the_first_space() -> None:
    assert vocabulary_of(sentencepiece_bpe()).drops_first_space
    assert vocabulary_of(unigram()).drops_first_space
    assert not vocabulary_of(sentencepiece_bpe(drops_first_space=False)).drops_first_space
    assert not vocabulary_of(byte_level()).drops_first_space


def test_the_order_of_words_says_nothing_about_the_first_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """It differs by process, and of several spaces in a row only the first is taken off."""
    raw = json.loads(sentencepiece_bpe().backend_tokenizer.to_str())
    raw["model"]["vocab"][2 * BLANK] = len(raw["model"]["vocab"])
    raw["model"]["merges"].append([BLANK, BLANK])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(raw)), eos_token="</s>")
    words = sorted(tokenizer.get_vocab().items(), key=lambda word: word[0] != 2 * BLANK)
    assert tokenizer.decode([words[0][1]]) == " "
    monkeypatch.setattr(tokenizer, "get_vocab", lambda: dict(words))
    assert vocabulary_of(tokenizer).drops_first_space


def test_the_checkpoint_s_own_vocabulary(processor: Any) -> None:
    tokenizer = processor.tokenizer
    vocabulary = vocabulary_of(tokenizer)
    assert vocabulary.size == len(tokenizer)
    for text in ("Grüße aus Köln", "It is 15 °C. 今天"):
        ids = tokenizer.encode(text)
        assert b"".join(vocabulary.data(token_id) for token_id in ids).decode() == text


def test_special_tokens_have_no_bytes_but_a_name() -> None:
    tokenizer = byte_level()
    vocabulary = vocabulary_of(tokenizer)
    assert vocabulary.data(tokenizer.eos_token_id) == b""
    assert vocabulary.name(tokenizer.eos_token_id) == TURN_END
    for token_id in (0, 1, 2):
        assert vocabulary_of(sentencepiece_bpe()).data(token_id) == b""


def test_added_tokens_that_are_not_special_are_text() -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens(["<think>", "Straße", "    "])
    vocabulary = vocabulary_of(tokenizer)
    for token in ("<think>", "Straße", "    "):
        assert vocabulary.data(tokenizer.convert_tokens_to_ids(token)) == token.encode()


def test_added_blanks_of_a_sentencepiece_vocabulary_are_spaces() -> None:
    """As Gemma's, for indentation."""
    tokenizer = sentencepiece_bpe(extra=[AddedToken(BLANK * 4, normalized=False)])
    assert vocabulary_of(tokenizer).data(tokenizer.convert_tokens_to_ids(BLANK * 4)) == b"    "


def test_control_tokens_that_hold_a_blank_make_no_sentencepiece() -> None:
    """As DeepSeek's, whose vocabulary is of bytes."""
    tokenizer = byte_level(extra=["<\uff5cend\u2581of\u2581sentence\uff5c>", "\u2581<PRE>"])
    vocabulary = vocabulary_of(tokenizer)
    assert not vocabulary.drops_first_space
    assert b"".join(data(tokenizer, " the garden")) == b" the garden"


def test_what_ends_an_answer() -> None:
    tokenizer = byte_level()
    own = tokenizer.eos_token_id
    assert vocabulary_of(tokenizer).ends == {own}
    assert vocabulary_of(tokenizer, eos_token_id=7).ends == {7, own}
    assert vocabulary_of(tokenizer, eos_token_id=[7, 8, own]).ends == {7, 8, own}


def test_ids_may_have_holes() -> None:
    tokenizer = byte_level()
    dictionary = {token: id + (50 if id > 300 else 0) for token, id in tokenizer.get_vocab().items()}

    class Holed:
        """The part of a tokenizer that a vocabulary looks at."""

        eos_token_id = tokenizer.eos_token_id
        all_special_ids = tokenizer.all_special_ids
        added_tokens_decoder = tokenizer.added_tokens_decoder

        def get_vocab(self) -> dict[str, int]:
            return dictionary

    vocabulary = vocabulary_of(Holed())
    assert vocabulary.size == len(dictionary) + 50
    assert vocabulary.data(vocabulary.size - 1)
    assert vocabulary.data(310) == b""


def test_there_are_no_more_tokens_than_the_model_has_outputs() -> None:
    assert vocabulary_of(byte_level(), num_logits=300).size == 300
