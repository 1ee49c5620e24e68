from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from pipelines.audio_types import MAX_CHUNK_S, SAMPLE_RATE_HZ, AudioChunk, Samples, SpeechSegment, VadOptions, Waveform
from pipelines.chunking import CLOSING_DELAY_S, CUT_SEARCH_S, ChunkBuilder, cut_chunk, halve_chunk, quietest_moment_s
from pipelines.vad import FRAME_S, SpeechDetector

FRAME = round(FRAME_S * SAMPLE_RATE_HZ)


@dataclass(frozen=True)
class Scene:
    """Audio whose speech is known: noise where somebody speaks, near silence elsewhere."""

    samples: Samples
    probabilities: list[float]

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ


def scene(*stretches: tuple[bool, float], seed: int = 0) -> Scene:
    """From (is speech, seconds), rounded to whole frames."""
    generator = np.random.default_rng(seed)
    is_speech = np.concatenate([np.full(round(length_s / FRAME_S), speaks) for speaks, length_s in stretches])
    level = np.where(np.repeat(is_speech, FRAME), 0.3, 0.001)
    samples = (generator.standard_normal(len(level)) * level).astype(np.float32)
    return Scene(samples, np.where(is_speech, 0.9, 0.0).tolist())


def segments_of(scene: Scene, vad: VadOptions) -> list[SpeechSegment]:
    detector = SpeechDetector(vad)
    return detector.push(scene.probabilities) + detector.finish(scene.duration_s)


def chunks_of(scene: Scene, vad: VadOptions, frames_per_block: int) -> list[AudioChunk]:
    detector, builder, chunks = SpeechDetector(vad), ChunkBuilder(), []
    for first in range(0, len(scene.probabilities), frames_per_block):
        last = first + frames_per_block
        closed = detector.push(scene.probabilities[first:last])
        samples = scene.samples[first * FRAME : last * FRAME]
        chunks += builder.push(samples, closed, detector.open_since_s, detector.needed_from_s)
    return chunks + builder.finish(detector.finish(scene.duration_s))


def check_invariants(scene: Scene, vad: VadOptions, chunks: list[AudioChunk]) -> None:
    times_covered = np.zeros(len(scene.samples), np.int64)
    for index, chunk in enumerate(chunks):
        first = round(chunk.offset_s * SAMPLE_RATE_HZ)
        last = first + len(chunk.waveform.samples)
        assert chunk.index == index
        assert 0 < chunk.waveform.duration_s <= MAX_CHUNK_S
        assert np.array_equal(chunk.waveform.samples, scene.samples[first:last])
        times_covered[first:last] += 1
        assert chunk.speech
        assert chunk.speech[0].start_s == pytest.approx(chunk.offset_s, abs=1e-4)
        assert chunk.speech[-1].end_s == pytest.approx(chunk.end_s, abs=1e-4)
        assert all(speech.start_s < speech.end_s for speech in chunk.speech)
    assert times_covered.max(initial=0) <= 1, "chunks overlap"
    offsets = [chunk.offset_s for chunk in chunks]
    assert offsets == sorted(offsets)
    for segment in segments_of(scene, vad):
        first, last = round(segment.start_s * SAMPLE_RATE_HZ), round(segment.end_s * SAMPLE_RATE_HZ)
        assert (times_covered[first:last] == 1).all(), f"speech is lost in {segment}"


SCENES = {
    "one sentence": scene((False, 1), (True, 3), (False, 2)),
    "starts and ends in speech": scene((True, 4)),
    "a dialogue": scene(*[(speaks, length) for _ in range(12) for speaks, length in [(True, 2.7), (False, 0.8)]]),
    "long pauses": scene((True, 5), (False, 40), (True, 5), (False, 100), (True, 29), (False, 3), (True, 1)),
    "half a minute exactly": scene((False, 0.3), (True, 29.5), (False, 1), (True, 2)),
    "just over half a minute": scene((True, 30.4), (False, 1), (True, 2)),
    "five minutes on end": scene((False, 2), (True, 300), (False, 2)),
    "speech, then a speech": scene((True, 10), (False, 1), (True, 65), (False, 1), (True, 10)),
    "cut near the end": scene((True, 31.5)),
}


@pytest.mark.parametrize("frames_per_block", [1, 31, 312, 5_000])
@pytest.mark.parametrize("name", SCENES)
def test_all_speech_is_in_exactly_one_chunk_of_at_most_30_s(name: str, frames_per_block: int) -> None:
    check_invariants(SCENES[name], VadOptions(), chunks_of(SCENES[name], VadOptions(), frames_per_block))


