"""The embedded pipeline between its networks: windows, streams, batches, and how many speak at once."""

from collections.abc import Mapping
from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pyannote.core import SlidingWindow, SlidingWindowFeature

from benchmarks.scoring import Conversation
from deployments.diarization.campplus import DIMENSION, load_campplus
from deployments.diarization.embedding import CamPlusPlusEmbedding
from deployments.diarization.features import FEATURE_TIMES_S
from deployments.diarization.loading import load_pipeline
from deployments.diarization.windowed_pipeline import EMBEDDING_FILE, WindowedSpeakerDiarization
from deployments.diarization.windows import MIN_SOLO_S, Stream, Windows
from pipelines.audio import from_pcm
from pipelines.audio_types import SAMPLE_RATE_HZ, PcmSamples

Conversations = dict[str, Conversation]

FRAMES = SlidingWindow(start=0.0, duration=0.061_937_5, step=0.016_875)
FRAMES_PER_CHUNK = 589
CHUNK_S, CHUNK_HOP_S = 10.0, 2.0
WINDOW_S, HOP_S, SHARED_S = 3.0, 1.0, 4.0
MAX_AT_ONCE = 2


@pytest.fixture(scope="module")
def pipeline(checkpoint: Path) -> WindowedSpeakerDiarization:
    torch.set_num_threads(1)
    loaded = load_pipeline(str(checkpoint))
    assert isinstance(loaded, WindowedSpeakerDiarization)
    loaded.segmentation_batch_size = loaded.embedding_batch_size = 8
    return loaded


def file_of(pcm: PcmSamples) -> dict[str, Any]:
    return {"waveform": torch.from_numpy(from_pcm(pcm))[None], "sample_rate": SAMPLE_RATE_HZ, "uri": "test"}


def embed(pipeline: WindowedSpeakerDiarization, file: Mapping[str, Any], windows: Windows) -> NDArray[np.float32]:
    return pipeline.get_embeddings(file, windows, exclude_overlap=True)


def most_at_once(turns: Any) -> int:
    """The most labels of an annotation at any instant."""
    edges = sorted(edge for segment in turns.itersegments() for edge in ((segment.end, -1), (segment.start, 1)))
    return int(max(np.cumsum([step for _, step in edges]), default=0))


# windows


def windows_of(duration_s: float, *turns: tuple[int, float, float], hop_s: float = HOP_S) -> Windows:
    """Of (speaker, start_s, end_s), as a segmentation would hear them that numbers everybody alike in all chunks."""
    num_chunks = 1 + max(0, int(np.ceil((duration_s - CHUNK_S) / CHUNK_HOP_S)))
    times_s = CHUNK_HOP_S * np.arange(num_chunks)[:, None] + (
        np.arange(FRAMES_PER_CHUNK) * FRAMES.step + FRAMES.duration / 2
    )
    heard = np.zeros((num_chunks, FRAMES_PER_CHUNK, 3), np.float32)
    for speaker, start_s, end_s in turns:
        heard[..., speaker] += (times_s >= start_s) & (times_s < end_s)
    chunks = SlidingWindowFeature(heard, SlidingWindow(start=0.0, duration=CHUNK_S, step=CHUNK_HOP_S))
    return Windows(chunks, FRAMES, duration_s, WINDOW_S, hop_s, SHARED_S)


@pytest.mark.parametrize("duration_s", [0.01, 2.9, 3.0, 3.1, 9.9, 10.0, 11.0, 31.7, 300.0])
@pytest.mark.parametrize("hop_s", [0.5, 1.0, 3.0])
def test_windows_cover_all_of_the_audio(duration_s: float, hop_s: float) -> None:
    windows = windows_of(duration_s, (0, 0.0, duration_s), hop_s=hop_s)
    num_windows, num_frames, num_speakers = windows.data.shape
    assert (num_frames, num_speakers) == (round(WINDOW_S / FRAMES.step), 3)
    assert windows.sliding_window.step == pytest.approx(hop_s, abs=FRAMES.step)
    end_s = windows.sliding_window[num_windows - 1].end
    assert end_s >= duration_s
    assert num_windows == 1 or end_s - windows.sliding_window.step < duration_s + FRAMES.step
    for number, window in enumerate(windows.data[..., 0]):
        expected_s = np.clip(duration_s - windows.sliding_window[number].start, 0, WINDOW_S)
        assert window.sum() * FRAMES.step == pytest.approx(expected_s, abs=4 * FRAMES.step)


