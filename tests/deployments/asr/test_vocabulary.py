from pathlib import Path

import pytest
from transformers import GenerationConfig, WhisperTokenizer

from deployments.asr.vocabulary import Vocabulary
from pipelines.transcript_types import DecodingOptions
from pipelines.whisper import MAX_PROMPT_TOKENS

TEXTS = ["Where is the tree?", " Die Kuh ist lang.", "vacía", "日本語", "😀 ok", "naïve\tcafé\n"]


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> WhisperTokenizer:
    return WhisperTokenizer.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def vocabulary(checkpoint: Path, tokenizer: WhisperTokenizer) -> Vocabulary:
    return Vocabulary(tokenizer, GenerationConfig.from_pretrained(checkpoint))


def test_special_tokens_are_where_the_tokenizer_has_them(vocabulary: Vocabulary, tokenizer: WhisperTokenizer) -> None:
    def id_of(token: str) -> int:
        found: int = tokenizer.convert_tokens_to_ids(token)
        return found

    assert vocabulary.end_of_text == id_of("<|endoftext|>")
    assert vocabulary.start_of_transcript == id_of("<|startoftranscript|>")
    assert vocabulary.start_of_previous == id_of("<|startofprev|>")
    assert vocabulary.no_timestamps == id_of("<|notimestamps|>")
    assert vocabulary.timestamp_begin == id_of("<|notimestamps|>") + 1  # not every tokenizer names the times
    assert vocabulary.no_speech in {id_of("<|nospeech|>"), id_of("<|nocaptions|>")}
    assert {code: id_of(f"<|{code}|>") for code in vocabulary.language_ids} == vocabulary.language_ids
    assert {task: id_of(f"<|{task}|>") for task in vocabulary.task_ids} == vocabulary.task_ids


def test_what_must_not_be_written_is_not_text(vocabulary: Vocabulary) -> None:
    assert vocabulary.suppressed
    assert vocabulary.end_of_text not in vocabulary.suppressed
    assert max(vocabulary.suppressed) < vocabulary.timestamp_begin


@pytest.mark.parametrize("text", TEXTS)
def test_ids_to_text_and_bytes(vocabulary: Vocabulary, tokenizer: WhisperTokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert vocabulary.text(ids) == text
    assert b"".join(vocabulary.data(token) for token in ids) == text.encode()


def test_part_of_a_character_is_kept_as_bytes(vocabulary: Vocabulary, tokenizer: WhisperTokenizer) -> None:
    ids = tokenizer.encode("😀", add_special_tokens=False)
    assert len(ids) > 1
    assert vocabulary.text(ids[:1]) != "😀"
    assert b"".join(vocabulary.data(token) for token in ids).decode() == "😀"


def test_special_tokens_have_no_text(vocabulary: Vocabulary) -> None:
    special = range(vocabulary.end_of_text, vocabulary.timestamp_begin + 1_501)
    assert all(vocabulary.data(token) == b"" for token in special)


def test_every_text_token_has_bytes(vocabulary: Vocabulary) -> None:
    """But for the multilingual Whispers' last one, which is no text at all."""
    empty = [token for token in range(vocabulary.end_of_text) if not vocabulary.data(token)]
    assert empty == [vocabulary.end_of_text - 1]


def test_prefix(vocabulary: Vocabulary) -> None:
    start, german = vocabulary.start_of_transcript, vocabulary.language_ids["de"]
    transcribe, translate = vocabulary.task_ids["transcribe"], vocabulary.task_ids["translate"]
    assert vocabulary.prefix(DecodingOptions(), "de", is_timed=True) == [start, german, transcribe]
    assert vocabulary.prefix(DecodingOptions(task="translate"), "de", is_timed=True) == [start, german, translate]
    plain = vocabulary.prefix(DecodingOptions(), "de", is_timed=False)
    assert plain == [start, german, transcribe, vocabulary.no_timestamps]


def test_prompt_and_keywords_come_first(vocabulary: Vocabulary) -> None:
    options = DecodingOptions(prompt=" We met. ", keywords=("Auricle", "Ray"))
    prefix = vocabulary.prefix(options, "en", is_timed=False)
    start = prefix.index(vocabulary.start_of_transcript)
    assert prefix[0] == vocabulary.start_of_previous
    assert vocabulary.text(prefix[1:start]) == " Auricle, Ray We met."


def test_a_long_prompt_leaves_the_keywords_in(vocabulary: Vocabulary) -> None:
    options = DecodingOptions(prompt="word " * 100_000 + "the end", keywords=("Auricle",))
    prefix = vocabulary.prefix(options, "en", is_timed=False)
    text = vocabulary.text(prefix[1 : prefix.index(vocabulary.start_of_transcript)])
    assert text.startswith(" Auricle")
    assert text.endswith("the end")


@pytest.mark.parametrize("prompt", ["", "  ", "\n"])
def test_no_prompt_is_no_prefix(vocabulary: Vocabulary, prompt: str) -> None:
    options = DecodingOptions(prompt=prompt)
    assert vocabulary.prefix(options, "en", is_timed=False)[0] == vocabulary.start_of_transcript


def test_of_a_long_prompt_the_end_is_read(vocabulary: Vocabulary) -> None:
    options = DecodingOptions(prompt="one two three " * 500 + "the very end")
    prefix = vocabulary.prefix(options, "en", is_timed=False)
    start = prefix.index(vocabulary.start_of_transcript)
    assert start == MAX_PROMPT_TOKENS + 1
    assert vocabulary.text(prefix[1:start]).endswith("the very end")


def test_a_prompt_that_spells_special_tokens_is_text(vocabulary: Vocabulary) -> None:
    options = DecodingOptions(prompt="<|startoftranscript|><|de|><|translate|><|endoftext|><|0.00|>")
    prefix = vocabulary.prefix(options, "en", is_timed=False)
    assert prefix.count(vocabulary.start_of_transcript) == 1
    start = prefix.index(vocabulary.start_of_transcript)
    assert all(token < vocabulary.end_of_text for token in prefix[1:start])


def test_a_model_of_one_language_has_neither_language_nor_task(tokenizer: WhisperTokenizer, checkpoint: Path) -> None:
    config = GenerationConfig.from_pretrained(checkpoint)
    config.is_multilingual = False
    english = Vocabulary(tokenizer, config)
    assert (english.language_ids, english.task_ids) == ({}, {})
    assert english.prefix(DecodingOptions(), "en", is_timed=True) == [english.start_of_transcript]
    plain = english.prefix(DecodingOptions(), "en", is_timed=False)
    assert plain == [english.start_of_transcript, english.no_timestamps]
