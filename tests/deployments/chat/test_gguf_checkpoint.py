"""GGUF files: the model that was written is the one that is read, or there is one clear sentence."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from deployments.chat.gguf_checkpoint import find_gguf, load_gguf_model, load_gguf_tokenizer
from deployments.chat.loading import load_model, load_processor
from pipelines.errors import ConfigurationError
from tests.support.gguf_files import SIZES, random_model, write_gguf

PROMPT = torch.tensor([[1, 40, 41, 99, 7, 200, 3, 2, 1, 77]])


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        return model(PROMPT).logits


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_logits_are_those_of_the_model_that_was_written(architecture: str, tied: bool, tmp_path: Path) -> None:
    written = random_model(architecture, tied)
    read = load_gguf_model(write_gguf(tmp_path / "a.gguf", architecture, written), torch.float32)
    torch.testing.assert_close(logits_of(read), logits_of(written))
    assert read.config.tie_word_embeddings == tied
    assert read.config.max_position_embeddings == SIZES["max_position_embeddings"]


def test_packed_weights_are_unpacked_once(tmp_path: Path) -> None:
    written = random_model("llama", tied=True)
    read = load_gguf_model(write_gguf(tmp_path / "a.gguf", "llama", written, packed=True), torch.float32)
    assert {type(module) for module in read.modules()} == {type(module) for module in written.modules()}
    expected, found = logits_of(written), logits_of(read)
    assert not torch.equal(expected, found)
    assert torch.nn.functional.cosine_similarity(expected, found, dim=-1).min() > 0.99


def test_weights_have_the_type_that_is_asked_for(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", "llama", random_model("llama", tied=True))
    read = load_gguf_model(path, torch.bfloat16)
    assert {parameter.dtype for parameter in read.parameters()} == {torch.bfloat16}


def test_every_token_that_ends_a_turn_ends_the_answer(tmp_path: Path) -> None:
    """Whether the file says so of it, or its name does."""
    read = load_gguf_model(write_gguf(tmp_path / "a.gguf", "llama", random_model("llama", tied=True)), torch.float32)
    assert read.generation_config.eos_token_id == [0, 2, 3]


def test_the_tokenizer_and_its_chat_template(tmp_path: Path) -> None:
    tokenizer = load_gguf_tokenizer(write_gguf(tmp_path / "a.gguf", "llama", random_model("llama", tied=True)))
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True, tokenize=False
    )
    assert text == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.tokenize("<|im_start|>hello  12") == ["<|im_start|>", "hello", "Ġ", "Ġ", "1", "2"]
    assert (tokenizer.eos_token, tokenizer.bos_token) == ("<|im_end|>", "<|im_start|>")
    assert tokenizer.decode(tokenizer.encode("Größe: 3,50 €")) == "Größe: 3,50 €"


@pytest.mark.parametrize("form", ["file", "directory"])
def test_a_source_may_be_the_file_or_its_directory(form: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", "llama", random_model("llama", tied=True))
    source = str(path if form == "file" else tmp_path)
    model = load_model(source, torch.device("cpu"), torch.float32)
    assert load_processor(source, model).chat_template
    assert not model.training


def test_what_is_no_gguf_checkpoint(tmp_path: Path) -> None:
    assert find_gguf("openai/whisper-base") is None
    assert find_gguf(str(tmp_path)) is None
    for name in ("a.gguf", "config.json"):
        (tmp_path / name).write_text("{}")
    assert find_gguf(str(tmp_path)) is None  # the usual form is there, too


def test_which_of_several_files_is_to_be_said(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigurationError, match="2 GGUF files: name one"):
        find_gguf(str(tmp_path))


def test_an_architecture_that_is_not_known(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", "mamba", random_model("llama", tied=True))
    with pytest.raises(ConfigurationError, match=r"architecture 'mamba'.*llama, qwen2, qwen3"):
        load_model(str(path), torch.device("cpu"), torch.float32)


def test_positions_that_are_scaled_are_refused_and_not_read_wrongly(tmp_path: Path) -> None:
    model = random_model("llama", tied=True)
    path = write_gguf(tmp_path / "a.gguf", "llama", model, **{"rope.scaling.type": "yarn"})
    with pytest.raises(ConfigurationError, match="scales its positions"):
        load_gguf_model(path, torch.float32)


@pytest.mark.parametrize("data", [b"", b"GGUF", b"not a model at all, but long enough to look at"])
def test_what_is_no_gguf_file(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match="could not be read as a GGUF file"):
        load_model(str(path), torch.device("cpu"), torch.float32)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match="could not be read"):
        load_model("nowhere/a.gguf", torch.device("cpu"), torch.float32)


def test_a_file_that_ends_too_early(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", "llama", random_model("llama", tied=True))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ConfigurationError):
        load_gguf_model(path, torch.float32)
