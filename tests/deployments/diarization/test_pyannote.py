"""What the engine promises, on the embedded pipeline: times, labels, voices, odd audio, cancelling, no memory."""

from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from pyannote.core import Timeline

from benchmarks.scoring import Conversation, annotation_of
from deployments.diarization.campplus import DIMENSION
from deployments.diarization.engine import Cancelled, DiarizerArgs
from deployments.diarization.pyannote import MAX_EMBEDDED_S, MIN_EMBEDDED_S, PyannoteDiarizer
from pipelines.audio import from_pcm
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioStretch, PcmSamples, Waveform
from pipelines.errors import ConfigurationError
from pipelines.speaker_types import Diarization, Embedding, SpeakerTurn

Diarized = Callable[[str], Diarization]
Conversations = dict[str, Conversation]

VARIED = ("tts-05", "libri-04", "tst00", "monologue", "crowd-20")
FULL_SCALE = 32_767


def never() -> bool:
    return False


def pcm_of(samples: Iterable[float] | np.ndarray) -> PcmSamples:
    return np.clip(np.rint(np.asarray(samples)), -32_768, 32_767).astype(np.int16)


def seconds(turns: Iterable[SpeakerTurn]) -> float:
    return sum(turn.end_s - turn.start_s for turn in turns)


def speakers(turns: Iterable[SpeakerTurn]) -> set[int]:
    return {turn.speaker for turn in turns}


def support(turns: Iterable[SpeakerTurn], speaker: int | None = None) -> Timeline:
    spoken = (turn for turn in turns if speaker is None or turn.speaker == speaker)
    return annotation_of(spoken).get_timeline().support(collar=1e-6)


def check(found: Diarization, window: AudioStretch) -> None:
    """All that holds whatever was heard."""
    for turns in (found.turns, found.exclusive_turns):
        assert all(window.offset_s <= turn.start_s < turn.end_s <= window.end_s for turn in turns)
        assert list(turns) == sorted(turns, key=lambda turn: turn.start_s)
    assert all(left.end_s <= right.start_s + 1e-9 for left, right in pairwise(found.exclusive_turns))
    assert speakers(found.turns) == set(range(len(speakers(found.turns))))
    assert speakers(found.exclusive_turns) <= speakers(found.turns)
    assert set(found.voices) <= speakers(found.turns)
    for voice in found.voices.values():
        assert (voice.dtype, voice.shape) == (np.float32, (DIMENSION,))
        assert np.isfinite(voice).all()
        assert np.any(voice)


def same(left: Diarization, right: Diarization) -> bool:
    return (
        (left.turns, left.exclusive_turns) == (right.turns, right.exclusive_turns)
        and left.voices.keys() == right.voices.keys()
        and all(np.array_equal(left.voices[speaker], right.voices[speaker]) for speaker in left.voices)
    )


@pytest.fixture(scope="module")
def talk(conversations: Conversations) -> AudioStretch:
    return conversations["talk"].window()


# turns and voices


@pytest.mark.parametrize("name", VARIED)
def test_turns_and_voices_are_consistent(conversations: Conversations, diarized: Diarized, name: str) -> None:
    found = diarized(name)
    check(found, conversations[name].window())
    assert found.turns
    assert set(found.voices) == speakers(found.turns)


@pytest.mark.parametrize("name", VARIED)
def test_exclusive_turns_are_the_same_speech_without_overlap(diarized: Diarized, name: str) -> None:
    found = diarized(name)
    assert support(found.exclusive_turns).duration() == pytest.approx(support(found.turns).duration(), abs=0.001)
    for speaker in speakers(found.exclusive_turns):
        own, said = support(found.exclusive_turns, speaker), support(found.turns, speaker)
        assert own.crop(said).duration() == pytest.approx(own.duration(), abs=0.001)


def test_overlap_is_found(diarized: Diarized) -> None:
    found = diarized("libri-04")
    assert seconds(found.turns) > seconds(found.exclusive_turns) + 1


@pytest.mark.parametrize("offset_s", [0.3, 1_200.0, 86_400.125])
def test_times_are_on_the_upload_s_clock(
    diarizer: PyannoteDiarizer, talk: AudioStretch, diarized: Diarized, offset_s: float
) -> None:
    window = AudioStretch(3, offset_s, talk.pcm)
    found, plain = diarizer.diarize(window, never), diarized("talk")
    check(found, window)
    for turns, expected in ((found.turns, plain.turns), (found.exclusive_turns, plain.exclusive_turns)):
        assert [turn.speaker for turn in turns] == [turn.speaker for turn in expected]
        moved = [(turn.start_s - offset_s, turn.end_s - offset_s) for turn in turns]
        np.testing.assert_allclose(moved, [(turn.start_s, turn.end_s) for turn in expected], atol=1e-6)
    for speaker, voice in plain.voices.items():
        np.testing.assert_array_equal(found.voices[speaker], voice)


