"""The examples that Whisper learns from: what they say is what is heard in them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import WhisperTokenizer

from models.training.corpus.grammar import LANGUAGES
from models.training.corpus.synthesis import build
from models.training.corpus.utterances import SAMPLE_RATE, Corpus, Utterance
from models.training.whisper.labels import FRAME, SILENCE, Labels, phone_set
from models.training.whisper.settings import Content
from models.training.whisper.tokenizer import Vocabulary
from models.training.whisper.windows import FULL_FRAMES, FULL_SAMPLES, IGNORED, MAX_TOKENS, Kind, Window, WindowMaker

CHECKPOINT = Path(__file__).parent.parent.parent / "models" / "whisper-embedded"

CLEAN = Content(
    p_translate=0, p_free=0, p_timestamps=1, p_prompt=0, p_offset=0, p_silent=0, p_disturb=0, p_speed=0
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> WhisperTokenizer:
    return WhisperTokenizer.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def vocabulary(tokenizer: WhisperTokenizer) -> Vocabulary:
    return Vocabulary.of(tokenizer)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build(tmp_path_factory.mktemp("corpus"), 100, seed=1)


@pytest.fixture(scope="module")
def maker(corpus: Corpus, tokenizer: WhisperTokenizer, vocabulary: Vocabulary) -> WindowMaker:
    return WindowMaker(corpus, Labels(tokenizer, phone_set(corpus, at_least=5)), vocabulary)


class LongSentences(Corpus):
    """The three longest of each language: many of them do not fit into 30 s."""

    def __init__(self, corpus: Corpus) -> None:
        self._all = corpus
        longest = sorted((item for item in corpus if item.english is not None), key=lambda item: -item.length)
        of = {name: [item for item in longest if item.language == name] for name in LANGUAGES}
        self._utterances = [item for items in of.values() for item in items[:3]]

    def samples(self, utterance: Utterance) -> NDArray[np.float32]:
        return self._all.samples(utterance)


@dataclass(frozen=True)
class Said:
    """A sentence of a window as its labels write it, times in samples."""

    text: str
    start: int
    end: int
    spans: np.ndarray  # type: ignore[type-arg]


def windows(maker: WindowMaker, kind: Kind, content: Content, count: int) -> Iterator[Window]:
    random = Random(7)
    for _ in range(count):
        yield maker.draw(random, kind, content)


def written(window: Window) -> list[int]:
    """What the decoder is to write after the task."""
    asked = [position for position, label in enumerate(window.labels) if label != IGNORED]
    return [window.labels[position] for position in asked[1:]]


def sentences(window: Window, tokenizer: WhisperTokenizer, vocabulary: Vocabulary) -> list[Said]:
    """The sentences between two timestamps."""
    times = [place for place, label in enumerate(window.labels) if label >= vocabulary.timestamps]
    return [
        Said(
            text=tokenizer.decode(window.labels[first + 1 : last]).strip(),
            start=(window.labels[first] - vocabulary.timestamps) * FRAME,
            end=(window.labels[last] - vocabulary.timestamps) * FRAME,
            spans=window.spans[first + 1 : last],
        )
        for first, last in zip(times[::2], times[1::2], strict=False)
    ]


def heard(window: Window, said: Said, corpus: Corpus) -> Utterance | None:
    """The utterance with this text whose very samples, louder or quieter, lie where the timestamps say."""
    for utterance in corpus:
        samples = corpus.samples(utterance)
        if utterance.text != said.text or abs(len(samples) - (said.end - said.start)) > FRAME:
            continue
        for shift in range(-FRAME // 2, FRAME // 2 + 1):
            part = window.samples[max(0, said.start + shift) : max(0, said.start + shift) + len(samples)]
            loudness = np.abs(part).max() / np.abs(samples).max()
            if len(part) == len(samples) and np.allclose(part[:3200], samples[:3200] * loudness, atol=1e-4):
                return utterance if np.allclose(part, samples * loudness, atol=1e-4) else None
    return None


@pytest.mark.parametrize("kind", ["short", "medium", "full"])
def test_each_label_is_the_next_token(maker: WindowMaker, vocabulary: Vocabulary, kind: Kind) -> None:
    content = replace(CLEAN, p_timestamps=0.5, p_prompt=0.5, p_translate=0.3, p_free=0.3, p_silent=0.2)
    for window in windows(maker, kind, content, 40):
        assert len(window.tokens) == len(window.labels) == len(window.spans) <= MAX_TOKENS
        assert len(window.samples) == window.num_frames * FRAME <= FULL_SAMPLES
        assert (window.num_frames == FULL_FRAMES) or kind != "full"
        start = window.tokens.index(vocabulary.start)
        assert window.labels[:start] == [IGNORED] * start
        assert window.labels[start] in {*vocabulary.languages.values(), vocabulary.no_speech}
        assert window.labels[-1] == vocabulary.end
        following = [*window.tokens[start + 2 :], vocabulary.end]
        for label, token in zip(window.labels[start + 1 :], following, strict=True):
            assert label in (token, IGNORED)


@pytest.mark.parametrize("kind", ["short", "medium", "full"])
def test_each_sentence_is_heard_between_its_timestamps(
    maker: WindowMaker, corpus: Corpus, tokenizer: WhisperTokenizer, vocabulary: Vocabulary, kind: Kind
) -> None:
    for window in windows(maker, kind, CLEAN, 6):
        said = sentences(window, tokenizer, vocabulary)
        assert said
        assert [item.start for item in said] == sorted(item.start for item in said)
        for item in said:
            utterance = heard(window, item, corpus)
            assert utterance is not None, item.text
            language = window.labels[window.tokens.index(vocabulary.start)]
            assert vocabulary.languages[utterance.language] == language


def test_spans_hold_the_words_and_grow(
    maker: WindowMaker, corpus: Corpus, tokenizer: WhisperTokenizer, vocabulary: Vocabulary
) -> None:
    for window in windows(maker, "short", CLEAN, 10):
        (said,) = sentences(window, tokenizer, vocabulary)
        utterance = heard(window, said, corpus)
        assert utterance is not None
        starts, ends = said.spans.T
        assert (np.diff(starts) >= 0).all()
        assert (np.diff(ends) >= 0).all()
        # one frame more on either side; the timestamp is rounded to a frame
        pieces = tokenizer.convert_ids_to_tokens(tokenizer(" " + said.text, add_special_tokens=False).input_ids)
        beginnings = [place for place, piece in enumerate(pieces) if piece.startswith("Ġ")]
        assert len(beginnings) == len(utterance.words)
        for place, (_, start, _) in zip(beginnings, utterance.words, strict=True):
            assert starts[place] == pytest.approx((said.start + start * SAMPLE_RATE) / FRAME - 1, abs=0.51)
        assert ends[-1] == pytest.approx(said.end / FRAME + 1, abs=1.02)


def test_spans_and_phones_follow_the_speed_of_speech(
    maker: WindowMaker, corpus: Corpus, tokenizer: WhisperTokenizer, vocabulary: Vocabulary
) -> None:
    for window in windows(maker, "medium", replace(CLEAN, p_speed=1), 10):
        is_silent = np.ones(window.num_frames, bool)
        for said in sentences(window, tokenizer, vocabulary):
            # some of flite's voices are heard before their first word
            leads = [
                utterance.words[0][1] / utterance.duration_s * (said.end - said.start)
                for utterance in corpus
                if utterance.text == said.text
            ]
            begins = [pytest.approx((said.start + lead) / FRAME - 1, abs=0.6) for lead in leads]
            assert any(said.spans[0, 0] == begin for begin in begins)
            assert said.spans[-1, 1] == pytest.approx(said.end / FRAME + 1, abs=1.02)
            is_silent[max(0, said.start // FRAME - 1) : said.end // FRAME + 1] = False
            assert (window.phones[said.start // FRAME : said.end // FRAME] != SILENCE).any()
        assert (window.phones[is_silent] == SILENCE).all()
        assert not window.samples.reshape(-1, FRAME)[is_silent].any()


def test_without_timestamps_none_is_read_or_written(maker: WindowMaker, vocabulary: Vocabulary) -> None:
    for window in windows(maker, "medium", replace(CLEAN, p_timestamps=0), 10):
        assert vocabulary.no_timestamps in window.tokens
        assert max(window.tokens + window.labels) < vocabulary.timestamps
    for window in windows(maker, "medium", CLEAN, 10):
        assert vocabulary.no_timestamps not in window.tokens


def test_translations_are_english_and_have_no_spans(
    maker: WindowMaker, corpus: Corpus, tokenizer: WhisperTokenizer, vocabulary: Vocabulary
) -> None:
    english = {utterance.english for utterance in corpus}
    num_translated = 0
    for window in windows(maker, "medium", replace(CLEAN, p_translate=1), 20):
        if vocabulary.translate not in window.tokens:
            assert vocabulary.languages["en"] in window.tokens
            continue
        num_translated += 1
        for said in sentences(window, tokenizer, vocabulary):
            assert said.text in english
            assert (said.spans == -1).all()
    assert num_translated > 5


def test_a_prompt_is_read_but_not_written(
    maker: WindowMaker, corpus: Corpus, tokenizer: WhisperTokenizer, vocabulary: Vocabulary
) -> None:
    texts = {utterance.text for utterance in corpus}
    for window in windows(maker, "short", replace(CLEAN, p_prompt=1), 10):
        start = window.tokens.index(vocabulary.start)
        assert window.tokens[0] == vocabulary.previous
        assert 1 < start <= MAX_TOKENS // 2
        assert window.labels[:start] == [IGNORED] * start
        assert any(tokenizer.decode(window.tokens[1:start]).strip().endswith(text) for text in texts)


@pytest.mark.parametrize("kind", ["short", "full"])
def test_silence_is_answered_with_nothing(maker: WindowMaker, vocabulary: Vocabulary, kind: Kind) -> None:
    seen = set()
    for window in windows(maker, kind, replace(CLEAN, p_silent=1, p_timestamps=0.5), 20):
        assert window.labels[0] == vocabulary.no_speech
        seen.add(tuple(written(window)))
        assert (window.phones == SILENCE).all()
        assert np.abs(window.samples).max() <= 1
    assert seen == {(vocabulary.end,), (vocabulary.timestamps, vocabulary.end)}


def test_some_windows_are_padded_with_pure_zeros(
    maker: WindowMaker, tokenizer: WhisperTokenizer, vocabulary: Vocabulary
) -> None:
    padded, filled = 0, 0
    for window in windows(maker, "full", replace(CLEAN, p_disturb=1), 40):
        last = int(np.nonzero(window.samples)[0][-1])
        assert sentences(window, tokenizer, vocabulary)[-1].end <= last + FRAME
        padded += last < FULL_SAMPLES - 5 * SAMPLE_RATE
        filled += last > FULL_SAMPLES - FRAME
    assert padded > 5
    assert filled > 5


def test_of_a_sentence_cut_off_only_the_start_is_written(
    corpus: Corpus, tokenizer: WhisperTokenizer, vocabulary: Vocabulary
) -> None:
    maker = WindowMaker(LongSentences(corpus), Labels(tokenizer, ("_",)), vocabulary)
    num_cut = 0
    for window in windows(maker, "full", CLEAN, 150):
        times = [label - vocabulary.timestamps for label in window.labels if label >= vocabulary.timestamps]
        assert times == sorted(times)
        assert times[-1] <= FULL_FRAMES
        if len(times) % 2 == 0:
            continue
        num_cut += 1
        assert window.labels[-2:] == [vocabulary.timestamps + times[-1], vocabulary.end]
        assert window.spans[-2].tolist() == pytest.approx([times[-1] - 1, times[-1] + 3], abs=0.51)
        assert np.abs(window.samples[-SAMPLE_RATE // 5 :]).max() > 0
    assert num_cut > 2
