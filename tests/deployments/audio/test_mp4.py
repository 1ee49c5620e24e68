import io
import struct
import tracemalloc

import av
import numpy as np
import pytest

from deployments.audio.decode import probe
from deployments.audio.mp4 import refuse_forged_counts
from pipelines.audio_types import DecodeLimits
from pipelines.errors import UndecodableAudio


def m4a() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def claiming(kind: bytes, offset: int, count: int) -> bytes:
    upload = bytearray(m4a())
    at = upload.index(kind) + 4 + offset
    struct.pack_into(">I", upload, at, count)
    return bytes(upload)


def test_an_honest_file_passes() -> None:
    refuse_forged_counts(m4a())
    assert probe(m4a(), DecodeLimits()).duration_s == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(("kind", "offset"), [(b"stsz", 8), (b"stts", 4), (b"stsc", 4), (b"stco", 4)])
def test_a_forged_count_is_refused_before_it_is_believed(kind: bytes, offset: int) -> None:
    with pytest.raises(UndecodableAudio):
        probe(claiming(kind, offset, 100_000_000), DecodeLimits())


def test_other_formats_are_not_looked_into() -> None:
    refuse_forged_counts(b"RIFF" + bytes(1000))
    refuse_forged_counts(b"")
    refuse_forged_counts(bytes(range(256)) * 10)


def test_boxes_within_boxes_without_end() -> None:
    refuse_forged_counts(b"".join(struct.pack(">I4s", 8 * (1000 - n), b"moov") for n in range(1000)))


def test_a_compressed_header_is_refused() -> None:
    hidden = struct.pack(">I4s", 16, b"cmov") + bytes(8)
    with pytest.raises(UndecodableAudio):
        refuse_forged_counts(struct.pack(">I4s", 8 + len(hidden), b"moov") + hidden)


def test_edits_that_would_multiply_the_index() -> None:
    """FFmpeg copies it for each: 20,000 edits of 500 samples took 230 MB."""
    sizes = struct.pack(">I4sIII", 20 + 4 * 500, b"stsz", 0, 0, 500) + bytes(4 * 500)
    edits = struct.pack(">I4sII", 16 + 12 * 20_000, b"elst", 0, 20_000) + bytes(12 * 20_000)
    with pytest.raises(UndecodableAudio, match="edit list"):
        refuse_forged_counts(sizes + edits)
    refuse_forged_counts(sizes + struct.pack(">I4sII", 16 + 12, b"elst", 0, 1) + bytes(12))


def test_many_tracks_of_plain_samples_are_no_long_edit_list() -> None:
    """As field recorders write them: each track has an edit of its own."""
    file = io.BytesIO()
    seconds, num_tracks = 40, 3
    with av.open(file, "w", format="mov") as container:
        streams = [container.add_stream("pcm_s16le", rate=48_000, layout="mono") for _ in range(num_tracks)]
        for stream in streams:
            for number in range(seconds):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
                frame.sample_rate, frame.pts = 48_000, number * 48_000
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    assert probe(file.getvalue(), DecodeLimits()).duration_s == seconds


def box(kind: bytes, *payload: bytes) -> bytes:
    whole = b"".join(payload)
    return struct.pack(">I4s", 8 + len(whole), kind) + whole


def sizes(count: int) -> bytes:
    return box(b"stsz", struct.pack(">III", 0, 1, count))


def handler(kind: bytes) -> bytes:
    return box(b"hdlr", bytes(8) + kind + bytes(12))


def durations(duration: int) -> bytes:
    return box(b"stts", struct.pack(">IIII", 0, 1, 1_000, duration))


@pytest.mark.parametrize("parent", [b"hoov", b"free", b"tref", b"stsd", b"meta"])
def test_a_forged_count_is_found_wherever_ffmpeg_looks(parent: bytes) -> None:
    """1.5 kB took 1.4 GB."""
    with pytest.raises(UndecodableAudio, match="more samples than the file can hold"):
        refuse_forged_counts(box(parent, bytes(8) + box(b"trak", sizes(100_000_000))))


def test_counts_of_all_tracks_and_fragments_add_up() -> None:
    """Sixty that each claim as much as the file has bytes took 4 GB."""
    room = bytes(100_000)
    with pytest.raises(UndecodableAudio):
        refuse_forged_counts(box(b"moov", 60 * box(b"trak", sizes(90_000))) + box(b"mdat", room))
    runs = 60 * box(b"moof", box(b"traf", box(b"trun", struct.pack(">II", 0, 90_000))))
    with pytest.raises(UndecodableAudio):
        refuse_forged_counts(runs + box(b"mdat", room))
    refuse_forged_counts(box(b"moov", 60 * box(b"trak", sizes(1_500))) + box(b"mdat", room))


