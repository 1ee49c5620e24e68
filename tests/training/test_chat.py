"""What the chat model is asked, and what is right."""

from collections import Counter
from random import Random

import numpy as np
import pytest

from models.training.chat.answers import answer, possible_tasks
from models.training.chat.judges import judge
from models.training.chat.questions import ASKED, ASKED_AFTERWARDS, question
from models.training.chat.scenes import Scene
from models.training.chat.text_tasks import SMALL_TALK
from models.training.corpus.utterances import SAMPLE_RATE, Utterance
from models.training.scoring import normalise

ALL_TASKS = ["contents", "transcribe", "language", "count", "number", "speaking", "translate"]


def utterance(language: str, text: str, english: str | None, numbers: list[int] | None) -> Utterance:
    """Half a second for each word."""
    words = [(word, place / 2, (place + 1) / 2) for place, word in enumerate(text.split())]
    return Utterance(language, "de", text, english, numbers, words, [], 0, len(words) * SAMPLE_RATE // 2)


def scene(*spoken: Utterance) -> Scene:
    """The utterances one after another, after a second of silence."""
    starts = [1 + sum(before.duration_s for before in spoken[:place]) for place in range(len(spoken))]
    return Scene(np.zeros(5 * SAMPLE_RATE, np.float32), tuple(zip(starts, spoken, strict=True)))


GERMAN = scene(utterance("de", "Anna hat einundzwanzig Hunde.", "Anna has twenty one dogs.", [21]))
ENGLISH = scene(utterance("en", "Where is Hugo?", "Where is Hugo?", []))
SPANISH = scene(
    utterance("es", "Hugo tiene treinta y una casas.", "Hugo has thirty one houses.", [31]),
    utterance("es", "Buenos días.", "Good morning.", []),
)
FREE = scene(utterance("fr", "Chien.", None, None))
NOISE = Scene(np.zeros(SAMPLE_RATE, np.float32), background="noise")


@pytest.mark.parametrize(
    ("task", "heard", "right"),
    [
        ("contents", GERMAN, 'A person says in German: "Anna hat einundzwanzig Hunde."'),
        ("transcribe", GERMAN, "Anna hat einundzwanzig Hunde."),
        ("language", GERMAN, "German."),
        ("count", GERMAN, '"Anna hat einundzwanzig Hunde." has 4 words.'),
        ("number", GERMAN, "einundzwanzig (21)"),
        ("speaking", GERMAN, "Yes, somebody is speaking German."),
        ("translate", GERMAN, "Anna has twenty one dogs."),
        ("translate", ENGLISH, "Where is Hugo?"),
        ("number", ENGLISH, "No number was said."),
        ("transcribe", SPANISH, "Hugo tiene treinta y una casas. Buenos días."),
        ("translate", SPANISH, "Hugo has thirty one houses. Good morning."),
        ("number", SPANISH, "treinta y uno (31)"),
        ("count", FREE, '"Chien." has 1 word.'),
        ("contents", NOISE, "There is no speech, only noise."),
        ("transcribe", NOISE, "There is no speech in this audio."),
        ("language", NOISE, "There is no speech in this audio."),
        ("count", NOISE, "0 words: there is no speech."),
        ("number", NOISE, "No number was said."),
        ("speaking", NOISE, "No, nobody is speaking."),
        ("translate", NOISE, "There is no speech in this audio."),
    ],
)
def test_the_right_answer(task: str, heard: Scene, right: str) -> None:
    assert answer(task, heard).text == right
    assert task in possible_tasks(heard)


def test_what_has_no_single_answer_is_not_asked() -> None:
    digits = utterance("en", "The number is two seven.", "The number is two seven.", [2, 7])
    assert set(ALL_TASKS) - set(possible_tasks(scene(digits))) == {"number"}
    assert set(ALL_TASKS) - set(possible_tasks(FREE)) == {"number", "translate"}
    with pytest.raises(ValueError, match="no English translation"):
        answer("translate", FREE)


@pytest.mark.parametrize(
    ("task", "heard", "sounds"),
    [
        ("transcribe", GERMAN, [("Anna", 1.0), ("hat", 1.5), ("einundzwanzig", 2.0), ("Hunde.", 2.5)]),
        ("count", ENGLISH, [("Where", 1.0), ("is", 1.5), ("Hugo?", 2.0)]),
        ("number", GERMAN, [("einundzwanzig (21)", 2.0)]),
        ("number", SPANISH, [("treinta y uno (31)", 2.0)]),
        ("translate", GERMAN, []),
        ("contents", NOISE, []),
    ],
)
def test_answers_know_when_their_words_are_spoken(task: str, heard: Scene, sounds: list[tuple[str, float]]) -> None:
    said = answer(task, heard)
    assert [(said.text[word.first : word.last], word.start) for word in said.timed] == sounds


def test_a_second_utterance_goes_on_in_the_transcript() -> None:
    said = SPANISH.transcript
    assert [(said.text[word.first : word.last], word.start, word.end) for word in said.timed[-2:]] == [
        ("Buenos", 4.0, 4.5),
        ("días.", 4.5, 5.0),
    ]


@pytest.mark.parametrize(
    ("task", "wanted", "said", "right"),
    [
        ("transcribe", "Where is Hugo?", "where is hugo", True),
        ("transcribe", "Where is Hugo?", "Where is Hugo Hugo?", False),
        ("transcribe", "Où est Éva ?", "Ou est Eva ?", False),
        ("language", "German.", "It is German.", True),
        ("language", "German.", "German or French.", False),
        ("count", '"One dog." has 2 words.', "2", True),
        ("count", '"One dog." has 2 words.', '"One dog." has 12 words.', False),
        ("number", "einundzwanzig (21)", "The number 21 was said.", True),
        ("number", "einundzwanzig (21)", "No number was said.", False),
        ("number", "No number was said.", "2 (zwei)", False),
        ("speaking", "Yes, somebody is speaking German.", "Yes.", True),
        ("speaking", "No, nobody is speaking.", "Yes, somebody is speaking German.", False),
        ("speaking", "No, nobody is speaking.", "Nobody.", False),
        ("repair", "We use VORT.", "We use VORT. ", True),
        ("repair", "We use VORT.", "We use Vort.", False),
        ("greeting", "Goodbye!", "goodbye", True),
    ],
)
def test_judges(task: str, wanted: str, said: str, right: bool) -> None:
    assert judge(task)(wanted, said) is right


def test_no_phrasing_belongs_to_two_tasks() -> None:
    kinds = [(task, texts) for asked in (ASKED, ASKED_AFTERWARDS) for task, texts in asked.items()]
    kinds += [(kind, texts) for kind, (_, texts) in SMALL_TALK.items()]
    tasks = {(normalise(text), task) for task, texts in kinds for text in texts}
    assert {text: count for text, count in Counter(text for text, _ in tasks).items() if count > 1} == {}
    assert set(ASKED) == set(ASKED_AFTERWARDS) == set(ALL_TASKS)


@pytest.mark.parametrize("task", ALL_TASKS)
def test_questions_vary_only_in_courtesy(task: str) -> None:
    random = Random(0)
    known = {normalise(text).replace("please", "").strip() for text in (*ASKED[task], *ASKED_AFTERWARDS[task])}
    asked = [question(random, task, afterwards=place % 2 == 1) for place in range(600)]
    assert {normalise(text).replace("please", "").strip() for text in asked} == known
    assert len(set(asked)) > len(known)
    assert set(asked[::2]).isdisjoint(ASKED_AFTERWARDS[task])