def test_a_window_hears_what_is_said_in_it() -> None:
    windows = windows_of(60.0, (0, 4.0, 20.3), (1, 20.0, 41.5), (2, 58.0, 60.0))
    for number, window in enumerate(windows.data):
        start_s = windows.sliding_window[number].start
        for speaker, (first_s, last_s) in enumerate([(4.0, 20.3), (20.0, 41.5), (58.0, 60.0)]):
            heard_s = max(0.0, min(last_s, start_s + WINDOW_S) - max(first_s, start_s))
            assert window[:, speaker].sum() * FRAMES.step == pytest.approx(heard_s, abs=4 * FRAMES.step)


def test_streams_are_of_one_speaker_alone() -> None:
    turns = {0: (4.0, 20.3), 1: (20.0, 41.5)}
    windows = windows_of(60.0, *((speaker, *times_s) for speaker, times_s in turns.items()))
    heard: dict[int, set[int]] = {}
    for stream in windows.streams(5_998, FEATURE_TIMES_S):
        heard.setdefault(stream.speaker, set()).update(stream.features.tolist())
        assert np.all(np.diff(stream.features) > 0)
        assert all(0 <= first <= last <= len(stream.features) for _, first, last in stream.windows)
    expected = {0: (4.0, 20.0), 1: (20.3, 41.5)}
    assert set(heard) == set(expected)
    for speaker, (start_s, end_s) in expected.items():
        times_s = FEATURE_TIMES_S.duration / 2 + FEATURE_TIMES_S.step * np.array(sorted(heard[speaker]))
        assert (times_s.min(), times_s.max()) == pytest.approx((start_s, end_s), abs=2 * FRAMES.step)
        assert len(times_s) * FEATURE_TIMES_S.step == pytest.approx(end_s - start_s, abs=4 * FRAMES.step)


def test_who_is_never_alone_is_heard_with_others() -> None:
    windows = windows_of(10.0, (0, 0.0, 10.0), (1, 4.0, 5.0))
    streams = {stream.speaker: stream for stream in windows.streams(998, FEATURE_TIMES_S)}
    assert len(streams[1].features) == pytest.approx(100, abs=4)
    assert len(streams[1].features) > MIN_SOLO_S / FEATURE_TIMES_S.step


def test_each_window_of_a_stream_has_its_own_time() -> None:
    windows = windows_of(30.0, (0, 0.0, 30.0))
    found = {
        window: stream.features[first:last]
        for stream in windows.streams(2_998, FEATURE_TIMES_S)
        for window, first, last in stream.windows
    }
    assert sorted(found) == list(range(len(windows.data)))
    for window, features in found.items():
        start_s = windows.sliding_window[window].start
        assert features[0] * FEATURE_TIMES_S.step == pytest.approx(start_s, abs=0.04)
        # half a frame of the segmentation is missing at each end of a chunk
        assert len(features) == pytest.approx(min(WINDOW_S, 30 - start_s) / FEATURE_TIMES_S.step, abs=8)


# embeddings


@pytest.fixture(scope="module")
def excerpt(conversations: Conversations) -> dict[str, Any]:
    return file_of(conversations["libri-04"].window().pcm[: 20 * SAMPLE_RATE_HZ])


