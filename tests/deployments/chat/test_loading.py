"""What cannot be served is said in one sentence, with its name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import Lfm2Config, Lfm2ForCausalLM, Mamba2Config, Mamba2ForCausalLM, PreTrainedModel, WhisperConfig

from deployments.chat.engine import ChatEngineArgs
from deployments.chat.loading import audio_token_id
from deployments.chat.transformers_chat import TransformersChat
from pipelines.errors import ConfigurationError
from tests.support.chat_checkpoints import SIZES, text_model
from tests.support.small_tokenizers import CHAT_TEMPLATE, byte_level


def refused(source: str | Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        TransformersChat(ChatEngineArgs(str(source), "cpu"))
    assert f"'{source}'" in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """Of the checkpoint, for a test to break."""
    return shutil.copytree(checkpoint, tmp_path / "copy")


def test_no_such_directory(tmp_path: Path) -> None:
    refused(tmp_path / "nothing")


def test_no_such_model_on_the_hub() -> None:
    refused("nobody/nothing")


def test_a_speech_recogniser(tmp_path: Path) -> None:
    WhisperConfig().save_pretrained(tmp_path)
    assert "it is a WhisperConfig" in refused(tmp_path)


def test_other_models(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("pipeline: {}")
    refused(tmp_path)


def without_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def with_half_of_the_weights(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def with_weights_of_another_size(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    config["text_config"]["hidden_size"] //= 2
    (directory / "config.json").write_text(json.dumps(config))


def with_garbage_for_a_config(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": ')


def with_an_unknown_model_type(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "qwen17_telepathy"}')


def without_a_processor(directory: Path) -> None:
    (directory / "processor_config.json").unlink()


def with_garbage_for_a_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    "breaking",
    [
        without_weights,
        with_half_of_the_weights,
        with_weights_of_another_size,
        with_garbage_for_a_config,
        with_an_unknown_model_type,
        without_a_processor,
        with_garbage_for_a_tokenizer,
    ],
)
def test_broken_checkpoints(copy: Path, breaking: Callable[[Path], None]) -> None:
    breaking(copy)
    assert refused(copy).startswith("The chat model ")


def test_without_a_tokenizer(copy: Path) -> None:
    """transformers would go on with an empty one."""
    for file in copy.glob("tokenizer*"):
        file.unlink()
    assert refused(copy).endswith("has no tokenizer.")


def test_without_a_chat_template(tmp_path: Path) -> None:
    text_model("qwen2", tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    assert refused(tmp_path).endswith("has no chat template.")


def partly_recurrent() -> PreTrainedModel:
    return Lfm2ForCausalLM(Lfm2Config(**SIZES, layer_types=["conv", "full_attention"]))


def wholly_recurrent() -> PreTrainedModel:
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1}
    return Mamba2ForCausalLM(Mamba2Config(vocab_size=SIZES["vocab_size"], **sizes))


@pytest.mark.parametrize("model", [partly_recurrent, wholly_recurrent])
def test_recurrent_models(tmp_path: Path, model: Callable[[], PreTrainedModel]) -> None:
    """Their rows could not join a batch: answers would be mixed up, or no step succeed."""
    tokenizer = byte_level()
    tokenizer.chat_template = CHAT_TEMPLATE
    model().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "recurrent" in refused(tmp_path)


def test_a_model_with_attention_of_its_own(tmp_path: Path) -> None:
    """It could not read in slots."""
    text_model("bloom", tmp_path)
    assert refused(tmp_path).endswith("has attention of its own, which cannot be batched here.")


def test_a_context_of_unknown_length(tmp_path: Path) -> None:
    text_model("qwen2", tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_position_embeddings": 0}))
    assert "set max_context_tokens" in refused(tmp_path)


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope"])
def test_positions_that_hang_on_the_longest_row_end_the_context(tmp_path: Path, rope_type: str) -> None:
    text_model("llama", tmp_path)
    path = tmp_path / "config.json"
    rope = {"rope_type": rope_type, "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 128}
    if rope_type == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    path.write_text(json.dumps({**json.loads(path.read_text()), "rope_parameters": rope}))
    engine = TransformersChat(ChatEngineArgs(str(tmp_path), "cpu", "float32"))
    assert engine.info.max_context_tokens == 128


@pytest.mark.parametrize(("changes", "token_id"), [({}, 7), ({"audio_config": None}, None), ({"audio_config": {}}, 7)])
def test_who_has_no_audio_tower_does_not_hear(changes: dict[str, Any], token_id: int | None) -> None:
    """Gemma 4 has a token for audio all the same."""
    model = Lfm2ForCausalLM(Lfm2Config(**SIZES, audio_token_id=7, **changes))
    assert audio_token_id(model) == token_id
