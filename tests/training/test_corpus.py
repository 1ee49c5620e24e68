import json
import math
import re
from pathlib import Path
from random import Random

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from models.training.corpus import synthesis
from models.training.corpus.acoustics import disturb, music, noise, reverberate
from models.training.corpus.grammar import LANGUAGES, TEMPLATES, free_words, sentence, vocabulary
from models.training.corpus.invented import INVENTED, variant
from models.training.corpus.numbers import before_noun, in_words
from models.training.corpus.parallel import in_processes
from models.training.corpus.pitch import repitch
from models.training.corpus.split import is_held_out
from models.training.corpus.synthesis import build, speak
from models.training.corpus.utterances import SAMPLE_RATE, Corpus
from models.training.corpus.voices import BASES, HELD_OUT_VARIANTS, HELD_OUT_VOICES, TRAINING_VOICES


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Corpus]:
    folder = tmp_path_factory.mktemp("corpora")
    return build(folder / "training", 120, seed=1), build(folder / "held-out", 60, seed=2, held_out=True)


def spectrum(samples: NDArray[np.float32]) -> list[float]:
    """How the power of a recording is shared by 16 bands."""
    bands = np.array_split(np.abs(np.fft.rfft(samples)) ** 2, 16)
    power = np.array([band.sum() for band in bands])
    return list(power / power.sum())


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, ("zero", "null", "cero", "zéro")),
        (21, ("twenty one", "einundzwanzig", "veintiuno", "vingt et un")),
        (38, ("thirty eight", "achtunddreißig", "treinta y ocho", "trente-huit")),
        (71, ("seventy one", "einundsiebzig", "setenta y uno", "soixante et onze")),
        (80, ("eighty", "achtzig", "ochenta", "quatre-vingts")),
        (99, ("ninety nine", "neunundneunzig", "noventa y nueve", "quatre-vingt-dix-neuf")),
        (100, ("one hundred", "hundert", "cien", "cent")),
    ],
)
def test_numbers_in_words(number: int, words: tuple[str, ...]) -> None:
    assert tuple(in_words(number, language) for language in LANGUAGES) == words


def test_a_number_agrees_with_its_noun() -> None:
    assert before_noun(21, "es", "m") == "veintiún"
    assert before_noun(31, "es", "f") == "treinta y una"
    assert before_noun(61, "fr", "f") == "soixante et une"
    assert before_noun(81, "fr", "f") == "quatre-vingt-une"
    assert before_noun(71, "fr", "f") == "soixante et onze"
    assert before_noun(1, "es", "m") == "un"


def test_no_two_numbers_share_their_words() -> None:
    for language in LANGUAGES:
        assert len({in_words(number, language) for number in range(101)}) == 101


def test_a_number_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="words here, got 101"):
        in_words(101, "en")


def test_sentences_fill_every_template_in_every_language() -> None:
    random = Random(0)
    texts = [sentence(random).texts for _ in range(3000)]
    for language in LANGUAGES:
        assert not any("{" in text[language] for text in texts)
        starts = {template[language].split("{")[0] for template in TEMPLATES} - {""}
        for start in starts:
            assert any(text[language].startswith(start) for text in texts), start
        for text in texts:
            letters = [character for character in text[language] if character.isalpha()]
            assert letters[0].isupper()
            assert text[language][-1] in ".?"


def test_articles_adjectives_and_contractions_agree() -> None:
    random = Random(1)
    texts = [text for _ in range(4000) for text in sentence(random).texts.values()]
    assert not any(" de el " in text for text in texts)
    assert not any(" a apple" in text or " an dog" in text for text in texts)
    assert any("l'église" in text.lower() for text in texts)
    assert not any("la église" in text or "le église" in text.lower() for text in texts)


def test_every_word_of_a_held_out_sentence_is_learnt_in_another() -> None:
    """Else a transcript of it would be a guess, and its translation could not be known at all."""
    random = Random(7)
    learnt: dict[str, set[str]] = {language: set() for language in LANGUAGES}
    asked = {language: set[str]() for language in LANGUAGES}
    for texts in (sentence(random).texts for _ in range(20_000)):
        is_learnt = not is_held_out(texts.values())
        for language, text in texts.items():
            if is_learnt or is_held_out([text]):
                (learnt if is_learnt else asked)[language].update(re.findall(r"[\w'-]+", text.lower()))
    for language in LANGUAGES:
        assert asked[language] <= learnt[language]


