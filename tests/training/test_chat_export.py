"""The chat model's directory: what is in it, and how it is talked to."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor, Qwen2AudioProcessor, WhisperForConditionalGeneration

from models.training.chat.export import export
from models.training.chat.model import POSITIONS_PER_S, ChatModel, build_model
from models.training.chat.settings import FULL
from models.training.chat.tokenizer import END_OF_TEXT, SPECIAL_TOKENS, TURN_END, build_processor, processor
from models.training.corpus.synthesis import build
from models.training.corpus.utterances import SAMPLE_RATE, Corpus

WHISPER = Path(__file__).parents[2] / "models" / "whisper-embedded"
TURNS = "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
HEARD_AUDIO = "<|audio_bos|><|AUDIO|><|audio_eos|>"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build(tmp_path_factory.mktemp("corpus"), 100, seed=1)


@pytest.fixture(scope="module")
def trained(corpus: Corpus) -> tuple[ChatModel, Qwen2AudioProcessor]:
    """A model of the full size on the encoder of the checkpoint that the project ships, its language model random."""
    torch.manual_seed(0)
    words = build_processor(corpus, FULL.size.vocabulary, seed=1)
    return build_model(FULL.size, words.tokenizer, WHISPER), words


@pytest.fixture(scope="module")
def exported(trained: tuple[ChatModel, Qwen2AudioProcessor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    export(*trained, folder := tmp_path_factory.mktemp("exported"))
    return folder


def test_an_exported_model_is_small_and_holds_the_trained_weights(
    exported: Path, trained: tuple[ChatModel, Qwen2AudioProcessor]
) -> None:
    assert sum(file.stat().st_size for file in exported.iterdir()) < 25e6
    model = AutoModelForMultimodalLM.from_pretrained(exported)
    assert model.dtype == torch.float16
    weights = trained[0].inner.state_dict()
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name].half()) for name, value in model.state_dict().items())
    assert torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)


def test_the_encoder_is_whispers(trained: tuple[ChatModel, Qwen2AudioProcessor]) -> None:
    whisper = WhisperForConditionalGeneration.from_pretrained(WHISPER, dtype=torch.float32).model.encoder
    tower = trained[0].inner.model.audio_tower
    assert all(torch.equal(tower.state_dict()[name], value) for name, value in whisper.state_dict().items())


def test_an_exported_model_knows_where_to_stop(exported: Path) -> None:
    generation = AutoModelForMultimodalLM.from_pretrained(exported).generation_config
    tokenizer = AutoProcessor.from_pretrained(exported).tokenizer
    assert tokenizer.convert_ids_to_tokens(generation.eos_token_id) == [TURN_END, END_OF_TEXT]
    assert tokenizer.convert_ids_to_tokens(generation.pad_token_id) == END_OF_TEXT == tokenizer.pad_token
    assert not generation.do_sample


def test_an_exported_model_answers_about_audio(exported: Path) -> None:
    model, processor = AutoModelForMultimodalLM.from_pretrained(exported), AutoProcessor.from_pretrained(exported)
    samples = np.sin(np.arange(3 * SAMPLE_RATE) / 10).astype(np.float32)
    parts = [{"type": "audio", "audio": samples}, {"type": "text", "text": "Transcribe this."}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": parts}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    asked = inputs["input_ids"]
    assert (asked == model.config.audio_token_id).sum() == 3 * POSITIONS_PER_S
    said = model.float().generate(**inputs, max_new_tokens=3)
    assert torch.equal(said[:, : asked.shape[1]], asked)
    assert 0 < said.shape[1] - asked.shape[1] <= 3


def test_the_chat_template_takes_what_clients_send(exported: Path) -> None:
    processor = AutoProcessor.from_pretrained(exported)

    def rendered(*messages: dict[str, object]) -> str:
        return processor.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)

    default = "You are a helpful assistant."
    text = {"type": "text", "text": "What's in this audio?"}
    for kind in ("audio", "audio_url", "input_audio"):
        before = rendered({"role": "user", "content": [{"type": kind}, text]})
        after = rendered({"role": "user", "content": [text, {"type": kind}]})
        assert before == TURNS.format(default, HEARD_AUDIO + text["text"])
        assert after == TURNS.format(default, text["text"] + HEARD_AUDIO)
    assert rendered({"role": "user", "content": "Hello"}) == TURNS.format(default, "Hello")
    for brief in ("Be brief.", [{"type": "text", "text": "Be brief."}]):
        system = {"role": "system", "content": brief}
        assert rendered(system, {"role": "user", "content": "Hello"}) == TURNS.format("Be brief.", "Hello")


def test_a_second_turn_follows_the_first_answer(exported: Path) -> None:
    processor = AutoProcessor.from_pretrained(exported)
    messages = [
        {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "Transcribe this."}]},
        {"role": "assistant", "content": "Good morning."},
        {"role": "user", "content": "Which language?"},
    ]
    assert processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        TURNS.format("You are a helpful assistant.", f"{HEARD_AUDIO}Transcribe this.")
        + "Good morning.<|im_end|>\n<|im_start|>user\nWhich language?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_vocabulary_is_of_the_size_that_was_asked_for(
    trained: tuple[ChatModel, Qwen2AudioProcessor], corpus: Corpus
) -> None:
    model, words = trained
    size = FULL.size.vocabulary + len(SPECIAL_TOKENS)
    assert len(words.tokenizer) == model.vocabulary_weight.shape[0] == size
    assert words.tokenizer.tokenize("1987") == ["1", "9", "8", "7"]
    with pytest.raises(ValueError, match="not 50000"):
        build_processor(corpus, 50_000, seed=1)


def test_a_missing_processor_or_encoder_is_an_error(
    trained: tuple[ChatModel, Qwen2AudioProcessor], tmp_path: Path
) -> None:
    with pytest.raises(OSError, match=str(tmp_path)):
        processor(tmp_path)
    with pytest.raises(OSError, match=str(tmp_path)):
        build_model(FULL.size, trained[1].tokenizer, tmp_path)
