"""What the diarization recipe hears of a folder of readers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from deployments.audio.reader import read_clip
from deployments.audio.silero import SileroModel
from models.training.corpus.utterances import SAMPLE_RATE
from models.training.diarization.material import Material, gather
from models.training.diarization.settings import SMOKE
from pipelines.types import DecodeLimits
from tests.conftest import ROOT

CLIPS = sorted((ROOT / "tests" / "data" / "conversations" / "references").iterdir())[:4]
SETTINGS = replace(SMOKE, max_variants=3, synthetic_utterances=1, backgrounds=1, pitches=(0.9, 1.14))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four readers, named as in LibriSpeech."""
    folder = tmp_path_factory.mktemp("readers")
    for number, path in enumerate(CLIPS):
        samples = read_clip(path.read_bytes(), SileroModel(), DecodeLimits(max_duration_s=10)).speech.samples
        soundfile.write(folder / f"{number}-1-0000.flac", samples, SAMPLE_RATE)
    return folder


@pytest.fixture(scope="module")
def material(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Material:
    return gather(tmp_path_factory.mktemp("work"), SETTINGS, folder, None)


def test_readers_are_heard_at_other_pitches(material: Material) -> None:
    assert len(material.voices["readers"]) == 2
    for voice in material.voices["readers"]:
        natural, *moved = voice.recordings
        assert len(moved) == len(SETTINGS.pitches)
        for other in moved:
            assert other.regions == natural.regions
            assert len(other.samples) == len(natural.samples)
            assert not np.array_equal(other.samples, natural.samples)


def test_readers_who_are_kept_back_are_heard_as_they_are(material: Material) -> None:
    assert [len(voice.recordings) for voice in material.kept_back["readers"]] == [1, 1]


def test_what_took_time_is_made_once(folder: Path, tmp_path: Path) -> None:
    def kept() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    gather(tmp_path, SETTINGS, folder, None)
    before = kept()
    assert set(before) == {"synthetic.npz", "readers.npz", "pitches.npz"}
    gather(tmp_path, SETTINGS, folder, None)
    assert kept() == before
    gather(tmp_path, replace(SETTINGS, pitches=(1.1,)), folder, None)
    assert {name for name, when in kept().items() if when != before[name]} == {"pitches.npz"}
