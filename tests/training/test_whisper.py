"""The Whisper recipe's tokenizer, labels and export; the rest is tested in the files beside this one."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from models.training.corpus.grammar import LANGUAGES
from models.training.corpus.utterances import SAMPLE_RATE, Utterance
from models.training.whisper.export import export
from models.training.whisper.labels import SILENCE, UNLABELLED, Labels, phone_set
from models.training.whisper.model import build_whisper
from models.training.whisper.settings import Size
from models.training.whisper.tokenizer import NUM_TIMESTAMPS, Vocabulary, build_tokenizer

CHECKPOINT = Path(__file__).parent.parent.parent / "models" / "whisper-embedded"
TINY = Size(width=32, encoder_layers=1, decoder_layers=2, heads=2)


@pytest.fixture(scope="module")
def tokenizer() -> WhisperTokenizer:
    return build_tokenizer(Random(0), 512, 1000)


@pytest.fixture(scope="module")
def vocabulary(tokenizer: WhisperTokenizer) -> Vocabulary:
    return Vocabulary.of(tokenizer)


@pytest.fixture(scope="module")
def shipped() -> tuple[WhisperForConditionalGeneration, WhisperTokenizer]:
    whisper = WhisperForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=torch.float32)
    return whisper, WhisperTokenizer.from_pretrained(CHECKPOINT)


def test_transformers_computes_the_same_language_and_task_ids(
    tokenizer: WhisperTokenizer, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    for language in LANGUAGES:
        for task in ("transcribe", "translate"):
            ids = WhisperTokenizer.from_pretrained(tmp_path).get_decoder_prompt_ids(language=language, task=task)
            expected = (vocabulary.languages[language], vocabulary.task(task), vocabulary.no_timestamps)
            assert tuple(token for _, token in ids) == expected


def test_special_tokens_stand_where_the_shipped_ones_do(
    tokenizer: WhisperTokenizer, shipped: tuple[WhisperForConditionalGeneration, WhisperTokenizer]
) -> None:
    of_shipped = {id - shipped[1].eos_token_id: token for token, id in shipped[1].get_added_vocab().items()}
    assert {id - tokenizer.eos_token_id: token for token, id in tokenizer.get_added_vocab().items()} == of_shipped
    assert tokenizer.all_special_ids[0] == tokenizer.eos_token_id == 512


def test_timestamps_are_the_last_tokens(tokenizer: WhisperTokenizer, vocabulary: Vocabulary) -> None:
    assert tokenizer.timestamp_ids() == list(range(vocabulary.timestamps, vocabulary.size))
    assert len(tokenizer) == vocabulary.size == vocabulary.timestamps + NUM_TIMESTAMPS
    assert tokenizer.convert_ids_to_tokens(vocabulary.timestamps + 57) == "<|1.14|>"
    assert tokenizer.convert_ids_to_tokens(vocabulary.size - 1) == "<|30.00|>"
    offsets = tokenizer.decode([vocabulary.timestamps, 40, vocabulary.timestamps + 50], output_offsets=True)["offsets"]
    assert offsets[0]["timestamp"] == (0.0, 1.0)


@pytest.mark.parametrize("text", ["Wo ist die Straße?", "¿Dónde está el niño?", "Où est l'œuf ?", "東京 zażółć"])
def test_any_text_survives(tokenizer: WhisperTokenizer, vocabulary: Vocabulary, text: str) -> None:
    tokens = Labels(tokenizer, ("_",)).tokens(text)
    assert max(tokens) < vocabulary.end
    assert tokenizer.decode(tokens) == " " + text


def test_too_few_texts_for_a_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="not 4096: pass more"):
        build_tokenizer(Random(0), 4096, 20)


def utterance(text: str, words: list[tuple[str, float, float]], phones: list[tuple[str, float]]) -> Utterance:
    return Utterance("fr", "fr", text, text, None, words, phones, 0, int(words[-1][2] * SAMPLE_RATE))


def test_tokens_share_the_time_of_their_word_by_letters(tokenizer: WhisperTokenizer) -> None:
    said = utterance("Où maison.", [("Où", 0.1, 0.5), ("maison.", 0.5, 1.2)], [("u", 0.1)])
    tokens, spans = Labels(tokenizer, ("_",)).timed_tokens(said)
    pieces = tokenizer.convert_ids_to_tokens(tokens)
    second = next(place for place, piece in enumerate(pieces) if place and piece.startswith("Ġ"))
    assert (spans[0, 0], spans[second - 1, 1]) == pytest.approx((0.1, 0.5))
    position = 0.5
    for piece, (start, end) in zip(pieces[second:], spans[second:], strict=True):
        assert (start, end) == pytest.approx((position, position + 0.1 * len(piece.removeprefix("Ġ"))), abs=1e-5)
        position = end
    assert position == pytest.approx(1.2)


def test_frames_have_the_phone_that_sounds_in_them(tokenizer: WhisperTokenizer) -> None:
    said = utterance("Oui.", [("Oui.", 0.0, 1.0)], [("w", 0.0), ("i:", 0.3), ("q", 0.5), ("_:", 0.8)])
    assert phone_set([said, said, said], at_least=3) == ("_", "w", "i:", "q")
    assert phone_set([said], at_least=2) == ("_",)
    frames = Labels(tokenizer, ("_", "i:", "w")).frames(said, np.array([0.0, 0.29, 0.3, 0.6, 0.9]))
    assert frames.tolist() == [2, 2, 1, UNLABELLED, SILENCE]


def test_an_exported_directory_has_the_form_of_the_shipped_one(
    shipped: tuple[WhisperForConditionalGeneration, WhisperTokenizer], tmp_path: Path
) -> None:
    export(tmp_path, *shipped)
    names = {path.name for path in CHECKPOINT.iterdir()} - {"README.md"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in sorted(name for name in names if name.endswith(".json")):
        written, expected = (json.loads((folder / name).read_text()) for folder in (tmp_path, CHECKPOINT))
        for content in (written, expected):
            content.pop("local_files_only", None)  # tells whether the hub was offline when the tokenizer was read
        assert written == expected, name
    again = WhisperForConditionalGeneration.from_pretrained(tmp_path)
    assert again.dtype == torch.float16
    for name, value in again.state_dict().items():
        assert torch.equal(value.float(), shipped[0].state_dict()[name]), name


def test_a_model_from_nothing_is_exported_so_that_transformers_loads_it(
    tokenizer: WhisperTokenizer, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    export(tmp_path, build_whisper(TINY, vocabulary), tokenizer)
    whisper = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(tmp_path)
    features = processor(np.zeros(SAMPLE_RATE, np.float32), sampling_rate=SAMPLE_RATE, return_tensors="pt")
    prompt = [whisper.config.decoder_start_token_id, vocabulary.languages["de"], vocabulary.transcribe]
    with torch.no_grad():
        logits = whisper(features.input_features, decoder_input_ids=torch.tensor([prompt])).logits
    assert logits.shape == (1, 3, vocabulary.size)
    assert whisper.generation_config.lang_to_id == {f"<|{name}|>": id for name, id in vocabulary.languages.items()}
    assert len(processor.tokenizer) == whisper.config.vocab_size
