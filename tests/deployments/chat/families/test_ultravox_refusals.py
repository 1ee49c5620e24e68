"""What of Ultravox's layouts is not served is said in one sentence, and nothing that lies beside the weights is run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    MambaConfig,
    MambaForCausalLM,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from deployments.chat.engine import ChatEngineArgs
from deployments.chat.transformers_chat import TransformersChat
from pipelines.errors import ConfigurationError
from tests.support.chat_checkpoints import SIZES
from tests.support.driving import alone, asks, token_ids
from tests.support.ultravox_checkpoints import (
    add_adapters,
    add_weights,
    carry_audio,
    carry_text,
    drop_weight,
    say,
    ultravox,
)


def loaded(directory: Path) -> TransformersChat:
    return TransformersChat(ChatEngineArgs(str(directory), "cpu", "float32", num_threads=1))


def other_audio(directory: Path) -> None:
    """v0.1 and v0.2 hear so."""
    config = Wav2Vec2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    Wav2Vec2Model(config).save_pretrained(directory / "wav2vec2")
    say(directory, audio_model_id=str(directory / "wav2vec2"))


def other_text(directory: Path) -> None:
    say(directory, text_model_id=str(directory / "audio"))


def carried_other_text(directory: Path) -> None:
    carry_text(directory)
    say(directory, text_config=WhisperConfig().to_dict() | {"model_type": "wav2vec2"})


def recurrent_text(directory: Path) -> None:
    config = MambaConfig(vocab_size=SIZES["vocab_size"], hidden_size=32, num_hidden_layers=1)
    MambaForCausalLM(config).save_pretrained(directory / "text")
    (directory / "text" / "generation_config.json").unlink(missing_ok=True)


def of_another_width(directory: Path) -> None:
    say(directory, hidden_size=64)


def missing_norm(directory: Path) -> None:
    say(directory, projector_ln_mid=True)


def missing_encoder_weight(directory: Path) -> None:
    carry_audio(directory)
    drop_weight(directory, "audio_tower.layers.1.fc1.weight")


def missing_text_weight(directory: Path) -> None:
    carry_text(directory)
    drop_weight(directory, "language_model.model.layers.1.mlp.up_proj.weight")


def encoder_of_another_size(directory: Path) -> None:
    carry_audio(directory)
    add_weights(directory, {"audio_tower.layers.1.fc1.weight": torch.zeros(3, 3)})


def missing_adapter(directory: Path) -> None:
    encoder = WhisperForConditionalGeneration.from_pretrained(directory / "audio").model.encoder
    add_adapters(directory, "audio", encoder)
    drop_weight(directory, "audio_tower.base_model.model.layers.1.self_attn.q_proj.lora_B.default.weight")


def adapters_of_nothing(directory: Path) -> None:
    carry_audio(directory)
    say(directory, audio_model_lora_config={"r": 4})


def adapters_of_other_layers(directory: Path) -> None:
    say(directory, text_model_lora_config={"r": 4, "target_modules": ["q_projection"]})


def adapters_of_an_unknown_kind(directory: Path) -> None:
    say(directory, text_model_lora_config={"r": 4, "telepathy": True})


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "an encoder that is no Whisper": (other_audio, "Wav2Vec2Config, and only Whisper's encoder"),
    "a text model that is none": (other_text, "writes by a WhisperConfig, which is no language model"),
    "a carried one that is none": (carried_other_text, "writes by a Wav2Vec2Config"),
    "a recurrent text model": (recurrent_text, "recurrent layers"),
    "no text model": (lambda path: say(path, text_model_id=None), "neither text_model_id nor text_config"),
    "no audio model": (lambda path: say(path, audio_model_id=None), "neither audio_model_id nor audio_config"),
    "a text model that is not there": (lambda path: say(path, text_model_id="nobody/nothing"), "could not be loaded"),
    "no ears": (lambda path: say(path, llm_only_training=True), "llm_only_training"),
    "layers in the projector": (lambda path: say(path, num_projector_layers=2), "num_projector_layers"),
    "an unknown activation": (lambda path: say(path, projector_act="telepathy"), "'telepathy'"),
    "blocks that do not fit": (lambda path: say(path, audio_latency_block_size=7), "does not divide 3000"),
    "no weights": (lambda path: (path / "model.safetensors").unlink(), "has no model"),
    "weights of nothing": (lambda path: add_weights(path, {"a.b": torch.ones(1)}), "'a.b', which is of none"),
    "a projector of another size": (of_another_width, "'linear_1.weight' of its projector that is [48, 256], not [64"),
    "a projector of another layout": (missing_norm, "lacks the weight 'ln_mid.weight' of its projector"),
    "weights of nothing in the projector": (
        lambda path: add_weights(path, {"multi_modal_projector.linear_3.weight": torch.ones(1)}),
        "'linear_3.weight', which its projector has no place for",
    ),
    "weights of nothing in the encoder": (
        lambda path: add_weights(path, {"audio_tower.layers.9.fc1.weight": torch.ones(1)}),
        "'layers.9.fc1.weight', which its audio model has no place for",
    ),
    "a carried encoder with a hole": (missing_encoder_weight, "missing keys in its audio model: layers.1.fc1.weight"),
    "a carried text model with a hole": (missing_text_weight, "layers.1.mlp.up_proj.weight"),
    "a carried encoder of another size": (encoder_of_another_size, "mismatched keys in its audio model"),
    "half an adapter": (missing_adapter, "layers.1.self_attn.q_proj.lora_B.default.weight"),
    "adapters of nobody": (adapters_of_nothing, "adapters, but no audio_model_id"),
    "adapters of layers that are not there": (adapters_of_other_layers, "cannot be put on its text model"),
    "adapters of an unknown kind": (adapters_of_an_unknown_kind, "cannot be put on its text model"),
    "no tokenizer": (lambda path: (path / "tokenizer.json").unlink(), "tokenizer"),
    "no chat template": (lambda path: (path / "chat_template.jinja").unlink(), "has no chat template"),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ultravox")
    ultravox(path)
    return path


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """For a test to break."""
    path = shutil.copytree(original, tmp_path / "copy")
    say(path, text_model_id=str(path / "text"), audio_model_id=str(path / "audio"))
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(copy: Path, name: str) -> None:
    change, why = REFUSED[name]
    change(copy)
    with pytest.raises(ConfigurationError) as caught:
        loaded(copy)
    assert why in caught.value.message
    assert f"'{copy}'" in caught.value.message
    assert "\n" not in caught.value.message


def test_weights_in_several_files(copy: Path, original: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    for number, (name, weight) in enumerate(sorted(weights.items()), start=1):
        save_file({name: weight}, copy / f"model-{number:05}-of-{len(weights):05}.safetensors")
    found, expected = (loaded(path)._model.model.multi_modal_projector.state_dict() for path in (copy, original))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_some_layers_that_were_trained_along(copy: Path, original: Path) -> None:
    """They take the place of the named model's."""
    head = torch.randn(SIZES["vocab_size"], SIZES["hidden_size"], generator=torch.Generator().manual_seed(3))
    add_weights(copy, {"language_model.lm_head.weight": head})
    changed, plain = loaded(copy), loaded(original)
    assert torch.equal(changed._model.model.get_output_embeddings().weight, head)
    assert token_ids(alone(changed, asks("Hello"))) != token_ids(alone(plain, asks("Hello")))


