import io
import random

import numpy as np
import pytest
import soundfile
import soxr

from deployments.audio.live import LiveDecoder, LiveEar
from deployments.audio.silero import SileroModel, SileroStream
from pipelines.audio_types import LIVE_RATES_HZ, SAMPLE_RATE_HZ, LiveFormat
from pipelines.vad import FRAME_SAMPLES
from tests.conftest import DATA

FORMATS: list[LiveFormat] = list(LIVE_RATES_HZ)
SUBTYPES = {"audio/pcm": "PCM_16", "audio/pcmu": "ULAW", "audio/pcma": "ALAW"}


def encoded(format: LiveFormat, seconds: float = 6.0) -> bytes:
    """Speech, and then every value that the format has."""
    samples, rate_hz = soundfile.read(DATA / "jfk.flac", dtype="float32", always_2d=True)
    samples = soxr.resample(samples[: round(seconds * rate_hz)].mean(axis=1), rate_hz, LIVE_RATES_HZ[format])
    raw = io.BytesIO()
    soundfile.write(raw, samples, LIVE_RATES_HZ[format], format="RAW", subtype=SUBTYPES[format])
    return raw.getvalue() + bytes(range(256)) * 8


def decoded_by_libsndfile(data: bytes, format: LiveFormat) -> np.ndarray:
    samples, _ = soundfile.read(
        io.BytesIO(data),
        format="RAW",
        channels=1,
        samplerate=LIVE_RATES_HZ[format],
        subtype=SUBTYPES[format],
        dtype="float32",
    )
    return np.asarray(samples)


@pytest.mark.parametrize("format", FORMATS)
def test_decoded_as_libsndfile_and_resampled_as_at_once(format: LiveFormat) -> None:
    data = encoded(format)
    expected = soxr.resample(decoded_by_libsndfile(data, format), LIVE_RATES_HZ[format], SAMPLE_RATE_HZ)
    found = LiveDecoder(format).decode(data, is_last=True)
    assert len(found) == pytest.approx(len(expected), abs=1)
    length = min(len(found), len(expected))
    assert np.allclose(found[:length], np.clip(expected[:length], -1, 1), atol=1e-4)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("most", [1, 7, 4_800, 100_000])
def test_in_pieces_as_whole(format: LiveFormat, most: int) -> None:
    data, dice = encoded(format, 2.0), random.Random(most)
    whole = LiveDecoder(format).decode(data, is_last=True)
    decoder, pieces, first = LiveDecoder(format), [], 0
    while first < len(data):
        length = dice.randint(1, most)
        pieces.append(decoder.decode(data[first : first + length]))
        first += length
    pieces.append(decoder.decode(b"", is_last=True))
    assert np.allclose(np.concatenate(pieces), whole, atol=1e-6)


@pytest.fixture(scope="module")
def model() -> SileroModel:
    return SileroModel()


@pytest.mark.parametrize("format", FORMATS)
def test_every_frame_is_judged_as_in_an_upload(model: SileroModel, format: LiveFormat) -> None:
    data = encoded(format)
    whole = LiveDecoder(format).decode(data, is_last=True)
    stream = SileroStream(model)
    expected = [*stream.push(whole).tolist(), *stream.finish().tolist()]
    ear = LiveEar(model, format)
    for _ in range(2):  # it begins anew
        heard = [ear.hear(data[first : first + 999]) for first in range(0, len(data), 999)]
        assert all(len(one.samples) == len(one.probabilities) * FRAME_SAMPLES for one in heard)
        heard.append(ear.finish())
        assert np.allclose(np.concatenate([one.samples for one in heard]), whole, atol=1e-6)
        assert [p for one in heard for p in one.probabilities] == pytest.approx(expected, abs=1e-3)
        assert max(expected) > 0.9


def test_another_format_in_the_middle(model: SileroModel) -> None:
    ear = LiveEar(model, "audio/pcm")
    before = [ear.hear(encoded("audio/pcm", 1.0)), ear.change("audio/pcmu")]
    after = [ear.hear(encoded("audio/pcmu", 1.0)), ear.finish()]
    assert sum(len(one.samples) for one in before) == pytest.approx((24_000 + 8 * 128) * 2 / 3, abs=2)
    assert sum(len(one.samples) for one in after) == pytest.approx(SAMPLE_RATE_HZ + 2 * 8 * 256, abs=2)


def test_nothing_was_heard(model: SileroModel) -> None:
    ear = LiveEar(model, "audio/pcm")
    heard = [ear.hear(b""), ear.hear(b"\0"), ear.finish(), ear.finish()]
    assert [len(one.samples) for one in heard] == [0] * 4
