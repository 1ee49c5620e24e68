"""Time lines: of stamps alone, and of files made by PyAV whose packets are stamped anew."""

import io
import tracemalloc
from collections.abc import Callable

import av
import numpy as np
import pytest

from deployments.audio.decode import decode, probe
from deployments.audio.timeline import FREE_GAPS, MAX_GAP_S, TimeLine, silence
from pipelines.audio_types import SAMPLE_RATE_HZ, DecodeLimits, Samples
from pipelines.errors import AudioTooLong
from tests.deployments.audio.test_decode import SPEECH, encode, likeness

FRAME_S = 0.02
LIMITS = DecodeLimits()

Stamp = Callable[[float], float]
"""From seconds of a packet to other seconds."""


def gaps(
    stamps: list[float | None], container: str = "matroska,webm", start_s: float | None = 0.0, is_loud: bool = True
) -> list[float]:
    line = TimeLine(container, start_s)
    pairs = zip(stamps, [*stamps[1:], None], strict=True)
    return [round(line.gap_before(stamp, FRAME_S, behind, lambda: is_loud), 6) for stamp, behind in pairs]


def counted(start_s: float, num_frames: int) -> list[float | None]:
    return [start_s + FRAME_S * number for number in range(num_frames)]


def test_stamps_without_a_gap() -> None:
    assert not any(gaps(counted(0.0, 100)))
    assert not any(gaps(counted(-0.02, 100)))
    assert not any(gaps([None] * 100))


def test_a_late_start_and_a_hole() -> None:
    found = gaps([*counted(4.0, 10), *counted(9.2, 10)])
    assert found == [4.0, *[0.0] * 9, 5.0, *[0.0] * 9]


def test_jitter_is_no_gap_but_adds_up_to_one() -> None:
    random = np.random.default_rng(0)
    assert not any(gaps([stamp + random.uniform(-0.05, 0.05) for stamp in counted(0.0, 500) if stamp is not None]))
    slow = [0.021 * number for number in range(1_000)]
    assert sum(gaps(list(slow))) == pytest.approx(1.0, abs=0.2)


def test_stamps_that_go_back_or_far_ahead_begin_a_new_count() -> None:
    assert not any(gaps([*counted(0.0, 100), *counted(0.0, 100)]))
    assert not any(gaps([*counted(0.0, 100), *counted(2.0 + MAX_GAP_S + 1, 100), *counted(1e9, 100)]))
    again = [*counted(0.0, 100), *counted(-1e6, 100), *counted(-1e6 + 2 + 3, 100)]
    assert gaps(again)[200] == pytest.approx(3, abs=0.001)


@pytest.mark.parametrize("wrong", [0.0, 2_000.0, 1e9, -5.0])
def test_one_wrong_stamp_changes_nothing(wrong: float) -> None:
    stamps = counted(0.0, 500)
    stamps[300] = wrong
    assert not any(gaps(stamps))


def test_a_recorder_that_makes_up_for_lost_time_loses_none() -> None:
    """Some frames come 0.3 s late, those behind them catch up within a second."""
    stamps = [FRAME_S * number + max(0.0, 0.3 - 0.3 * (number % 250) / 50) * (number >= 250) for number in range(5_000)]
    assert sum(gaps(list(stamps))) < 0.5


def test_frames_that_are_sent_only_now_and_then_in_pauses_keep_their_times() -> None:
    """As telephones send them: 20 ms of noise for 400 ms of pause."""
    pauses: list[float | None] = [10 + 0.4 * number for number in range(50)]
    stamps = [*counted(0.0, 500), *pauses, *counted(30.0, 500), *counted(100.0, 500)]
    found = gaps(stamps, is_loud=False)
    assert sum(found) + FRAME_S * len(stamps) == pytest.approx(110, abs=0.5)


def test_what_was_cut_out_of_something_longer_begins_with_itself() -> None:
    assert not any(gaps(counted(1_800.0, 100), start_s=1_800.0))
    assert not any(gaps(counted(1_800.0, 100), "flv", start_s=None))
    assert gaps(counted(10.0, 100), start_s=10.0)[0] == 10.0


def test_jumps_where_streams_were_joined_are_no_gaps() -> None:
    assert not any(gaps([*counted(0.0, 100), *counted(1_500.0, 100)], "mpegts"))
    assert gaps([*counted(0.0, 100), *counted(7.0, 100)], "mpegts")[100] == 5.0


def test_stamps_with_gaps_everywhere_are_not_believed_for_long() -> None:
    found = gaps([number * 0.5 for number in range(10_000)])
    assert 0 < sum(gap > 0 for gap in found) < FREE_GAPS + 3
    assert not any(found[100:])


def test_only_containers_that_stamp_are_believed() -> None:
    assert not any(gaps(counted(4.0, 10), "mp3"))
    assert not any(gaps(counted(4.0, 10), "wav"))


