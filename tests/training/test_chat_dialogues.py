"""The dialogues that the chat model learns from and is measured with."""

import re
from difflib import SequenceMatcher
from itertools import islice
from random import Random

import numpy as np
import pytest

from models.training.chat.curriculum import audio_dialogue, training_dialogues
from models.training.chat.dialogues import Dialogue
from models.training.chat.evaluation import AUDIO_TASKS, Question, questions, table
from models.training.chat.names import invented_name, is_held_out_name, misspell
from models.training.chat.scenes import Studio, quiet
from models.training.chat.settings import Mix
from models.training.chat.text_tasks import (
    NO_AUDIO,
    QUESTIONS_FOR_REPAIRS,
    SMALL_TALK,
    SYSTEM_FOR_REPAIRS,
    repair_dialogue,
    small_talk,
    text_dialogue,
)
from models.training.chat.written import WEIGHTS, written_dialogue
from models.training.corpus.grammar import LANGUAGES, NAMES
from models.training.corpus.synthesis import build
from models.training.corpus.utterances import SAMPLE_RATE, Corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build(tmp_path_factory.mktemp("corpus"), 100, seed=1)


def test_names_are_trained_on_or_held_out() -> None:
    random = Random(1)
    trained = {invented_name(random).lower() for _ in range(2000)}
    held_out = {invented_name(random, held_out=True).lower() for _ in range(200)}
    assert not trained & held_out
    assert not any(map(is_held_out_name, trained))
    assert all(map(is_held_out_name, held_out))


def test_a_misspelt_name_is_another_but_alike() -> None:
    random = Random(2)
    for _ in range(2000):
        name = random.choice(NAMES) if random.random() < 0.2 else invented_name(random)
        wrong = misspell(random, name)
        assert wrong != name
        assert wrong.strip()
        assert abs(len(wrong) - len(name)) <= max(4, len(name) // 2)


def listed(dialogue: Dialogue) -> tuple[list[str], str]:
    """The names that a repair's prompt lists, and the text to repair."""
    asked = dialogue.turns[0].question
    slots = {r"\{names\}": "(?P<names>.+)", r"\{first\}": ".+?", r"\{text\}": "(?P<text>.+)"}
    for templates, prompt in ((QUESTIONS_FOR_REPAIRS, asked), (SYSTEM_FOR_REPAIRS, dialogue.system or "")):
        for template in templates:
            pattern = re.escape(template)
            for slot, part in slots.items():
                pattern = pattern.replace(slot, part)
            if found := re.fullmatch(pattern, prompt):
                return found["names"].split(", "), found.groupdict().get("text", asked)
    raise AssertionError(f"no names in {dialogue}")


def misspelt(dialogue: Dialogue) -> list[tuple[str, str]]:
    """(name, how the text to repair has it); the words between the names are the same in text and answer."""
    names, text = listed(dialogue)
    right = dialogue.turns[0].answer.text
    any_name = rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})(?!\w)"
    pattern = "(.+)".join(map(re.escape, re.split(any_name, right))).removesuffix(r"\.") + r"\.?"
    found = re.fullmatch(pattern, text)
    assert found, (text, right)
    return list(zip(re.findall(any_name, right), found.groups(), strict=True))


@pytest.mark.parametrize("held_out", [False, True])
def test_repairs_can_be_solved(held_out: bool) -> None:
    """The nearest of the listed names is the one that is meant."""
    random = Random(3)
    pairs, ambiguous = 0, []
    for dialogue in [repair_dialogue(random, held_out) for _ in range(300)]:
        for name, wrong in misspelt(dialogue):
            likeness = {
                other: SequenceMatcher(None, other.lower(), wrong.lower()).ratio() for other in listed(dialogue)[0]
            }
            pairs += 1
            if max(likeness, key=likeness.__getitem__) != name:
                ambiguous.append((name, wrong, likeness))
    assert pairs > 300
    assert len(ambiguous) <= 0.01 * pairs, ambiguous


def test_held_out_repairs_have_only_held_out_names() -> None:
    random = Random(4)
    for held_out in (False, True):
        for dialogue in [repair_dialogue(random, held_out) for _ in range(100)]:
            names = set(listed(dialogue)[0]) - set(NAMES)
            assert all(is_held_out_name(name) == held_out for name in names)


def test_text_dialogues_repair_talk_and_ask_for_missing_audio() -> None:
    random = Random(5)
    drawn = [text_dialogue(random, repairs=0.5, written=0.2) for _ in range(400)]
    assert all(dialogue.samples is None for dialogue in drawn)
    repairs = sum(dialogue.turns[0].task == "repair" for dialogue in drawn)
    assert 160 < repairs < 240
    last = {small_talk(random).turns[-1] for _ in range(400)}
    assert {turn.task for turn in last} == {*SMALL_TALK, "no_audio"}
    assert {turn.answer.text for turn in last if turn.task == "no_audio"} == {NO_AUDIO}


