"""Files with several audio tracks, made by PyAV."""

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from deployments.audio.decode import decode, probe
from pipelines.audio_types import SAMPLE_RATE_HZ, DecodeLimits, Samples
from pipelines.errors import InvalidRequest
from tests.deployments.audio.test_decode import SPEECH, likeness

LIMITS = DecodeLimits()
SILENT = np.zeros_like(SPEECH)
TONE = 0.3 * np.sin(2 * np.pi * 440 * np.arange(len(SPEECH)) / SAMPLE_RATE_HZ).astype(np.float32)
LATE = np.concatenate([np.zeros(20 * SAMPLE_RATE_HZ, np.float32), SPEECH])


def with_tracks(tracks: Sequence[Samples], flagged: Sequence[int] = (), container: str = "matroska") -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container, options={"default_mode": "passthrough"}) as target:
        streams = [target.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono", format="s16") for _ in tracks]
        for number, stream in enumerate(streams):
            stream.disposition = Disposition.default if number in flagged else Disposition(0)
        for stream, samples in zip(streams, tracks, strict=True):
            pcm = np.round(samples * 32_767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
            frame.rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, 0, Fraction(1, SAMPLE_RATE_HZ)
            target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
    return file.getvalue()


def heard(upload: bytes, audio_track: int | None = None) -> Samples:
    return np.concatenate(list(decode(upload, LIMITS, audio_track)))


def is_speech(samples: Samples) -> bool:
    return likeness(samples) > 0.99


@pytest.mark.parametrize(
    ("tracks", "flagged"),
    [
        ([SILENT, SPEECH], [1]),
        ([TONE, SPEECH], [1]),
        ([SILENT, SPEECH], []),
        ([SILENT, SPEECH], [0, 1]),
        ([SILENT, SPEECH, TONE], []),
        ([TONE, SILENT, SPEECH], [1, 2]),
        ([LATE[: len(SILENT)], SPEECH], []),
    ],
)
def test_trp_01_the_track_that_is_heard(tracks: list[Samples], flagged: list[int]) -> None:
    assert is_speech(heard(with_tracks(tracks, flagged)))


def test_trp_01_where_all_are_silent_the_first() -> None:
    assert not heard(with_tracks([SILENT, SILENT])).any()


def test_a_track_by_its_number() -> None:
    upload = with_tracks([TONE, SPEECH, SILENT], flagged=[2])
    assert likeness(heard(upload, 0), TONE) > 0.99
    assert is_speech(heard(upload, 1))
    assert not heard(upload, 2).any()
    duration_s = len(SPEECH) / SAMPLE_RATE_HZ
    assert all(abs(probe(upload, LIMITS, audio_track=number).duration_s - duration_s) < 0.1 for number in range(3))


@pytest.mark.parametrize("tracks", [[SPEECH], [SPEECH, TONE]])
def test_a_track_that_is_not_there(tracks: list[Samples]) -> None:
    with pytest.raises(InvalidRequest, match="counted from 0: there is no 2") as caught:
        probe(with_tracks(tracks), LIMITS, audio_track=2)
    assert caught.value.param == "audio_track"
