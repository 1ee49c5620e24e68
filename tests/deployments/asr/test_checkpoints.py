"""Whisper from both kinds of directory: what CTranslate2's own converter writes is read back as what it was made of."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ctranslate2.converters import TransformersConverter
from huggingface_hub.errors import HfHubHTTPError
from transformers import WhisperForConditionalGeneration

from deployments.asr import checkpoints
from deployments.asr.checkpoints import load_whisper
from deployments.asr.engine import AsrEngineArgs
from deployments.asr.whisper import WhisperEngine
from models.sources import resolve
from pipelines.errors import ConfigurationError
from tests.conftest import ROOT
from tests.support.whisper_checkpoints import save_whisper

VOCABULARY = {"whisper-base": 51_865, "whisper-tiny.en": 51_864}
NUM_FRAMES = 3_000
RESPONSE: Any = SimpleNamespace(headers={}, request=None)


@pytest.fixture(scope="module", params=VOCABULARY, ids=["multilingual", "english"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With weights so small that rounding them changes little."""
    directory = tmp_path_factory.mktemp("original")
    save_whisper(directory, request.param, std=0.06)
    return directory


def converted(original: Path, quantization: str) -> Path:
    """As faster-whisper's repositories have it."""
    directory = original.parent / f"{original.name}-{quantization}"
    if not directory.exists():
        converter = TransformersConverter(str(original), copy_files=["tokenizer.json"])
        converter.convert(str(directory), quantization=quantization)
    return directory


@torch.inference_mode()
def logits(model: WhisperForConditionalGeneration) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 80, NUM_FRAMES, generator=generator)
    token_ids = torch.randint(0, 50_000, (2, 9), generator=generator)
    return model.eval()(input_features=features, decoder_input_ids=token_ids).logits


@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [("float16", 0.02), ("bfloat16", 0.1), ("int8", 0.1), ("int8_float16", 0.1)],
)
def test_the_logits_are_those_of_the_original(original: Path, quantization: str, tolerance: float) -> None:
    expected = logits(WhisperForConditionalGeneration.from_pretrained(original, dtype=torch.float32))
    read = logits(load_whisper(str(converted(original, quantization)), torch.float32).model)
    assert expected.std() > 0.1
    assert ((read - expected).abs().max() / expected.std()).item() < tolerance


def test_what_the_checkpoint_says_of_its_tokens_comes_along(original: Path) -> None:
    directory = converted(original, "float16")
    said = json.loads((directory / "config.json").read_text())
    said["alignment_heads"] = [[1, 0], [1, 3]]
    (directory / "config.json").write_text(json.dumps(said))
    checkpoint = load_whisper(str(directory), torch.float16)
    config = checkpoint.model.generation_config
    assert checkpoint.model.dtype == torch.float16
    assert config.suppress_tokens == [1, 2, 7]
    assert config.begin_suppress_tokens == [220]
    assert config.alignment_heads == [[1, 0], [1, 3]]
    assert config.is_multilingual == (checkpoint.model.config.vocab_size == 51_865)


def test_large_v3_s_features_come_from_its_own_file(original: Path, tmp_path: Path) -> None:
    directory = tmp_path / "v3"
    shutil.copytree(converted(original, "float16"), directory)
    (directory / "preprocessor_config.json").write_text(json.dumps({"feature_size": 128, "chunk_length": 30}))
    assert load_whisper(str(directory), torch.float32).features.feature_size == 128


def test_published_weights_are_told_apart() -> None:
    engines = {name: WhisperEngine(AsrEngineArgs(resolve(f"embedded:{name}"))) for name in VOCABULARY}
    assert engines["whisper-base"].info.tasks == {"transcribe", "translate"}
    assert len(engines["whisper-base"].info.languages) == 99
    assert engines["whisper-tiny.en"].info.tasks == {"transcribe"}
    assert engines["whisper-tiny.en"].info.languages == {"en"}