def test_the_numbers_of_a_sentence_are_those_it_says() -> None:
    random = Random(2)
    for _ in range(500):
        drawn = sentence(random)
        for language in LANGUAGES:
            words = drawn.texts[language].lower().replace("ú", "u")
            for number in drawn.numbers:
                # a final "one" is declined before a noun: veintiuno, veintiún
                assert in_words(number, language)[:-1].rstrip("n") in words


def test_free_words_come_from_the_vocabulary() -> None:
    random = Random(3)
    known = {word.lower() for word in vocabulary("de")} | set(
        "null eins zwei drei vier fünf sechs sieben acht neun".split()
    )
    for _ in range(100):
        assert {word.lower() for word in free_words(random, "de").rstrip(".").split()} <= known


def test_one_text_in_twenty_is_held_out_but_no_short_one() -> None:
    random = Random(4)
    texts = {sentence(random).texts["en"] for _ in range(4000)}
    long = [text for text in texts if len(text.split()) > 3]
    assert 0.035 < sum(is_held_out([text]) for text in long) / len(long) < 0.065
    assert not any(is_held_out([text]) for text in texts if len(text.split()) <= 3)


def test_training_and_evaluation_do_not_meet(corpora: tuple[Corpus, Corpus]) -> None:
    training, evaluation = corpora
    for language in LANGUAGES:
        assert not set(TRAINING_VOICES[language]) & set(HELD_OUT_VOICES[language])
    assert not {utterance.voice for utterance in training} & {utterance.voice for utterance in evaluation}
    assert {utterance.voice.split("+")[1] for utterance in evaluation} <= set(HELD_OUT_VARIANTS)
    assert not any(is_held_out([utterance.text]) for utterance in training)
    assert not any(utterance.english and is_held_out([utterance.english]) for utterance in training)
    assert all(is_held_out([utterance.text]) for utterance in evaluation)


def test_invented_voices_are_all_different_and_always_the_same() -> None:
    assert len({variant(name) for name in INVENTED}) == len(INVENTED)
    first, second, again = (
        speak("Anna sleeps.", f"en-us+{name}").samples for name in ("invented0", "invented1", "invented0")
    )
    assert abs(len(first) - len(again)) < SAMPLE_RATE // 100
    assert spectrum(first) == pytest.approx(spectrum(again), abs=0.05)
    assert spectrum(first) != pytest.approx(spectrum(second), abs=0.05)


def test_invented_voices_speak_in_every_language(corpora: tuple[Corpus, Corpus]) -> None:
    invented = [utterance for utterance in corpora[0] if utterance.voice.partition("+")[2] in INVENTED]
    assert {utterance.language for utterance in invented} == set(LANGUAGES)
    assert 0.2 < len(invented) / len(corpora[0]) < 0.6


def test_a_corpus_is_synthesised_once(corpora: tuple[Corpus, Corpus], tmp_path: Path) -> None:
    first = build(tmp_path, 120, seed=1)
    written = (tmp_path / "samples.pcm").stat().st_mtime_ns
    assert list(build(tmp_path, 120, seed=1)) == list(first)
    assert (tmp_path / "samples.pcm").stat().st_mtime_ns == written
    # what espeak-ng remembers of the sentence before shifts a sample here and there
    said = [(utterance.voice, utterance.text) for utterance in corpora[0]]
    assert [(utterance.voice, utterance.text) for utterance in first] == said


def test_a_corpus_of_other_sentences_or_voices_is_synthesised_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, 10, seed=5)
    kept = (tmp_path / "order.json").read_text()
    monkeypatch.setattr(synthesis, "_edition", lambda: 0)
    build(tmp_path, 10, seed=5)
    assert json.loads((tmp_path / "order.json").read_text()) == json.loads(kept) | {"edition": 0}