@pytest.mark.parametrize(
    "vad", [VadOptions(0.5, 0, 0), VadOptions(0.5, 5_000, 200), VadOptions(0.5, 300, 3_000), VadOptions(0.5, 0, 90_000)]
)
@pytest.mark.parametrize("name", SCENES)
def test_whatever_the_vad_options(name: str, vad: VadOptions) -> None:
    for frames_per_block in (20, 312):
        check_invariants(SCENES[name], vad, chunks_of(SCENES[name], vad, frames_per_block))


@pytest.mark.parametrize("name", SCENES)
def test_blocks_of_any_size_give_the_same_chunks(name: str) -> None:
    whole = chunks_of(SCENES[name], VadOptions(), 100_000)
    for frames_per_block in (1, 20, 312):
        pieces = chunks_of(SCENES[name], VadOptions(), frames_per_block)
        assert [(c.index, c.offset_s, c.end_s, c.speech) for c in pieces] == [
            (c.index, c.offset_s, c.end_s, c.speech) for c in whole
        ]


@pytest.mark.parametrize("seed", range(40))
def test_any_conversation(seed: int) -> None:
    generator = np.random.default_rng(seed)
    stretches = [(bool(generator.integers(2)), generator.uniform(0.05, 45)) for _ in range(generator.integers(1, 12))]
    vad = VadOptions(0.5, int(generator.integers(0, 6_000)), int(generator.integers(0, 4_000)))
    talk = scene((False, 0.1), *stretches)
    check_invariants(talk, vad, chunks_of(talk, vad, int(generator.integers(1, 700))))


def test_silence_gives_no_chunk() -> None:
    assert chunks_of(scene((False, 120)), VadOptions(), 312) == []


def test_nothing_gives_no_chunk() -> None:
    assert ChunkBuilder().finish([]) == []


def test_a_chunk_takes_its_neighbours_in_while_they_fit() -> None:
    vad = VadOptions(0.5, 0, 0)
    talk = scene(*[(speaks, length) for _ in range(7) for speaks, length in [(True, 6.4), (False, 1.6)]])
    chunks = chunks_of(talk, vad, 312)
    segments = segments_of(talk, vad)
    assert [len(chunk.speech) for chunk in chunks] == [3, 3, 1]
    assert [speech for chunk in chunks for speech in chunk.speech] == segments
    for chunk, following in pairwise(chunks):
        assert following.speech[0].end_s - chunk.offset_s > MAX_CHUNK_S


def test_a_pause_too_long_to_fit_is_left_out() -> None:
    first, second = chunks_of(scene((True, 2), (False, 60), (True, 2)), VadOptions(0.5, 0, 0), 312)
    assert (first.offset_s, first.end_s) == pytest.approx((0.0, 2.0), abs=FRAME_S)
    assert second.offset_s == pytest.approx(62.0, abs=2 * FRAME_S)


def test_long_speech_is_cut_at_the_quietest_moment_of_the_last_third() -> None:
    talk = scene((True, 45))
    for breath_s in (12.0, 24.32):
        at = round(breath_s * SAMPLE_RATE_HZ)
        talk.samples[at - 2_400 : at + 2_400] *= 0.001
    first, second = chunks_of(talk, VadOptions(), 312)
    assert first.end_s == pytest.approx(24.32, abs=0.15)
    assert second.offset_s == first.end_s
    assert second.end_s == pytest.approx(talk.duration_s)


@pytest.mark.parametrize("length_s", [29.7, 29.8, 29.9, 30.0, 30.3])
def test_no_cut_leaves_a_rest_in_which_nobody_speaks(length_s: float) -> None:
    """The silence behind the speech is its quietest moment, and may begin before 30 s are over."""
    chunks = chunks_of(scene((True, length_s), (False, 3)), VadOptions(), 312)
    assert len(chunks) <= 2
    assert all(chunk.waveform.duration_s > 0.9 for chunk in chunks)


def test_even_speech_is_cut_between_20_and_30_s() -> None:
    chunks = chunks_of(scene((True, 200)), VadOptions(), 312)
    assert all(MAX_CHUNK_S - CUT_SEARCH_S <= c.waveform.duration_s <= MAX_CHUNK_S for c in chunks[:-1])
    assert len(chunks) >= 7