def test_a_directory_without_a_tokenizer_is_lent_openai_s(
    original: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What `ct2-transformers-converter` writes unless it is told to copy files."""
    directory = tmp_path / "bare"
    shutil.copytree(converted(original, "float16"), directory)
    own = load_whisper(str(directory), torch.float32)
    (directory / "tokenizer.json").unlink()
    caplog.set_level("INFO", "ray.serve")
    lent = load_whisper(str(directory), torch.float32)
    assert lent.tokenizer.get_vocab() == own.tokenizer.get_vocab()
    assert lent.model.generation_config.to_dict() == own.model.generation_config.to_dict()
    assert "has no tokenizer.json: OpenAI's is taken, of the embedded model whisper-" in caplog.text


def test_large_v3_s_tokenizer_cannot_be_lent(original: Path, tmp_path: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(original)
    model.resize_token_embeddings(51_866)
    model.save_pretrained(tmp_path / "v3")
    shutil.copy(original / "tokenizer.json", tmp_path / "v3")
    TransformersConverter(str(tmp_path / "v3")).convert(str(tmp_path / "bare"))
    with pytest.raises(
        ConfigurationError, match=r"has no tokenizer\.json, and there is none here for a vocabulary of 51866\."
    ):
        load_whisper(str(tmp_path / "bare"), torch.float32)


def renamed(path: Path, old: bytes, new: bytes) -> None:
    """A name in `model.bin` for another one as long."""
    data = path.read_bytes()
    assert data.count(old + b"\0") == 1
    path.write_bytes(data.replace(old + b"\0", new + b"\0"))


def swapped(path: Path) -> None:
    """Two biases of different lengths under each other's names."""
    first, second = (f"encoder/layer_0/ffn/linear_{number}/bias".encode() for number in (0, 1))
    other = first.replace(b"bias", b"none")
    for old, new in ((first, other), (second, first), (other, second)):
        renamed(path, old, new)


@pytest.mark.parametrize(
    ("encoder_layers", "decoder_layers", "tasks"),
    [(4, 4, {"transcribe", "translate"}), (4, 2, {"transcribe"}), (8, 1, {"transcribe"})],
)
def test_trl_03_turbo_and_distilled_ones_are_known_by_their_shape(
    tmp_path: Path, encoder_layers: int, decoder_layers: int, tasks: set[str]
) -> None:
    """Whatever they are called, in either form."""
    (tmp_path / "own").mkdir()
    save_whisper(tmp_path / "own", encoder_layers=encoder_layers, decoder_layers=decoder_layers)
    for directory in (tmp_path / "own", converted(tmp_path / "own", "float16")):
        assert WhisperEngine(AsrEngineArgs(str(directory))).info.tasks == tasks


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100_000]), "it is cut off"),
        (lambda path: path.write_bytes(b""), "it is"),
        (lambda path: path.write_bytes(b"PK\3\4" + bytes(1_000)), "its version is"),
        (lambda path: path.with_name("tokenizer.json").write_text("{"), "tokenizer.json is not as"),
        (lambda path: path.with_name("config.json").unlink(), "has no config.json"),
        (lambda path: path.with_name("config.json").write_text("{"), "config.json is not as"),
        (lambda path: path.with_name("config.json").write_text("[]"), "config.json is not as"),
        (lambda path: path.with_name("preprocessor_config.json").write_text("{"), "preprocessor_config.json is not as"),
        (lambda path: renamed(path, b"WhisperSpec", b"BartSpecial"), "it is no Whisper but a BartSpecial"),
        (
            lambda path: renamed(path, b"encoder/conv1/weight", b"encoder/conv9/weight"),
            "it has no encoder/conv1/weight",
        ),
        (
            lambda path: renamed(path, b"decoder/layer_0/ffn/linear_1/bias", b"decoder/layer_0/ffn/linear_9/bias"),
            "it has no",
        ),
        (swapped, "size mismatch for model.encoder.layers.0.fc1.bias"),
    ],
    ids=[
        "cut",
        "empty",
        "other",
        "broken tokenizer",
        "no config",
        "broken config",
        "a list for a config",
        "broken features",
        "other kind",
        "no convolution",
        "no bias",
        "weights that do not fit",
    ],
)
def test_a_damaged_directory_is_one_clear_sentence(original: Path, tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    directory = tmp_path / "damaged"
    shutil.copytree(converted(original, "float16"), directory)
    damage(directory / "model.bin")
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_whisper(str(directory), torch.float32)
    assert "\n" not in caught.value.message
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize(
    ("failing", "error", "message"),
    [
        ("model.bin", OSError(28, "No space left on device"), "model.bin of 'some/one' .* No space left on device"),
        ("model.bin", RuntimeError("the connection broke"), "model.bin of 'some/one' .* the connection broke"),
        ("tokenizer.json", HfHubHTTPError("502 Bad Gateway", response=RESPONSE), "tokenizer.json of .*502"),
        ("config.json", OSError(28, "No space left on device"), "config.json of 'some/one' .* No space left on device"),
    ],
)
def test_a_download_that_fails_is_one_clear_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failing: str, error: Exception, message: str
) -> None:
    def download(source: str, name: str) -> str:
        if name == failing:
            raise error
        return str(tmp_path / name)

    monkeypatch.setattr(checkpoints, "hf_hub_download", download)
    with pytest.raises(ConfigurationError, match=message):
        load_whisper("some/one", torch.float32)


def test_no_checkpoint_at_all_is_one_clear_sentence(tmp_path: Path) -> None:
    for source in (str(tmp_path), "nobody/nothing"):
        with pytest.raises(ConfigurationError, match="could not be loaded"):
            load_whisper(source, torch.float32)


def test_a_repository_of_the_hub_may_have_either_form(original: Path, tmp_path: Path) -> None:
    """As the hub's client keeps it: somebody who has downloaded `Systran/faster-whisper-…` has this."""
    repository = tmp_path / "models--someone--faster-whisper-small"
    shutil.copytree(converted(original, "float16"), repository / "snapshots" / "0123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    program = (
        "import torch; from deployments.asr.checkpoints import load_whisper; "
        "print(load_whisper('someone/faster-whisper-small', torch.float32).model.config.d_model)"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "64\n"