@pytest.mark.parametrize(
    ("track", "fits"),
    [
        (handler(b"soun") + durations(1), True),
        (handler(b"soun") + durations(1_024), False),
        (handler(b"soun") + durations(1) + durations(2), False),
        (handler(b"soun") + handler(b"vide") + durations(1), False),
        (handler(b"text") + durations(1), False),
    ],
)
def test_only_plain_samples_may_be_millions(track: bytes, fits: bool) -> None:
    upload = box(b"moov", box(b"trak", track + sizes(5_000_000))) + box(b"mdat", bytes(5_000_000))
    if fits:
        refuse_forged_counts(upload)
    else:
        with pytest.raises(UndecodableAudio):
            refuse_forged_counts(upload)


def test_what_media_happen_to_spell_is_no_header() -> None:
    refuse_forged_counts(box(b"moov", box(b"trak", sizes(10))) + box(b"mdat", b"stsz" + b"\xff" * 100))


def test_names_without_boxes_take_no_memory() -> None:
    with pytest.raises(UndecodableAudio, match="too many tracks"):
        refuse_forged_counts(box(b"moov", b"trak" * 1_001))
    handlers = box(b"moov", b"".join(b"hdlr" + bytes(8) + struct.pack(">I", number) for number in range(100_000)))
    tracemalloc.start()
    try:
        refuse_forged_counts(handlers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_a_second_list_of_durations_is_no_plain_one() -> None:
    none = box(b"stts", struct.pack(">IIII", 0, 0, 0, 1))
    track = box(b"trak", handler(b"soun") + durations(1) + none + sizes(5_000_000))
    with pytest.raises(UndecodableAudio):
        refuse_forged_counts(box(b"moov", track) + box(b"mdat", bytes(5_000_000)))


TITLES = [
    "An elephant trunk in the road",
    "Mittelstand heute: Interview",
    "Kunstschule Ostschweiz, Folge 3",
    "Was ist Ihr postcode?",
    "Outrun the storm tonight ok",
]


def test_texts_within_texts_without_end() -> None:
    nested = b""
    for _ in range(3_000):
        nested = struct.pack(">I4s", 8 + len(nested), b"udta") + nested
    refuse_forged_counts(struct.pack(">I4s", 8 + len(nested), b"moov") + nested)


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_a_title_is_no_header(title: str, container: str) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        output.metadata.update({"title": title, "comment": title * 20, "artist": title})
        stream = output.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert title.encode() in file.getvalue()
    assert probe(file.getvalue(), DecodeLimits()).duration_s == pytest.approx(1.0, abs=0.15)


FORGED = box(b"trun", struct.pack(">II", 0, 100_000_000))
HANDLER = box(b"hdlr", bytes(4), b"\0\0\0\0mdir", bytes(12))


@pytest.mark.parametrize("head", [bytes(4), b""], ids=["mp4", "quicktime"])
def test_what_is_in_a_text_is_no_box(head: bytes) -> None:
    def tagged(*items: bytes) -> bytes:
        return box(b"moov", box(b"udta", box(b"meta", head, HANDLER, box(b"ilst", *items))))

    refuse_forged_counts(tagged(box(b"\xa9nam", FORGED), box(b"covr", FORGED), box(b"----", FORGED)))
    for items in ([FORGED], [box(b"traf", FORGED)], [box(b"\xa9nam", b"x"), FORGED], [box(b"wave", FORGED)]):
        with pytest.raises(UndecodableAudio):
            refuse_forged_counts(tagged(*items))


@pytest.mark.parametrize(
    "upload",
    [
        box(b"moov", box(b"udta", struct.pack(">I4s", 1_000, b"\xa9nam"), FORGED)),  # longer than its place
        box(b"moov", box(b"udta", struct.pack(">I4s", 0, b"\xa9nam"), FORGED)),
        box(b"moov", box(b"\xa9nam", FORGED)),
        box(b"moov", box(b"udta", box(b"meta", b"hdlr" * 3, box(b"ilst", box(b"\xa9nam", FORGED))))),
        box(b"moov", box(b"udta", *[box(b"\xa9nam", FORGED)] * 1_001)),  # more than are looked for
    ],
)
def test_what_only_looks_like_a_text_is_looked_into(upload: bytes) -> None:
    with pytest.raises(UndecodableAudio):
        refuse_forged_counts(upload)