def test_who_is_too_short_for_a_cluster_still_has_a_voice(diarizer: PyannoteDiarizer, talk: AudioStretch) -> None:
    """Somebody's first 1.2 s sound like all that the same speaker says, far into a recording too."""
    pcm = talk.pcm[round(0.7 * SAMPLE_RATE_HZ) : round(1.9 * SAMPLE_RATE_HZ)]
    early, late = (diarizer.diarize(AudioStretch(0, offset_s, pcm), never) for offset_s in (0.0, 5_000.0))
    np.testing.assert_allclose(early.voices[0], late.voices[0], atol=0.05)
    whole = diarizer.embed(Waveform(from_pcm(talk.pcm[round(0.7 * SAMPLE_RATE_HZ) : round(2.8 * SAMPLE_RATE_HZ)])))
    assert cosine(early.voices[0], whole) > 0.7


# odd audio


@pytest.mark.parametrize("num_samples", [1, 2, 319, 1_600, SAMPLE_RATE_HZ, 45 * SAMPLE_RATE_HZ])
def test_silence_has_no_speakers(diarizer: PyannoteDiarizer, num_samples: int) -> None:
    assert diarizer.diarize(AudioStretch(0, 5.0, np.zeros(num_samples, np.int16)), never) == Diarization()


@pytest.mark.parametrize("sample", [-32_768, 1, FULL_SCALE])
def test_one_sample(diarizer: PyannoteDiarizer, sample: int) -> None:
    assert diarizer.diarize(AudioStretch(0, 5.0, pcm_of([sample])), never) == Diarization()


def white_noise(length_s: float, level: float) -> PcmSamples:
    return pcm_of(np.random.default_rng(0).normal(0, level, round(length_s * SAMPLE_RATE_HZ)))


@pytest.mark.parametrize(("length_s", "level"), [(20, 30), (20, 3_000), (20, 30_000)])
def test_white_noise_is_nobody(diarizer: PyannoteDiarizer, length_s: float, level: float) -> None:
    assert diarizer.diarize(AudioStretch(0, 5.0, white_noise(length_s, level)), never) == Diarization()


@pytest.mark.parametrize("length_s", [0.1, 0.5, 1, 3])
def test_a_burst_of_noise_is_one_speaker_at_most(diarizer: PyannoteDiarizer, length_s: float) -> None:
    window = AudioStretch(0, 5.0, white_noise(length_s, 3_000))
    found = diarizer.diarize(window, never)
    check(found, window)
    assert len(speakers(found.turns)) <= 1


@pytest.mark.parametrize(("start_s", "length_s"), [(0.9, 0.4), (0.7, 1.2)])
def test_a_word_alone_is_one_speaker(
    diarizer: PyannoteDiarizer, talk: AudioStretch, start_s: float, length_s: float
) -> None:
    first = round(start_s * SAMPLE_RATE_HZ)
    window = AudioStretch(0, 5.0, talk.pcm[first : first + round(length_s * SAMPLE_RATE_HZ)])
    found = diarizer.diarize(window, never)
    check(found, window)
    assert speakers(found.turns) == {0}
    assert seconds(found.turns) >= 0.7 * length_s


def test_speech_amid_silence_is_found_at_its_time(diarizer: PyannoteDiarizer, talk: AudioStretch) -> None:
    silence = np.zeros(30 * SAMPLE_RATE_HZ, np.int16)
    window = AudioStretch(0, 100.0, np.concatenate([silence, talk.pcm, silence]))
    found = diarizer.diarize(window, never)
    check(found, window)
    assert 130.3 <= found.turns[0].start_s <= 131.0
    assert 165.5 <= max(turn.end_s for turn in found.turns) <= 167.5
    assert len(speakers(found.turns)) == 2


