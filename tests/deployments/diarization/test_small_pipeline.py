"""The pipeline of the embedded checkpoint between its networks: windows, batches, and how many speak at once."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.scoring import Conversation
from deployments.diarization.loading import load_pipeline
from deployments.diarization.small_pipeline import SmallSpeakerDiarization
from pipelines.audio import from_pcm
from pipelines.types import SAMPLE_RATE_HZ, PcmSamples

Conversations = dict[str, Conversation]

FRAME_S = 0.02
WINDOW_S, HOP_S = 1.5, 0.3
MAX_AT_ONCE = 2


@pytest.fixture(scope="module")
def pipeline(checkpoint: Path) -> SmallSpeakerDiarization:
    torch.set_num_threads(1)
    loaded = load_pipeline(str(checkpoint))
    assert isinstance(loaded, SmallSpeakerDiarization)
    loaded.segmentation_batch_size = loaded.embedding_batch_size = 16
    return loaded


def file_of(pcm: PcmSamples) -> dict[str, Any]:
    return {"waveform": torch.from_numpy(from_pcm(pcm))[None], "sample_rate": SAMPLE_RATE_HZ, "uri": "test"}


def embed(pipeline: SmallSpeakerDiarization, file: Mapping[str, Any], batch_size: int) -> NDArray[np.float32]:
    before = pipeline.embedding_batch_size
    pipeline.embedding_batch_size = batch_size
    try:
        return pipeline.get_embeddings(file, pipeline.get_segmentations(file), exclude_overlap=True)
    finally:
        pipeline.embedding_batch_size = before


def most_at_once(turns: Any) -> int:
    """The most labels of an annotation at any instant."""
    edges = sorted(edge for segment in turns.itersegments() for edge in ((segment.end, -1), (segment.start, 1)))
    return int(max(np.cumsum([step for _, step in edges]), default=0))


@pytest.mark.parametrize("name", ["libri-04", "tst00"])
def test_a_window_s_embedding_does_not_depend_on_its_batch(
    pipeline: SmallSpeakerDiarization, conversations: Conversations, name: str
) -> None:
    file = file_of(conversations[name].window().pcm[: 24 * SAMPLE_RATE_HZ])
    first, *others = (embed(pipeline, file, batch_size) for batch_size in (16, 1, 1_000))
    assert np.isfinite(first).any()
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-4)


def test_a_window_s_embedding_does_not_depend_on_its_place(
    pipeline: SmallSpeakerDiarization, conversations: Conversations
) -> None:
    """The windows' masks come from a network that hears 10 s, so they differ a little."""
    pcm = conversations["libri-01"].window().pcm[: 40 * SAMPLE_RATE_HZ]
    skipped = 40
    whole = embed(pipeline, file_of(pcm), 16)
    rest = embed(pipeline, file_of(pcm[round(skipped * HOP_S * SAMPLE_RATE_HZ) :]), 16)
    shared = min(len(whole) - skipped, len(rest))
    cosines = (whole[skipped : skipped + shared] * rest[:shared]).sum(axis=2)
    cosines = cosines[np.isfinite(cosines)]
    assert len(cosines) > shared / 2
    assert np.median(cosines) > 0.99


def test_embeddings_have_length_one_and_silence_has_none(
    pipeline: SmallSpeakerDiarization, conversations: Conversations
) -> None:
    speech = conversations["talk"].window().pcm[: 12 * SAMPLE_RATE_HZ]
    file = file_of(np.concatenate([speech, np.zeros(20 * SAMPLE_RATE_HZ, np.int16)]))
    embeddings = embed(pipeline, file, 16)
    assert embeddings.shape[1:] == (1, 128)
    is_spoken = pipeline.get_segmentations(file).data.any(axis=(1, 2))
    assert is_spoken[: int(8 / HOP_S)].any()
    assert not is_spoken[-int(10 / HOP_S) :].any()
    np.testing.assert_allclose(np.linalg.norm(embeddings[is_spoken], axis=2), 1, atol=1e-5)
    assert np.isnan(embeddings[~is_spoken]).all()


@pytest.mark.parametrize("num_samples", [1, 320, 16_000, 24_000, 24_001, 100_000, 480_000])
def test_windows_cover_all_of_the_audio(pipeline: SmallSpeakerDiarization, num_samples: int) -> None:
    windows = pipeline.get_segmentations(file_of(np.zeros(num_samples, np.int16)))
    num_windows, num_frames, num_speakers = windows.data.shape
    assert (num_frames, num_speakers) == (WINDOW_S / FRAME_S, 1)
    assert windows.sliding_window.duration == pytest.approx(WINDOW_S)
    assert windows.sliding_window.step == pytest.approx(HOP_S)
    end_s = (num_windows - 1) * HOP_S + WINDOW_S
    assert end_s >= num_samples / SAMPLE_RATE_HZ - FRAME_S
    assert num_windows == 1 or end_s - HOP_S < num_samples / SAMPLE_RATE_HZ + FRAME_S


@pytest.mark.parametrize(
    ("name", "num_speakers"), [("monologue", None), ("tst00", 1), ("tst00", 2), ("libri-04", None)]
)
def test_never_do_more_speak_at_once_than_there_are(
    pipeline: SmallSpeakerDiarization, conversations: Conversations, name: str, num_speakers: int | None
) -> None:
    output = pipeline(file_of(conversations[name].window().pcm), num_speakers=num_speakers)
    labels = output.speaker_diarization.labels()
    assert num_speakers is None or len(labels) <= num_speakers
    assert most_at_once(output.speaker_diarization) <= min(len(labels), MAX_AT_ONCE)
    assert most_at_once(output.exclusive_speaker_diarization) == 1
    assert len(output.speaker_embeddings) == len(labels)
    assert np.any(output.speaker_embeddings, axis=1).all()


def test_the_count_is_of_people_not_of_windows(pipeline: SmallSpeakerDiarization, conversations: Conversations) -> None:
    steps: dict[str, Any] = {}

    def keep(name: str, artifact: Any, **_: Any) -> None:
        if artifact is not None:
            steps[name] = deepcopy(artifact)  # pyannote changes it afterwards

    window = conversations["tst00"].window()
    pipeline(file_of(window.pcm), hook=keep)
    count = steps["speaker_counting"].data
    assert len(count) == pytest.approx(window.end_s / FRAME_S, abs=1)
    assert set(np.unique(count)) == {0, 1, 2}


def test_the_hook_hears_of_every_batch(pipeline: SmallSpeakerDiarization, conversations: Conversations) -> None:
    """Cancelling rests on it."""
    heard: list[tuple[str, int | None]] = []
    file = file_of(conversations["talk"].window().pcm)
    pipeline(file, hook=lambda name, *_, completed=None, **__: heard.append((name, completed)))
    embedded = [completed for name, completed in heard if name == "embeddings" and completed is not None]
    num_spoken = int(pipeline.get_segmentations(file).data.any(axis=(1, 2)).sum())
    assert embedded == list(range(-(-num_spoken // pipeline.embedding_batch_size)))
    assert [name for name, _ in heard if name == "segmentation"]