def longest_buffer_s(is_speech: "list[tuple[bool, float]]", block_s: float = 10.0) -> tuple[float, int]:
    """Feed hours without holding them; the most seconds that the builder ever kept, and the number of chunks."""
    detector, builder = SpeechDetector(VadOptions()), ChunkBuilder()
    num_frames = round(block_s / FRAME_S)
    loud = np.random.default_rng(0).standard_normal(num_frames * FRAME).astype(np.float32) * 0.1
    longest, num_chunks = 0, 0
    for speaks, length_s in is_speech:
        for _ in range(round(length_s / block_s)):
            closed = detector.push([0.9 if speaks else 0.0] * num_frames)
            samples = loud if speaks else loud * 0.001
            num_chunks += len(builder.push(samples, closed, detector.open_since_s, detector.needed_from_s))
            longest = max(longest, len(builder._samples))
    return longest / SAMPLE_RATE_HZ, num_chunks


@pytest.mark.parametrize("block_s", [1.0, 10.0])
def test_hours_of_silence_after_speech_are_not_kept(block_s: float) -> None:
    longest_s, num_chunks = longest_buffer_s([(True, 20), (False, 4 * 3600)], block_s)
    assert num_chunks == 1
    assert longest_s <= MAX_CHUNK_S + CLOSING_DELAY_S + block_s


@pytest.mark.parametrize("block_s", [1.0, 10.0])
def test_hours_of_speech_are_not_kept(block_s: float) -> None:
    longest_s, num_chunks = longest_buffer_s([(True, 2 * 3600)], block_s)
    assert num_chunks >= 2 * 3600 / MAX_CHUNK_S
    assert longest_s <= MAX_CHUNK_S + CLOSING_DELAY_S + block_s


def test_hours_of_silence_before_speech_are_not_kept() -> None:
    longest_s, num_chunks = longest_buffer_s([(False, 4 * 3600), (True, 20), (False, 40)])
    assert num_chunks == 1
    assert longest_s <= MAX_CHUNK_S + CLOSING_DELAY_S + 10


def test_a_chunk_does_not_keep_the_whole_buffer_alive() -> None:
    (chunk,) = chunks_of(scene((True, 2), (False, 60)), VadOptions(), 5_000)
    assert chunk.waveform.samples.base is None


def test_quietest_moment() -> None:
    samples = np.ones(SAMPLE_RATE_HZ, np.float32)
    samples[8_000:9_600] = 0
    assert quietest_moment_s(samples) == pytest.approx(0.55)


def test_the_last_of_equally_quiet_moments() -> None:
    assert quietest_moment_s(np.zeros(SAMPLE_RATE_HZ, np.float32)) == pytest.approx(0.95)


@pytest.mark.parametrize(
    "speech", [(), (SpeechSegment(100.0, 130.0),), (SpeechSegment(100.0, 113.0), SpeechSegment(116.0, 130.0))]
)
def test_a_chunk_is_halved_where_it_is_quiet(speech: tuple[SpeechSegment, ...]) -> None:
    samples = np.random.default_rng(0).standard_normal(30 * SAMPLE_RATE_HZ).astype(np.float32)
    samples[14 * SAMPLE_RATE_HZ : 15 * SAMPLE_RATE_HZ] = 0
    before, after = halve_chunk(AudioChunk(7, 100.0, Waveform(samples), speech))
    assert (before.index, before.offset_s, after.index, after.end_s) == (7, 100.0, 7, 130.0)
    assert before.end_s == pytest.approx(113.0 if len(speech) == 2 else 114.95, abs=0.01)
    assert after.offset_s == pytest.approx(116.0 if len(speech) == 2 else 114.95, abs=0.01)


def test_a_chunk_is_cut_in_a_pause_and_nothing_spoken_is_lost() -> None:
    samples = np.arange(10 * SAMPLE_RATE_HZ, dtype=np.float32)
    speech = (SpeechSegment(100.0, 103.0), SpeechSegment(104.0, 106.0), SpeechSegment(107.5, 110.0))
    before, after = cut_chunk(AudioChunk(7, 100.0, Waveform(samples), speech), 106.75)
    assert (before.index, before.offset_s, before.end_s, before.speech) == (7, 100.0, 106.0, speech[:2])
    assert (after.index, after.offset_s, after.end_s, after.speech) == (7, 107.5, 110.0, speech[2:])
    assert after.waveform.samples[0] == samples[round(7.5 * SAMPLE_RATE_HZ)]
