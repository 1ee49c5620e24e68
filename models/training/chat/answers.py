"""The right answer to each task about a scene."""

import re
from collections.abc import Callable

from models.training.chat.dialogues import Answer, Timed
from models.training.chat.scenes import Scene, timed_words
from models.training.corpus.numbers import before_noun, in_words
from models.training.corpus.utterances import Utterance

LANGUAGE_NAMES = {"en": "English", "de": "German", "es": "Spanish", "fr": "French"}
NO_SPEECH = "There is no speech in this audio."
NO_NUMBER = "No number was said."


def possible_tasks(scene: Scene) -> list[str]:
    """The tasks that have exactly one right answer for the scene."""
    tasks = ["contents", "transcribe", "language", "count", "number", "speaking", "translate"]
    if not scene.spoken:
        return tasks
    if scene.english is None:
        return ["contents", "transcribe", "language", "count", "speaking"]
    if len(_numbers(scene)) > 1:
        tasks.remove("number")
    return tasks


def answer(task: str, scene: Scene) -> Answer:
    """What the assistant should say, and when it is heard."""
    return _ANSWERS[task](scene) if scene.spoken else Answer(_WITHOUT_SPEECH[task].format(scene.background))


def _contents(scene: Scene) -> Answer:
    return scene.transcript.within(f'A person says in {LANGUAGE_NAMES[scene.language]}: "', '"')


def _transcribe(scene: Scene) -> Answer:
    return scene.transcript


def _language(scene: Scene) -> Answer:
    return Answer(f"{LANGUAGE_NAMES[scene.language]}.")


def counted(transcript: Answer) -> Answer:
    # written out first: a model this small counts what it reads better than what it hears
    count = len(transcript.text.split())
    return transcript.within('"', f'" has {count} word{"s" if count > 1 else ""}.')


def number_in_words_and_digits(number: int, language: str) -> str:
    return f"{in_words(number, language)} ({number})"


def _count(scene: Scene) -> Answer:
    return counted(scene.transcript)


def _number(scene: Scene) -> Answer:
    for start, utterance in scene.spoken:
        for number in utterance.numbers or ():
            text = number_in_words_and_digits(number, utterance.language)
            span = _number_span(number, utterance, start)
            return Answer(text, (Timed(0, len(text), *span),) if span else ())
    return Answer(NO_NUMBER)


def _speaking(scene: Scene) -> Answer:
    return Answer(f"Yes, somebody is speaking {LANGUAGE_NAMES[scene.language]}.")


def _translate(scene: Scene) -> Answer:
    if scene.language == "en":
        return scene.transcript
    if scene.english is None:
        raise ValueError("the scene has no English translation")
    return Answer(scene.english)


_ANSWERS: dict[str, Callable[[Scene], Answer]] = {
    "contents": _contents,
    "transcribe": _transcribe,
    "language": _language,
    "count": _count,
    "number": _number,
    "speaking": _speaking,
    "translate": _translate,
}
_WITHOUT_SPEECH = {
    "contents": "There is no speech, only {}.",
    "transcribe": NO_SPEECH,
    "language": NO_SPEECH,
    "count": "0 words: there is no speech.",
    "number": NO_NUMBER,
    "speaking": "No, nobody is speaking.",
    "translate": NO_SPEECH,
}


def _numbers(scene: Scene) -> list[int]:
    return [number for utterance in scene.utterances for number in utterance.numbers or ()]


def _number_span(number: int, utterance: Utterance, start: float) -> tuple[float, float] | None:
    """When the number is spoken, in seconds of the recording."""
    forms = {in_words(number, utterance.language)}
    forms |= {before_noun(number, utterance.language, gender) for gender in "mfn"}
    found = re.search(rf"\b({'|'.join(sorted(forms, key=len, reverse=True))})\b", utterance.text, re.IGNORECASE)
    if found is None:
        return None
    words = [word for word in timed_words(utterance, start) if word.first < found.end() and word.last > found.start()]
    return words[0].start, words[-1].end