def test_the_edition_of_a_corpus_is_that_of_its_words_and_voices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editions = {synthesis._edition.__wrapped__()}
    with monkeypatch.context() as changed:
        changed.setattr(synthesis, "variant", str.upper)
        editions.add(synthesis._edition.__wrapped__())
    (tmp_path / "nouns.csv").write_text("en,de\ndog,Hund\n")
    monkeypatch.setattr(synthesis, "LEXICON", tmp_path)
    editions.add(synthesis._edition.__wrapped__())
    assert len(editions) == 3


def test_work_in_processes_keeps_its_order() -> None:
    assert list(in_processes(math.factorial, range(20), processes=2)) == [math.factorial(item) for item in range(20)]


def test_an_interrupted_synthesis_starts_again(tmp_path: Path) -> None:
    build(tmp_path, 10, seed=5)
    (tmp_path / "order.json").unlink()
    assert len(build(tmp_path, 12, seed=5)) == 12


def test_utterances_know_their_words_and_phones(corpora: tuple[Corpus, Corpus]) -> None:
    for utterance in corpora[0]:
        samples = corpora[0].samples(utterance)
        assert len(samples) == utterance.length
        assert 0.65 < np.abs(samples).max() < 0.75
        assert " ".join(word for word, _, _ in utterance.words) == utterance.text
        starts = [start for _, start, _ in utterance.words]
        assert starts == sorted(starts)
        assert utterance.words[-1][2] == pytest.approx(utterance.duration_s, abs=0.01)
        assert [start for _, start in utterance.phones] == sorted(start for _, start in utterance.phones)


def test_the_times_of_words_are_where_they_sound() -> None:
    """Between two words with a long pause there is silence, at the place that the times say."""
    speech = speak("Anna Berlin.", "en-us", word_gap=60)
    pause = int(speech.words[1][1] * SAMPLE_RATE) - SAMPLE_RATE // 5
    assert np.abs(speech.samples[pause : pause + SAMPLE_RATE // 10]).max() < 0.01
    assert np.abs(speech.samples[int(speech.words[1][1] * SAMPLE_RATE) :][:3200]).max() > 0.2


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_base_voice_speaks(language: str) -> None:
    for voice in BASES[language]:
        assert len(speak("Anna.", voice).samples) > SAMPLE_RATE // 5


def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(ValueError, match="no voice 'nobody'"):
        speak("Hello.", "nobody")


def test_noise_and_music_have_unit_power_and_are_drawn_again_the_same() -> None:
    for seed in range(20):
        for make in (noise, music):
            made = make(Random(seed), SAMPLE_RATE)
            assert made.shape == (SAMPLE_RATE,)
            assert np.sqrt((made**2).mean()) == pytest.approx(1, abs=0.1)
            assert np.array_equal(made, make(Random(seed), SAMPLE_RATE))


def test_disturbed_speech_keeps_its_length_and_range() -> None:
    samples = speak("Good morning.", "en-us").samples
    assert np.abs(reverberate(Random(0), samples)).max() == pytest.approx(0.7, abs=0.01)
    for seed in range(20):
        disturbed = disturb(Random(seed), samples)
        assert disturbed.shape == samples.shape
        assert np.abs(disturbed).max() <= 1


@pytest.mark.parametrize("ratio", [0.9, 1.14])
def test_another_pitch_moves_the_harmonics_and_leaves_the_formants(ratio: float) -> None:
    spoken = speak("Where is the little house of my brother?", "en-us", rate=150, pitch=50).samples
    moved = repitch(spoken, ratio)
    assert len(moved) == len(spoken)
    loudness = librosa.feature.rms(y=spoken)[0]
    ratios = (pitch_hz(moved) / pitch_hz(spoken))[loudness > np.median(loudness)]
    assert np.median(ratios) == pytest.approx(ratio, rel=0.03)
    faster = librosa.effects.pitch_shift(spoken, sr=SAMPLE_RATE, n_steps=12 * math.log2(ratio))
    assert formant_shift(spoken, moved) < 0.65 * formant_shift(spoken, faster)


def pitch_hz(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    return librosa.yin(samples, fmin=60, fmax=400, sr=SAMPLE_RATE)


def formant_shift(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """How far the smooth spectra of two recordings lie apart, by their cepstra without the level."""
    one, other = (librosa.feature.mfcc(y=samples, sr=SAMPLE_RATE, n_mfcc=14)[1:] for samples in (before, after))
    return float(np.abs(one - other).mean())
