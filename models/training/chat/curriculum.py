"""Draws the dialogues that the model learns from."""

from collections.abc import Callable, Iterator
from random import Random

from models.training.chat.answers import answer, possible_tasks
from models.training.chat.dialogues import Dialogue, Turn
from models.training.chat.questions import question, system_prompt
from models.training.chat.scenes import Scene, Studio
from models.training.chat.settings import Mix
from models.training.chat.text_tasks import text_dialogue

WEIGHTS = {"contents": 2, "transcribe": 3, "language": 1, "count": 2, "number": 2, "speaking": 1, "translate": 6}


def training_dialogues(random: Random, studio: Studio, mix: Mix, fraction: Callable[[], float]) -> Iterator[Dialogue]:
    """Endless dialogues; `fraction` tells how far the run is, and with it they become harder."""
    while True:
        easy = max(0.0, 1 - fraction() / mix.easy_until) if mix.easy_until else 0.0
        if random.random() < mix.text_only:
            yield text_dialogue(random, mix.repairs, mix.written)
        elif random.random() < easy:
            tasks = [random.choice(("transcribe", "transcribe", "contents", "count"))]
            yield audio_dialogue(random, studio.spoken(random), tasks)
        else:
            scene = studio.scene(random)
            number = random.choices(range(1, len(mix.questions) + 1), mix.questions)[0]
            possible = possible_tasks(scene)
            yield audio_dialogue(random, scene, _some(random, possible, number))


def _some(random: Random, tasks: list[str], number: int) -> list[str]:
    """Different ones, at most so many, in random order: those with more to learn come more often and earlier."""
    left, chosen = list(tasks), []
    for _ in range(min(number, len(tasks))):
        task = random.choices(left, [WEIGHTS[name] for name in left])[0]
        left.remove(task)
        chosen.append(task)
    return chosen


def audio_dialogue(random: Random, scene: Scene, tasks: list[str]) -> Dialogue:
    """A dialogue that asks for these tasks, in this order; the first question brings the audio."""
    turns = tuple(
        Turn(
            task=task,
            question=question(random, task, afterwards=place > 0),
            answer=answer(task, scene),
            audio=None if place else random.choice(("before", "after")),
        )
        for place, task in enumerate(tasks)
    )
    heard = scene.transcript.within(" ", "")
    return Dialogue(turns, system_prompt(random), scene.samples, heard)