def tone(*frequencies_hz: float, length_s: float) -> np.ndarray:
    times_s = np.arange(round(length_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return np.mean([np.sin(2 * np.pi * frequency_hz * times_s) for frequency_hz in frequencies_hz], axis=0)


CHORDS = [(261.6, 329.6, 392.0), (220.0, 261.6, 329.6), (293.7, 349.2, 440.0), (196.0, 246.9, 293.7)]
MUSIC = {
    "sine": 10_000 * tone(440.0, length_s=20),
    "chords": 25_000 * np.concatenate([tone(*chord, length_s=2) for chord in CHORDS * 3]),
    "square": FULL_SCALE * np.sign(tone(200.0, length_s=12)),
    "siren": 10_000 * np.sin(2 * np.pi * np.cumsum(600 + 300 * tone(0.5, length_s=20)) / SAMPLE_RATE_HZ),
}


@pytest.mark.parametrize("name", sorted(MUSIC.keys() - {"siren"}))
def test_tones_are_nobody(diarizer: PyannoteDiarizer, name: str) -> None:
    assert diarizer.diarize(AudioStretch(0, 5.0, pcm_of(MUSIC[name])), never) == Diarization()


def test_a_siren_is_one_speaker_at_most(diarizer: PyannoteDiarizer) -> None:
    """It glides as a voice does; nobody finds words in it."""
    window = AudioStretch(0, 5.0, pcm_of(MUSIC["siren"]))
    found = diarizer.diarize(window, never)
    check(found, window)
    assert len(speakers(found.turns)) <= 1


EXTREMES = {
    "lowest": np.full(12 * SAMPLE_RATE_HZ, -32_768),
    "alternating": np.where(np.arange(12 * SAMPLE_RATE_HZ) % 2, FULL_SCALE, -32_768),
    "clicks": np.where(np.arange(12 * SAMPLE_RATE_HZ) % 8_000 == 0, FULL_SCALE, 0),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_the_ends_of_the_scale_are_hardly_speech(diarizer: PyannoteDiarizer, name: str) -> None:
    window = AudioStretch(0, 5.0, pcm_of(EXTREMES[name]))
    found = diarizer.diarize(window, never)
    check(found, window)
    assert seconds(found.turns) < 1


@pytest.mark.parametrize("gain", [0.01, 50.0], ids=["quiet", "clipped"])
def test_level_does_not_change_who_speaks(diarizer: PyannoteDiarizer, talk: AudioStretch, gain: float) -> None:
    window = AudioStretch(0, 0.0, pcm_of(talk.pcm * gain))
    found = diarizer.diarize(window, never)
    check(found, window)
    assert len(speakers(found.turns)) == 2
    assert 0.8 <= support(found.turns).duration() / 26 <= 1.3


def test_samples_that_may_not_be_written_to_are_read(
    diarizer: PyannoteDiarizer, talk: AudioStretch, diarized: Diarized
) -> None:
    """As Ray hands arrays over."""
    pcm = talk.pcm.copy()
    pcm.flags.writeable = False
    assert same(diarizer.diarize(AudioStretch(0, 0.0, pcm), never), diarized("talk"))
    speech = from_pcm(pcm)
    speech.flags.writeable = False
    assert np.isfinite(diarizer.embed(Waveform(speech))).all()


def test_from_pcm() -> None:
    samples = from_pcm(np.array([-32_767, 0, 1, 32_767], np.int16))
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, np.array([-1, 0, 1 / 32_767, 1], np.float32))


# voices of clips


def cosine(left: Embedding, right: Embedding) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def test_embeddings_tell_voices_apart(diarizer: PyannoteDiarizer, conversations: Conversations) -> None:
    conversation = conversations["talk"]
    samples = from_pcm(conversation.window().pcm)
    voices: dict[str, list[Embedding]] = {}
    for segment, _, name in conversation.turns.itertracks(yield_label=True):
        piece = samples[round(segment.start * SAMPLE_RATE_HZ) : round(segment.end * SAMPLE_RATE_HZ)]
        voices.setdefault(name, []).append(diarizer.embed(Waveform(piece)))
    first, second = voices.values()
    assert min(len(first), len(second)) >= 6
    alike = [cosine(left, right) for own in (first, second) for left, right in combinations(own, 2)]
    unlike = [cosine(left, right) for left in first for right in second]
    assert min(alike) > max(unlike)
    assert np.mean(alike) > np.mean(unlike) + 0.4


@pytest.mark.parametrize("num_samples", [0, 1, 1_600, int(MIN_EMBEDDED_S * SAMPLE_RATE_HZ) - 1])
def test_too_little_speech_is_no_voice(diarizer: PyannoteDiarizer, num_samples: int) -> None:
    voice = diarizer.embed(Waveform(np.full(num_samples, 0.1, np.float32)))
    assert (voice.dtype, voice.shape) == (np.float32, (DIMENSION,))
    assert not np.any(voice)


def test_the_beginning_of_a_long_clip_is_enough(diarizer: PyannoteDiarizer, talk: AudioStretch) -> None:
    samples = from_pcm(talk.pcm)
    assert len(samples) > MAX_EMBEDDED_S * SAMPLE_RATE_HZ
    beginning = diarizer.embed(Waveform(samples[: int(MAX_EMBEDDED_S * SAMPLE_RATE_HZ)]))
    np.testing.assert_array_equal(diarizer.embed(Waveform(samples)), beginning)


@pytest.mark.parametrize("level", [0.0, 1e-30, 1.0, 1e4])
def test_voices_are_finite_at_any_level(diarizer: PyannoteDiarizer, talk: AudioStretch, level: float) -> None:
    samples = from_pcm(talk.pcm[: 3 * SAMPLE_RATE_HZ]) * np.float32(level)
    assert np.isfinite(diarizer.embed(Waveform(samples))).all()


# one window after the other


class CancelledAfter:
    """Says so when asked for the `num_asked`th time."""

    def __init__(self, num_asked: float) -> None:
        self.num_asked = 0
        self._limit = num_asked

    def __call__(self) -> bool:
        self.num_asked += 1
        return self.num_asked >= self._limit


def test_work_stops_as_soon_as_it_is_cancelled(
    diarizer: PyannoteDiarizer, conversations: Conversations, diarized: Diarized
) -> None:
    window = conversations["talk"].window()
    counted = CancelledAfter(float("inf"))
    assert same(diarizer.diarize(window, counted), diarized("talk"))
    assert counted.num_asked >= 10
    for limit in (1, 2, counted.num_asked // 2, counted.num_asked):
        is_cancelled = CancelledAfter(limit)
        with pytest.raises(Cancelled):
            diarizer.diarize(window, is_cancelled)
        assert is_cancelled.num_asked == limit
    assert same(diarizer.diarize(window, never), diarized("talk"))


def test_it_is_asked_oftener_in_a_longer_window(diarizer: PyannoteDiarizer, conversations: Conversations) -> None:
    """At least once in 40 s of audio, whatever the batch size."""
    window = conversations["dev00"].window()
    asked = CancelledAfter(float("inf"))
    diarizer.diarize(AudioStretch(0, 0.0, np.tile(window.pcm, 4)), asked)
    assert asked.num_asked >= 4 * window.end_s / 40


def test_nothing_is_kept_between_windows(
    diarizer: PyannoteDiarizer, conversations: Conversations, diarized: Diarized
) -> None:
    names = ("talk", "dev00", "tst01")
    silence = AudioStretch(0, 0.0, np.zeros(SAMPLE_RATE_HZ, np.int16))
    for order in (names, names[::-1]):
        for name in order:
            assert same(diarizer.diarize(conversations[name].window(), never), diarized(name)), (order, name)
            diarizer.embed(Waveform(np.full(SAMPLE_RATE_HZ, 0.1, np.float32)))
            diarizer.diarize(silence, never)


@pytest.mark.parametrize(
    ("length_s", "every_s", "is_trimmed"), [(10, 0, ()), (61, 600, (True,)), (61, 0, (False, True))]
)
def test_memory_of_long_stretches_is_given_back(
    diarizer: PyannoteDiarizer,
    monkeypatch: pytest.MonkeyPatch,
    length_s: int,
    every_s: float,
    is_trimmed: tuple[bool, ...],
) -> None:
    """Also while they are heard; cycles are looked for at the end alone."""
    trimmed: list[bool] = []
    monkeypatch.setattr("deployments.diarization.pyannote.trim_heap", lambda collect=True: trimmed.append(collect))
    monkeypatch.setattr("deployments.diarization.pyannote.TRIM_EVERY_S", every_s)
    diarizer.diarize(AudioStretch(0, 0.0, np.zeros(length_s * SAMPLE_RATE_HZ, np.int16)), never)
    assert tuple(sorted(set(trimmed))) == is_trimmed
    assert trimmed.count(True) == is_trimmed.count(True)


def test_the_batch_size_changes_nothing(checkpoint: Path, conversations: Conversations) -> None:
    diarizers = [PyannoteDiarizer(DiarizerArgs(str(checkpoint), batch_size=batch_size)) for batch_size in (1, 4, 16)]
    for name in ("libri-04", "tst00"):
        window = AudioStretch(0, 0.0, conversations[name].window().pcm[: 30 * SAMPLE_RATE_HZ])
        first, *others = (diarizer.diarize(window, never) for diarizer in diarizers)
        for other in others:
            assert (other.turns, other.exclusive_turns) == (first.turns, first.exclusive_turns), name
            for speaker, voice in first.voices.items():
                np.testing.assert_allclose(other.voices[speaker], voice, atol=1e-3)


@pytest.mark.parametrize(("given_s", "hop_s"), [(None, 1.0), (2.5, 2.5)])
def test_the_configuration_may_say_the_hop(
    checkpoint: Path, conversations: Conversations, given_s: float | None, hop_s: float
) -> None:
    pipeline = PyannoteDiarizer(DiarizerArgs(str(checkpoint), hop_s=given_s))._pipeline
    samples = from_pcm(conversations["talk"].window().pcm[: 12 * SAMPLE_RATE_HZ])
    windows = pipeline.get_segmentations({"waveform": torch.from_numpy(samples)[None], "sample_rate": SAMPLE_RATE_HZ})
    assert windows.sliding_window.step == pytest.approx(hop_s, abs=0.02)


def test_a_hop_that_leaves_speech_out_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"hop_s is 3\.5, but the windows of .* are 3 s: .*\.$"):
        PyannoteDiarizer(DiarizerArgs(str(checkpoint), hop_s=3.5))