def test_time_begins_where_the_container_s_does() -> None:
    assert gaps(counted(1.4, 10), "mpegts", 1.4)[0] == 0.0
    assert gaps(counted(3.4, 10), "mpegts", 1.4)[0] == 2.0
    assert gaps(counted(3.4, 10), "mov,mp4,m4a,3gp,3g2,mj2", 3.4)[0] == 3.4


def test_silence_comes_a_second_at_a_time() -> None:
    assert list(silence(2.5, 1_000)) == [1_000, 1_000, 500]
    assert list(silence(0.0, 1_000)) == []


# Files


def restamped(upload: bytes, container: str, stamp: Stamp) -> bytes:
    """The same packets at other times."""
    file = io.BytesIO()
    with av.open(io.BytesIO(upload)) as source, av.open(file, "w", format=container) as target:
        stream = source.streams.audio[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is None:
                continue
            packet.pts = packet.dts = round(stamp(float(packet.pts * packet.time_base)) / packet.time_base)
            packet.stream = copy
            target.mux(packet)
    return file.getvalue()


def decoded(upload: bytes) -> Samples:
    samples = np.concatenate(list(decode(upload, LIMITS)))
    assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(probe(upload, LIMITS).duration_s, abs=0.001)
    return samples


def place_s(samples: Samples, original: Samples) -> float:
    """Where in `samples` the original is heard best."""
    from scipy.signal import fftconvolve

    correlation = fftconvolve(samples, original[::-1])
    return (int(correlation.argmax()) - len(original) + 1) / SAMPLE_RATE_HZ


KINDS = [("webm", "libopus"), ("matroska", "aac"), ("mp4", "aac"), ("mpegts", "aac"), ("flv", "aac")]


@pytest.mark.parametrize(("container", "codec"), KINDS)
def test_trp_01_a_hole_is_silence(container: str, codec: str) -> None:
    cut_s, hole_s = 1.5, 5.0
    rate_hz = 48_000
    whole = encode(container, codec, rate_hz)
    samples = decoded(restamped(whole, container, lambda time_s: time_s + hole_s * (time_s > cut_s)))
    cut = round(cut_s * SAMPLE_RATE_HZ)
    assert len(samples) == pytest.approx(len(decoded(whole)) + hole_s * SAMPLE_RATE_HZ, abs=0.05 * SAMPLE_RATE_HZ)
    assert place_s(samples, SPEECH[: cut - 4_000]) == pytest.approx(0, abs=0.1)
    assert place_s(samples, SPEECH[cut + 4_000 :]) == pytest.approx(cut_s + 0.25 + hole_s, abs=0.1)
    assert not np.abs(samples[cut + 8_000 : cut + 72_000]).max() > 1e-3


@pytest.mark.parametrize(("codec", "layout"), [("aac", "7.1"), ("libopus", "7.1"), ("flac", "7.1")])
def test_trp_01_a_hole_in_many_channels_is_silence(codec: str, layout: str) -> None:
    """PyAV has no place for the eighth plane of a frame, and ends the process that looks for it."""
    whole = encode("matroska", codec, 48_000, layout)
    samples = decoded(restamped(whole, "matroska", lambda time_s: time_s + (time_s > 1.5)))
    assert len(samples) == pytest.approx(len(decoded(whole)) + SAMPLE_RATE_HZ, abs=0.05 * SAMPLE_RATE_HZ)


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("matroska", "aac"), ("mp4", "aac")])
def test_trp_01_a_late_start_is_silence(container: str, codec: str) -> None:
    late = decoded(restamped(encode(container, codec), container, lambda time_s: time_s + 4.0))
    assert place_s(late, SPEECH) == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize("stamp", [lambda time_s: 2 * MAX_GAP_S * (time_s > 1) + time_s, lambda time_s: 10 * time_s])
def test_trp_01_absurd_stamps_are_ignored(stamp: Stamp) -> None:
    """The second kind tells of a gap behind every frame."""
    samples = decoded(restamped(encode("matroska", "aac"), "matroska", stamp))
    assert len(samples) < (2 * FREE_GAPS + 10) * SAMPLE_RATE_HZ
    if stamp(1.5) > MAX_GAP_S:
        assert likeness(samples) > 0.9


def test_a_hole_counts_against_the_limit_and_takes_no_memory() -> None:
    upload = restamped(encode("matroska", "aac"), "matroska", lambda time_s: time_s + 3_000 * (time_s > 1))
    with pytest.raises(AudioTooLong):
        probe(upload, DecodeLimits(max_duration_s=600))
    tracemalloc.start()
    num_samples = sum(len(block) for block in decode(upload, LIMITS))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_samples / SAMPLE_RATE_HZ == pytest.approx(3_000 + len(SPEECH) / SAMPLE_RATE_HZ, abs=0.2)
    assert peak < 20_000_000


def test_time_base_of_frames_is_in_seconds() -> None:
    """PyAV's `frame.time`, on which all this stands."""
    with av.open(io.BytesIO(encode("matroska", "aac"))) as container:
        frames = list(container.decode(audio=0))
    assert [frame.time for frame in frames] == pytest.approx([float(frame.pts * frame.time_base) for frame in frames])
