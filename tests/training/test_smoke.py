"""Each recipe from nothing, in its tiny size: what it writes is loaded as the server loads it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor

from deployments.asr.transformers_whisper import TransformersWhisper
from deployments.diarization.engine import DiarizerArgs
from deployments.diarization.pyannote import PyannoteDiarizer
from deployments.engines import EngineArgs
from models.training.whisper.recipe import blend
from models.training.whisper.recipe import train as train_whisper
from models.training.whisper.settings import SMOKE
from pipelines.types import SAMPLE_RATE_HZ, AudioChunk, AudioWindow, DecodingOptions, Waveform

ROOT = Path(__file__).parent.parent.parent
TONE = np.sin(np.arange(2 * SAMPLE_RATE_HZ) * 0.2).astype(np.float32) * np.float32(0.3)


@dataclass(frozen=True)
class Made:
    """A recipe's smoke run: the checkpoint, and what the run keeps."""

    recipe: str
    checkpoint: Path
    work: Path

    def run(self, *options: str) -> None:
        command = [sys.executable, "-m", "models.training", self.recipe, "--smoke", "--processes", "1"]
        done = subprocess.run(
            [*command, "--out", str(self.checkpoint), "--work", str(self.work), *options],
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-4000:]

    def logs(self) -> dict[Path, str]:
        return {path: path.read_text() for path in sorted(self.work.rglob("log.jsonl"))}

    def speech(self) -> dict[Path, int]:
        """The files with what was synthesised, and when they were written."""
        kept = [path for path in self.work.rglob("*") if path.suffix in (".pcm", ".npz")]
        return {path: path.stat().st_mtime_ns for path in sorted(kept)}


def hear_with_whisper(checkpoint: Path) -> None:
    engine = TransformersWhisper(EngineArgs(str(checkpoint), "cpu", "float32", num_threads=1))
    assert engine.info.languages == {"en", "de", "es", "fr"}
    assert engine.info.tasks == {"transcribe", "translate"}
    engine.add("one", AudioChunk(0, 0.0, Waveform(TONE)), DecodingOptions(max_tokens=4))
    finished = engine.step()
    while not finished:
        finished = engine.step()
    assert finished[0].result.language in engine.info.languages


def ask_the_chat(checkpoint: Path) -> None:
    model = AutoModelForMultimodalLM.from_pretrained(checkpoint, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(checkpoint)
    question = [{"type": "audio", "audio": TONE}, {"type": "text", "text": "What's in this audio?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    inputs = processor(text=text, audio=[TONE], sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=4)
    assert inputs["input_ids"].shape[1] < tokens.shape[1] <= inputs["input_ids"].shape[1] + 4


def diarize(checkpoint: Path) -> None:
    diarizer = PyannoteDiarizer(DiarizerArgs(str(checkpoint)))
    window = AudioWindow(0, 0.0, (TONE * 32767).astype(np.int16))
    diarization = diarizer.diarize(window, lambda: False)
    assert all(0 <= turn.start_s < turn.end_s <= 2.1 for turn in diarization.turns)


USES = {"whisper": hear_with_whisper, "chat": ask_the_chat, "diarization": diarize}


@pytest.fixture(scope="module", params=list(USES))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp(request.param)
    made = Made(request.param, folder / "checkpoint", folder / "work")
    made.run()
    return made


def test_what_it_writes_is_served(made: Made) -> None:
    use: Callable[[Path], None] = USES[made.recipe]
    use(made.checkpoint)


def test_the_same_command_does_not_train_again(made: Made) -> None:
    logs, speech = made.logs(), made.speech()
    assert logs
    assert speech
    made.run()
    assert made.logs() == logs
    assert made.speech() == speech


@pytest.mark.parametrize("made", ["whisper"], indirect=True)
def test_whisper_goes_on_from_a_checkpoint_at_a_stage(made: Made, tmp_path: Path) -> None:
    again = Made("whisper", tmp_path / "checkpoint", tmp_path / "work")
    shutil.copytree(made.work / "smoke" / "speech", again.work / "smoke" / "speech")
    again.run("--start", str(made.checkpoint), "--stage", "fill", "--keep", "0.5", "--seed", "1")
    assert {path.parent.name for path in again.logs()} == {"fill", "decode"}
    hear_with_whisper(again.checkpoint)


def test_what_is_kept_is_of_a_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to keep"):
        train_whisper(tmp_path / "checkpoint", tmp_path / "work", SMOKE, keep=0.5)


def test_blended_weights_lie_between() -> None:
    model, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    expected = 0.75 * model.weight.detach() + 0.25 * other.weight.detach()
    blend(model, other, 0.25)
    assert torch.allclose(model.weight, expected)


def test_an_unknown_stage_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no stage 'play', only align, read, fill, decode"):
        train_whisper(tmp_path / "checkpoint", tmp_path / "work", SMOKE, stage="play")
    assert not list(tmp_path.iterdir())
