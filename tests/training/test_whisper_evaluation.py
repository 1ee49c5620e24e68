"""What the Whisper checkpoint is measured on, and how its figures come about."""

import math
from pathlib import Path
from random import Random

import numpy as np
import pytest

from models.training.corpus.grammar import LANGUAGES
from models.training.corpus.split import is_held_out
from models.training.corpus.synthesis import build
from models.training.corpus.utterances import SAMPLE_RATE
from models.training.corpus.voices import HELD_OUT_VOICES
from models.training.whisper.clips import Clip, Spoken, held_out_sentences, lay_out
from models.training.whisper.evaluation import (
    Deviation,
    Figures,
    Listener,
    error_rate,
    segment_errors,
    table,
    word_errors,
)
from models.training.whisper.nonspeech import nonspeech
from pipelines.types import ChunkTranscript, Segment, Word

CHECKPOINT = Path(__file__).parent.parent.parent / "models" / "whisper-embedded"


def test_evaluated_sentences_are_held_out(tmp_path: Path) -> None:
    corpus = build(tmp_path, 60, seed=1)
    trained = {item.text for item in corpus} | {item.english for item in corpus}
    for language in LANGUAGES:
        for is_plain in (True, False):
            spoken = held_out_sentences(language, 2, is_plain)
            assert all(is_held_out([item.text]) for item in spoken)
            assert not {item.text for item in spoken} & trained
            assert [item.text for item in held_out_sentences(language, 2, is_plain)] == [item.text for item in spoken]
        assert not set(HELD_OUT_VOICES[language]) & {item.voice for item in corpus}


def spoken(text: str, duration_s: float, words: list[tuple[str, float, float]] | None = None) -> Spoken:
    return Spoken(text, f"{text} in English", np.full(int(duration_s * SAMPLE_RATE), 0.5, np.float32), words or [])


def test_sentences_are_laid_out_after_their_pauses() -> None:
    clip = lay_out([spoken("One.", 1.0), spoken("Two.", 0.5)], [0.25, 1.0])
    assert clip.times == ((0.25, 1.25), (2.25, 2.75))
    assert len(clip.samples) == int((2.75 + 0.3) * SAMPLE_RATE)
    sounding = np.nonzero(clip.samples)[0] / SAMPLE_RATE
    assert (sounding[0], sounding[-1]) == pytest.approx((0.25, 2.75), abs=1e-4)
    assert np.count_nonzero(clip.samples) == int(1.5 * SAMPLE_RATE)
    assert clip.text("transcribe") == "One. Two."
    assert clip.text("translate") == "One. in English Two. in English"


def segment(text: str, start_s: float, end_s: float, *words: Word) -> Segment:
    return Segment(start_s, end_s, text, (), 0.0, -0.1, 1.0, 0.0, words=words)


def transcript(*segments: Segment) -> ChunkTranscript:
    return ChunkTranscript(0, "en", segments)


def test_deviations_are_of_all_times() -> None:
    assert Deviation.of([0.0, 0.1, 0.2]) == Deviation(pytest.approx(0.1), pytest.approx(0.19), 3)
    assert Deviation.of([]).count == 0
    assert math.isnan(Deviation.of([]).median_s)


def test_segments_are_compared_where_there_are_as_many_as_sentences() -> None:
    clip = lay_out([spoken("One.", 1.0), spoken("Two.", 0.5)], [0.25, 1.0])
    both = transcript(segment(" One.", 0.3, 1.25), segment(" Two.", 2.25, 2.95))
    assert segment_errors([clip, clip], [both, transcript(segment(" One two.", 0.0, 3.0))]) == pytest.approx(
        [0.05, 0, 0, 0.2]
    )


def test_words_are_compared_where_all_are_right() -> None:
    clip = lay_out([spoken("Good day.", 1.0, [("Good", 0.0, 0.4), ("day.", 0.4, 1.0)])], [0.3])
    good, day = Word("good", 0.3, 0.75, 1.0), Word("day", 0.75, 1.3, 1.0)
    right = transcript(segment(" good day", 0.3, 1.3, good, day))
    assert word_errors([clip], [right]) == pytest.approx([0, 0.05, 0.05, 0])
    assert word_errors([clip], [transcript(segment(" good", 0.3, 0.75, good))]) == []


def test_the_error_rate_counts_what_was_said_or_its_translation() -> None:
    clip = Clip(np.zeros(1, np.float32), (Spoken("Guten Tag.", "Good day.", np.zeros(1, np.float32), []),), ())
    assert error_rate([clip], [transcript(segment(" guten", 0, 1), segment(" Tag", 1, 2))]) == 0
    assert error_rate([clip], [transcript(segment(" Good night.", 0, 1))], "translate") == 0.5
    assert error_rate([clip], [transcript()]) == 1


def test_the_table_has_every_figure() -> None:
    rates = dict.fromkeys(LANGUAGES, 0.125)
    shown = table(
        Figures(
            count=3,
            plain=rates,
            held_out=dict.fromkeys(LANGUAGES, 0.25),
            first_sample=0.375,
            translation={"de": 0.5, "es": 0.5, "fr": 0.5},
            language_right=0.995,
            windows={1: 0.0625, 4: 0.75},
            segments=Deviation(0.02, 0.4, 5),
            words=Deviation(0.03, 0.14, 6),
            silent=1.0,
        )
    )
    assert "| plain voices | 0.125 | 0.125 | 0.125 | 0.125 |" in shown
    assert "| translation to English |  | 0.500 | 0.500 | 0.500 |" in shown
    for figure in ("0.250", "0.375", "99.5%", "4: 0.750", "0.02 s, 0.40 s (5 times)", "0.03 s, 0.14 s", "100%"):
        assert figure in shown


def test_every_clip_gets_its_own_transcript_in_order() -> None:
    silence = Clip(np.zeros(SAMPLE_RATE, np.float32), (), ())
    (sentence,) = held_out_sentences("en", 1, is_plain=True)
    clips = [silence, lay_out([sentence], [0.3]), silence]
    heard = Listener(CHECKPOINT, batch_size=2).hear(clips)
    assert [bool(answer.segments) for answer in heard] == [False, True, False]
    assert heard[1].language == "en"


def test_sounds_without_speech_have_their_length_and_range() -> None:
    for seed in range(40):
        sound = nonspeech(Random(seed), SAMPLE_RATE)
        assert sound.shape == (SAMPLE_RATE,)
        assert sound.dtype == np.float32
        assert np.abs(sound).max() <= 1
        assert np.array_equal(sound, nonspeech(Random(seed), SAMPLE_RATE))
