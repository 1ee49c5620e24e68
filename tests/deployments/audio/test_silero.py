from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from deployments.audio.silero import CONTEXT_SAMPLES, FRAMES_AT_ONCE, SileroModel, SileroStream
from deployments.compat.silero import folder
from pipelines.audio_types import SAMPLE_RATE_HZ, Samples
from pipelines.vad import FRAME_SAMPLES

JFK = Path(__file__).parent.parent.parent / "data" / "jfk.flac"


@pytest.fixture(scope="module")
def model() -> SileroModel:
    return SileroModel()


@pytest.fixture(scope="module")
def speech() -> Samples:
    samples, rate_hz = soundfile.read(JFK, dtype="float32")
    resampled: Samples = soxr.resample(samples.mean(axis=1), rate_hz, SAMPLE_RATE_HZ).astype(np.float32)
    return resampled


def probabilities(model: SileroModel, pieces: list[Samples]) -> NDArray[np.float32]:
    stream = SileroStream(model)
    pushed = [stream.push(piece) for piece in pieces]
    return np.concatenate([*pushed, stream.finish()])


def frame_by_frame(samples: Samples) -> NDArray[np.float32]:
    """The package's own network and its own way: one call a frame, each with the last samples of the one before."""
    session = onnxruntime.InferenceSession(str(folder() / "silero_vad.onnx"), providers=["CPUExecutionProvider"])
    padded = np.pad(samples, (0, -len(samples) % FRAME_SAMPLES))
    context, state, found = np.zeros(CONTEXT_SAMPLES, np.float32), np.zeros((2, 1, 128), np.float32), []
    for frame in padded.reshape(-1, FRAME_SAMPLES):
        inputs = {"input": np.concatenate((context, frame))[None], "state": state, "sr": np.array(SAMPLE_RATE_HZ)}
        probability, state = session.run(None, inputs)
        context = frame[-CONTEXT_SAMPLES:]
        found.append(probability[0, 0])
    return np.array(found, np.float32)


def noise(length_s: float, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).standard_normal(round(length_s * SAMPLE_RATE_HZ)).astype(np.float32) / 10


@pytest.mark.parametrize("kind", ["speech", "quiet speech", "clipped speech", "silence", "noise", "noisy speech"])
def test_equals_the_frame_by_frame_reference(model: SileroModel, speech: Samples, kind: str) -> None:
    heard = {
        "speech": speech,
        "quiet speech": speech / 300,
        "clipped speech": np.clip(speech * 20, -1, 1),
        "silence": np.zeros(5 * SAMPLE_RATE_HZ, np.float32),
        "noise": noise(5),
        "noisy speech": speech + noise(11)[: len(speech)],
    }[kind]
    assert probabilities(model, [heard]) == pytest.approx(frame_by_frame(heard), abs=1e-4)


def test_the_state_is_carried_over_many_blocks(model: SileroModel, speech: Samples) -> None:
    """A minute and more, hop by hop as a live session hears it, and in blocks that end within a frame."""
    long = np.concatenate([speech, noise(1), speech, np.zeros(8_000, np.float32)] * 3)
    assert len(long) > 2 * FRAMES_AT_ONCE * FRAME_SAMPLES
    reference = frame_by_frame(long)
    for size in (FRAME_SAMPLES, 77_777, len(long)):
        pieces = [long[first : first + size] for first in range(0, len(long), size)]
        assert probabilities(model, pieces) == pytest.approx(reference, abs=1e-4), size


def test_hears_speech_and_silence(model: SileroModel, speech: Samples) -> None:
    found = probabilities(model, [np.zeros(SAMPLE_RATE_HZ * 2, np.float32), speech])
    assert found[:60].max() < 0.1
    assert np.mean(found[62:] > 0.5) > 0.5


@pytest.mark.parametrize("size", [100, 512, 1_000, 16_000, 160_000])
def test_pieces_give_the_same_as_the_whole(model: SileroModel, speech: Samples, size: int) -> None:
    pieces = [speech[first : first + size] for first in range(0, len(speech), size)]
    assert probabilities(model, pieces) == pytest.approx(probabilities(model, [speech]), abs=1e-5)


@pytest.mark.parametrize("num_samples", [0, 1, 511, 512, 513, 5_120])
def test_one_probability_for_each_frame_begun(model: SileroModel, num_samples: int) -> None:
    found = probabilities(model, [np.zeros(num_samples, np.float32)])
    assert len(found) == -(-num_samples // FRAME_SAMPLES)


def test_streams_of_one_model_do_not_disturb_each_other(model: SileroModel, speech: Samples) -> None:
    first, second = SileroStream(model), SileroStream(model)
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    found = []
    for at in range(0, len(speech), 16_000):
        found.append(first.push(speech[at : at + 16_000]))
        second.push(noise[at : at + 16_000])
    assert np.concatenate([*found, first.finish()]) == pytest.approx(probabilities(model, [speech]), abs=1e-5)
