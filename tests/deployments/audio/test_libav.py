import subprocess
import sys
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from deployments.audio.libav import open_libav
from deployments.audio.source import MAX_PIECE_VALUES, Piece
from pipelines.audio_types import DecodeLimits, Samples
from pipelines.errors import UndecodableAudio

ROOT = Path(__file__).parent.parent.parent.parent
CLIP = ROOT / "tests" / "data" / "en-00.flac"
LIMITS = DecodeLimits()


def upload(container: str, subtype: str, num_channels: int = 1, repeat: int = 1) -> bytes:
    samples, rate_hz = soundfile.read(CLIP, dtype="float32")
    file = BytesIO()
    scales = np.linspace(1.0, 0.5, num_channels, dtype=np.float32)
    soundfile.write(file, np.tile(samples, repeat)[:, None] * scales, rate_hz, format=container, subtype=subtype)
    return file.getvalue()


def pieces(data: bytes) -> list[Piece]:
    with open_libav(data, LIMITS) as source:
        return list(source.pieces())


def frame_by_frame(data: bytes) -> Samples:
    """(length, channels), every frame converted for itself."""
    with av.open(BytesIO(data)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        num_channels = container.streams.audio[0].codec_context.channels
    planar = [f if len(f) == num_channels else f.reshape(-1, num_channels).T for f in frames]
    whole = np.concatenate(planar, axis=1).T
    return whole if whole.dtype == np.float32 else (whole / -float(np.iinfo(whole.dtype).min)).astype(np.float32)


KINDS = [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16")]


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize(("container", "subtype"), KINDS)
def test_gathered_frames_are_the_same_samples(container: str, subtype: str, num_channels: int) -> None:
    data = upload(container, subtype, num_channels, repeat=4)
    found = pieces(data)
    assert len(found) > 1
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in found]), frame_by_frame(data))


@pytest.mark.parametrize("num_channels", [1, 2, 6])
def test_pieces_are_few_and_small(num_channels: int) -> None:
    data = upload("FLAC", "PCM_16", num_channels, repeat=4)
    found = pieces(data)
    lengths = [len(piece.samples) for piece in found]
    assert max(lengths) < 16_000 + 5_000  # one frame more at most
    assert min(lengths[:-1]) >= min(16_000, MAX_PIECE_VALUES // num_channels)


def test_lengths_and_pieces_agree() -> None:
    data = upload("OGG", "VORBIS")
    with open_libav(data, LIMITS) as source:
        length_s = sum(source.lengths_s())
    assert length_s == pytest.approx(sum(len(piece.samples) / piece.sample_rate_hz for piece in pieces(data)))


PLANAR = """
import sys
import numpy as np
from deployments.audio.libav import open_libav
from pipelines.audio_types import DecodeLimits
with open_libav(open(sys.argv[1], "rb").read(), DecodeLimits()) as source:
    np.save(sys.argv[2], np.concatenate([piece.samples for piece in source.pieces()]))
"""


@pytest.mark.parametrize("num_channels", [8, 16, 64])
def test_many_planes(num_channels: int, tmp_path: Path) -> None:
    """In a process of its own: PyAV has read beyond its memory with 8 planes and more."""
    (tmp_path / "upload").write_bytes(upload("OGG", "VORBIS", num_channels))
    command = [sys.executable, "-c", PLANAR, str(tmp_path / "upload"), str(tmp_path / "samples.npy")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    samples = np.load(tmp_path / "samples.npy")
    original, _ = soundfile.read(CLIP, dtype="float32")
    assert samples.shape[1] == num_channels
    assert np.corrcoef(samples[: len(original), 0], original[: len(samples)])[0, 1] > 0.9


def test_a_packet_of_hours_is_read_in_small_pieces() -> None:
    file = BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=1_000, layout="mono")
        packet = av.Packet(np.tile(np.arange(-100, 100, dtype=np.int16), 1_000).tobytes())
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 1_000)
        container.mux(packet)
    found = pieces(file.getvalue())
    assert {len(piece.samples) for piece in found} == {1_000}
    assert len(found) == 200


def test_a_stream_that_changes_its_format_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mono, stereo = (upload("MP3", "MPEG_LAYER_III", channels) for channels in (1, 2))
    joined = (mono + stereo) * 4
    assert {piece.samples.shape[1] for piece in pieces(joined)} == {1, 2}
    monkeypatch.setattr("deployments.audio.libav.MAX_FORMATS", 5)
    with pytest.raises(UndecodableAudio, match="changes its format too often"):
        pieces(joined)


def test_chained_streams_of_other_channels_are_no_half_file() -> None:
    """FFmpeg does not read the second one: its words would be missing without a word."""
    one, other = (upload("OGG", "OPUS", channels) for channels in (2, 1))
    assert len(pieces(one + one)) > len(pieces(one))
    with pytest.raises(UndecodableAudio, match="cannot be read to its end"):
        pieces(one + other)


@pytest.mark.parametrize(("container", "codec"), [("aiff", "pcm_s16be"), ("caf", "pcm_s16le")])
def test_trp_01_channels_in_an_order_of_their_own(container: str, codec: str) -> None:
    """Apple's of 7.1: PyAV freed its map twice, and the process ended."""
    file = BytesIO()
    with av.open(file, "w", format=container) as target:
        stream = target.add_stream(codec, rate=48_000, layout="7.1")
        frame = av.AudioFrame.from_ndarray(np.ones((1, 8 * 48_000), np.int16), format="s16", layout="7.1")
        frame.sample_rate = 48_000
        target.mux([*stream.encode(frame), *stream.encode(None)])
    for _ in range(20):
        assert sum(len(piece.samples) for piece in pieces(file.getvalue())) == 48_000


def test_packets_of_no_sound_are_not_tried_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    file = BytesIO()
    with av.open(file, "w", format="matroska") as target:
        stream = target.add_stream("aac", rate=48_000, layout="mono")
        stream.codec_context.open()
        for number in range(200):
            packet = av.Packet(b"\x01")
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 1_000)
            target.mux(packet)
    assert pieces(file.getvalue()) == []
    monkeypatch.setattr("deployments.audio.libav.MAX_TINY_FRAMES", 100)
    with pytest.raises(UndecodableAudio, match="too many packets of no sound"):
        pieces(file.getvalue())


def test_attached_pictures_are_not_decoded() -> None:
    """A GIF of 8 kB that says to be 16,000 pixels wide and high took a gigabyte."""
    program = """
import resource, struct
from tests.deployments.audio.test_decode import encode
from tests.deployments.audio.test_libav import opened
from tests.deployments.audio.test_tags import tag

picture = b"GIF89a" + struct.pack("<HHBBB", 16_000, 16_000, 0xF7, 0, 0) + bytes(768)
picture += b"," + struct.pack("<HHHHB", 0, 0, 16_000, 16_000, 0) + b"\\x08" + (b"\\xfe" + bytes(254)) * 30 + b"\\0;"
payload = b"\\0image/gif\\0\\x03\\0" + picture
music = encode("mp3", "libmp3lame")
found = b"APIC" + struct.pack(">I", len(payload)) + bytes(2) + payload
opened(music)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
opened(tag(3, found) + music)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1_000)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100


def opened(data: bytes) -> None:
    with open_libav(data, LIMITS) as source:
        assert next(source.pieces()).sample_rate_hz