def test_code_that_lies_beside_the_weights_is_not_run(copy: Path) -> None:
    """Published repositories have it, and say so in all their configurations."""
    code = "import pathlib\npathlib.Path(__file__).with_name('was_run').touch()\n" + (
        "from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin\n"
        "class UltravoxConfig(PreTrainedConfig): model_type = 'ultravox'\n"
        "class UltravoxModel(PreTrainedModel): pass\n"
        "class UltravoxProcessor(ProcessorMixin): pass\n"
    )
    marker = copy / "was_run"
    for name in ("ultravox_config", "ultravox_model", "ultravox_processing"):
        (copy / f"{name}.py").write_text(code.replace("__file__", repr(str(copy / name))))
    auto_map = {
        "AutoConfig": "ultravox_config.UltravoxConfig",
        "AutoModel": "ultravox_model.UltravoxModel",
        "AutoProcessor": "ultravox_processing.UltravoxProcessor",
    }
    say(copy, auto_map=auto_map)
    tokenizer = json.loads((copy / "tokenizer_config.json").read_text())
    tokenizer.update(auto_map={"AutoProcessor": auto_map["AutoProcessor"]}, processor_class="UltravoxProcessor")
    (copy / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert token_ids(alone(loaded(copy), asks("Hello")))
    assert not marker.exists()