def test_written_sentences_are_translated_counted_and_searched_for_numbers() -> None:
    random = Random(7)
    turns = [written_dialogue(random).turns[0] for _ in range(300)]
    assert {turn.task for turn in turns} == set(WEIGHTS)
    for turn in turns:
        if turn.task == "written_count":
            sentence = turn.answer.text.split('"')[1]
            assert sentence in turn.question
            assert turn.answer.text.endswith(f"has {len(sentence.split())} words.")
            (copied,) = turn.answer.copied
            assert turn.answer.text[copied.first : copied.last] == copied.source == sentence


def test_scenes_are_as_long_as_the_mix_has_it(corpus: Corpus) -> None:
    random = Random(6)
    studio = Studio(corpus, Mix(no_speech=0, longest_s=8))
    scenes = [studio.scene(random) for _ in range(150)]
    assert {len(scene.spoken) for scene in scenes} == {1, 2, 3}
    for scene in scenes:
        start, last = scene.spoken[-1]
        assert start + last.duration_s <= 8 or len(scene.spoken) == 1
        assert {utterance.language for utterance in scene.utterances} == {scene.language}


def test_an_undisturbed_scene_holds_its_utterances_samples(corpus: Corpus) -> None:
    scene = Studio(corpus, Mix()).spoken(Random(7), count=2)
    silent = scene.samples.copy()
    for start, utterance in scene.spoken:
        first = round(start * SAMPLE_RATE)
        assert np.array_equal(scene.samples[first : first + utterance.length], corpus.samples(utterance))
        silent[first : first + utterance.length] = 0
    assert not silent.any()


def test_nobody_speaks_in_a_quiet_scene() -> None:
    random = Random(8)
    scenes = [quiet(random) for _ in range(60)]
    assert {scene.background for scene in scenes} == {"silence", "noise", "music"}
    for scene in scenes:
        assert not scene.spoken
        assert scene.samples.any() == (scene.background != "silence")


def test_the_first_dialogues_are_easy(corpus: Corpus) -> None:
    mix = Mix(text_only=0)
    easy = list(islice(training_dialogues(Random(9), Studio(corpus, mix), mix, lambda: 0.0), 60))
    assert {len(dialogue.turns) for dialogue in easy} == {1}
    assert {dialogue.turns[0].task for dialogue in easy} == {"transcribe", "contents", "count"}
    later = list(islice(training_dialogues(Random(9), Studio(corpus, mix), mix, lambda: 1.0), 300))
    assert {len(dialogue.turns) for dialogue in later} == {1, 2, 3, 4}
    assert {turn.task for dialogue in later for turn in dialogue.turns} == set(AUDIO_TASKS)


def test_dialogues_are_drawn_again_the_same(corpus: Corpus) -> None:
    first, again = (
        list(islice(training_dialogues(Random(10), Studio(corpus, Mix()), Mix(), lambda: 0.5), 20)) for _ in range(2)
    )
    assert [(dialogue.turns, dialogue.system) for dialogue in first] == [
        (dialogue.turns, dialogue.system) for dialogue in again
    ]


def test_only_the_first_question_brings_the_audio(corpus: Corpus) -> None:
    random = Random(11)
    dialogue = audio_dialogue(random, Studio(corpus, Mix()).spoken(random), ["count", "language", "speaking"])
    messages = dialogue.messages()[dialogue.system is not None :]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3
    assert {part["type"] for part in messages[0]["content"]} == {"audio", "text"}
    assert all(isinstance(message["content"], str) for message in messages[1:])
    assert dialogue.messages(unanswered=1)[dialogue.system is not None :] == messages[:3]


def test_every_question_of_the_evaluation_has_an_answer_that_is_right(corpus: Corpus) -> None:
    asked = questions(corpus, 12, Random(12))
    rows = [*AUDIO_TASKS, "second_turn", "no_speech", "repair", "small_talk"]
    assert [question.row for question in asked] == [row for row in rows for _ in range(12)]
    assert all(question.is_answered_by(question.wanted) for question in asked)
    assert not any(question.is_answered_by("Bananas, yes or no: 417.") for question in asked if speaks(question))
    languages = {question.dialogue.turns[0].answer.text for question in asked if question.row == "language"}
    assert len(languages) == len(LANGUAGES)


def speaks(question: Question) -> bool:
    return question.row not in ("second_turn", "no_speech")


def test_the_table() -> None:
    figures = {"transcribe": 0.5, "transcribe_wer": 0.1234, "no_speech": 1.0}
    assert table({"plain voices": figures, "voices not in training": figures | {"no_speech": 0.0}}, 8) == (
        "| 8 questions each | plain voices | voices not in training |\n"
        "|---|---|---|\n"
        "| transcribe | 50% | 50% |\n"
        "| transcribe, WER | 0.123 | 0.123 |\n"
        "| no speech | 100% | 0% |"
    )