def test_a_window_s_embedding_does_not_depend_on_its_batch(
    pipeline: WindowedSpeakerDiarization, excerpt: dict[str, Any]
) -> None:
    windows, found = pipeline.get_segmentations(excerpt), []
    for batch_size in (8, 1, 1_000):
        pipeline.embedding_batch_size = batch_size
        found.append(embed(pipeline, excerpt, windows))
    pipeline.embedding_batch_size = 8
    assert np.isfinite(found[0]).any()
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-4)


def test_windows_heard_together_are_what_the_network_makes_of_their_span(checkpoint: Path) -> None:
    """In the published layers, one span after the other, and one window after the other."""
    path = checkpoint / "embedding" / EMBEDDING_FILE
    network: Any = load_campplus(path)
    features = 3 * torch.randn(700, 80, generator=torch.Generator().manual_seed(0))
    spans = [((0, 0, 300), (1, 100, 410)), ((2, 210, 500), (3, 300, 300)), ((4, 350, 600),)]
    windows = tuple(window for span in spans for window in span)
    streams = [Stream(speaker, np.arange(start, start + 600), windows) for speaker, start in ((0, 0), (2, 100))]
    embedding = CamPlusPlusEmbedding(path)
    found = {
        (window, speaker): voice
        for step in embedding.streams(features, streams, num_together=2, batch_size=3)
        for window, speaker, voice in step
    }
    assert found.keys() == {(window, speaker) for window in (0, 1, 2, 4) for speaker in (0, 2)}
    for stream in streams:
        heard = features[torch.from_numpy(stream.features)]
        with torch.inference_mode():
            frames = network.xvector.tdnn(network.head((heard - heard.mean(dim=0))[None]))
            for span in spans:
                start, end = span[0][1], span[-1][2]
                hidden = frames[..., start // 2 : start // 2 + (end - start) // 10 * 5]
                for name, part in network.xvector.named_children():
                    hidden = part(hidden) if name not in {"tdnn", "stats", "dense"} else hidden
                for window, first, last in span:
                    if last > first:
                        cut = hidden[..., (first - start) // 2 : (last - start) // 2]
                        voice = F.normalize(network.xvector.dense(network.xvector.stats(cut)))[0].numpy()
                        assert voice @ found[window, stream.speaker] > 0.9999


@pytest.mark.parametrize(("num_together", "num_spans"), [(1, 2), (2, 3)])
def test_the_same_frames_are_heard_once(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, num_together: int, num_spans: int
) -> None:
    embedding, num_heard = CamPlusPlusEmbedding(checkpoint / "embedding" / EMBEDDING_FILE), []
    layers = embedding.network.layers

    def count(frames: torch.Tensor) -> torch.Tensor:
        num_heard.append(len(frames))
        return layers(frames)

    monkeypatch.setattr(embedding.network, "layers", count)
    places = [(0, 200), (0, 200), (0, 200), (0, 200), (0, 200), (100, 300), (100, 300)]
    stream = Stream(0, np.arange(300), tuple((window, *place) for window, place in enumerate(places)))
    features = 3 * torch.randn(300, 80, generator=torch.Generator().manual_seed(0))
    steps = embedding.streams(features, [stream], num_together, batch_size=4)
    found = {window: voice for step in steps for window, _, voice in step}
    assert sum(num_heard) == num_spans
    assert sorted(found) == list(range(7))
    lone = replace(stream, windows=stream.windows[:1])
    ((_, _, voice),) = (one for step in embedding.streams(features, [lone], 1, batch_size=4) for one in step)
    for window in range(4):
        np.testing.assert_allclose(found[window], voice, atol=1e-5)


@pytest.mark.parametrize(
    ("hop_s", "together_s", "num_together"), [(1.0, 4.0, 2), (0.5, 4.0, 3), (1.0, 3.0, 1), (2.0, 4.0, 1), (3.0, 2.0, 1)]
)
def test_windows_are_heard_together_that_are_close(
    pipeline: WindowedSpeakerDiarization, hop_s: float, together_s: float, num_together: int
) -> None:
    heard = copy(pipeline)
    heard.hop_s, heard.together_s = hop_s, together_s
    assert heard.num_together == num_together


def test_embeddings_have_length_one_and_silence_has_none(
    pipeline: WindowedSpeakerDiarization, conversations: Conversations
) -> None:
    speech = conversations["talk"].window().pcm[: 12 * SAMPLE_RATE_HZ]
    file = file_of(np.concatenate([speech, np.zeros(20 * SAMPLE_RATE_HZ, np.int16)]))
    windows = pipeline.get_segmentations(file)
    embeddings = embed(pipeline, file, windows)
    assert embeddings.shape == (*windows.data.shape[::2], DIMENSION)
    seconds_heard = windows.data.sum(axis=1) * FRAMES.step
    assert (seconds_heard[:8].max(axis=1) > 1).all()
    assert not seconds_heard[-int(14 / HOP_S) :].any()
    np.testing.assert_allclose(np.linalg.norm(embeddings[seconds_heard > 1], axis=1), 1, atol=1e-5)
    assert np.isnan(embeddings[-int(14 / HOP_S) :]).all()


def test_one_speaker_s_windows_are_alike(pipeline: WindowedSpeakerDiarization, conversations: Conversations) -> None:
    file = file_of(conversations["monologue"].window().pcm[: 20 * SAMPLE_RATE_HZ])
    windows = pipeline.get_segmentations(file)
    embeddings = embed(pipeline, file, windows)[windows.data.sum(axis=1) * FRAMES.step > 2]
    assert len(embeddings) >= 5
    assert np.median(embeddings @ embeddings.T) > 0.6


# turns


@pytest.mark.parametrize(("name", "num_speakers"), [("monologue", None), ("tst00", 1), ("tst00", 2), ("tst00", None)])
def test_never_do_more_speak_at_once_than_there_are(
    pipeline: WindowedSpeakerDiarization, conversations: Conversations, name: str, num_speakers: int | None
) -> None:
    output = pipeline(file_of(conversations[name].window().pcm[: 30 * SAMPLE_RATE_HZ]), num_speakers=num_speakers)
    labels = output.speaker_diarization.labels()
    assert num_speakers is None or len(labels) <= num_speakers
    assert most_at_once(output.speaker_diarization) <= min(len(labels), MAX_AT_ONCE)
    assert most_at_once(output.exclusive_speaker_diarization) == 1
    assert len(output.speaker_embeddings) == len(labels)
    assert np.any(output.speaker_embeddings, axis=1).all()


def test_the_count_is_of_people_not_of_windows(
    pipeline: WindowedSpeakerDiarization, conversations: Conversations
) -> None:
    steps: dict[str, Any] = {}

    def keep(name: str, artifact: Any, **_: Any) -> None:
        if artifact is not None:
            steps[name] = deepcopy(artifact)  # pyannote changes it afterwards

    window = conversations["tst00"].window()
    pipeline(file_of(window.pcm), hook=keep)
    count = steps["speaker_counting"].data
    assert window.end_s <= len(count) * FRAMES.step < window.end_s + CHUNK_S
    assert set(np.unique(count)) == {0, 1, 2}


def test_the_hook_hears_of_every_chunk_and_batch(
    pipeline: WindowedSpeakerDiarization, conversations: Conversations
) -> None:
    """Cancelling rests on it."""
    heard: list[tuple[str, int, int]] = []

    def listen(name: str, *_: Any, completed: int | None = None, total: int | None = None, **__: Any) -> None:
        if completed is not None and total is not None:
            heard.append((name, completed, total))

    pipeline(file_of(conversations["talk"].window().pcm), hook=listen)
    embedded = [(completed, total) for name, completed, total in heard if name == "embeddings"]
    assert len(embedded) >= 36 / SHARED_S + 36 / (2 * HOP_S) / 8
    assert embedded == sorted(embedded)
    assert all(completed <= total for completed, total in embedded)
    assert [name for name, _, _ in heard if name == "segmentation"]
