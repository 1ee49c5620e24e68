"""How good a chat checkpoint is: each task through the path that its users take, in greedy decoding."""

from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor, PreTrainedModel, Qwen2AudioProcessor

from models.training.chat.answers import possible_tasks
from models.training.chat.curriculum import audio_dialogue
from models.training.chat.dialogues import Dialogue
from models.training.chat.judges import judge
from models.training.chat.scenes import Scene, Studio, quiet
from models.training.chat.settings import Mix
from models.training.chat.text_tasks import repair_dialogue, small_talk
from models.training.corpus.synthesis import build
from models.training.corpus.utterances import SAMPLE_RATE, Corpus
from models.training.corpus.voices import HELD_OUT_VOICES, PLAIN_VOICES
from models.training.scoring import word_error_rate

AUDIO_TASKS = ("contents", "transcribe", "language", "count", "number", "speaking", "translate")
WITH_WORD_ERRORS = ("transcribe", "translate")
BATCH = 16
UTTERANCES_PER_QUESTION, FEWEST_UTTERANCES = 4, 64


@dataclass(frozen=True, slots=True)
class Question:
    """A dialogue of which the last answer is to be given, and the row of the table it counts in."""

    row: str
    dialogue: Dialogue

    @property
    def wanted(self) -> str:
        return self.dialogue.turns[-1].answer.text

    def is_answered_by(self, said: str) -> bool:
        return judge(self.dialogue.turns[-1].task)(self.wanted, said)


def evaluate(directory: Path, count: int = 100, seed: int = 7) -> dict[str, dict[str, float]]:
    """Print the card's table of a checkpoint.

    All spoken sentences are kept from training; so are the voices of one of the two columns, and the names that are to
    be repaired. A second turn follows the right answer to the first.

    Args:
        count: questions for each task and column.

    Returns:
        Column to what `measure` gives.

    Raises:
        OSError: there is no checkpoint in the directory.
    """
    model = AutoModelForMultimodalLM.from_pretrained(directory, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(directory)
    figures = {}
    for column, voices in (("plain voices", PLAIN_VOICES), ("voices not in training", HELD_OUT_VOICES)):
        with TemporaryDirectory() as folder:
            spoken = build(
                Path(folder),
                max(FEWEST_UTTERANCES, UTTERANCES_PER_QUESTION * count),
                seed,
                held_out=True,
                voices=voices,
            )
            figures[column] = measure(model, processor, spoken, count, Random(seed))
    print(table(figures, count))
    return figures


def measure(
    model: PreTrainedModel, processor: Qwen2AudioProcessor, held_out: Corpus, number: int, random: Random
) -> dict[str, float]:
    """Task to the share of right answers; `..._wer` are word error rates."""
    asked = questions(held_out, number, random)
    said = answers(model, processor, [question.dialogue for question in asked])
    figures: dict[str, float] = {}
    for row in dict.fromkeys(question.row for question in asked):
        pairs = [(question, text) for question, text in zip(asked, said, strict=True) if question.row == row]
        figures[row] = sum(question.is_answered_by(text) for question, text in pairs) / len(pairs)
        if row in WITH_WORD_ERRORS:
            figures[f"{row}_wer"] = word_error_rate(
                [question.wanted for question, _ in pairs], [text for _, text in pairs]
            )
    return figures


def table(figures: dict[str, dict[str, float]], count: int) -> str:
    """The card's table, in Markdown."""
    lines = [f"| {count} questions each | " + " | ".join(figures) + " |", "|---" * (len(figures) + 1) + "|"]
    for row in next(iter(figures.values())):
        task, is_error, _ = row.partition("_wer")
        shown = [f"{column[row]:.3f}" if is_error else f"{column[row]:.0%}" for column in figures.values()]
        name = task.replace("_", " ") + (", WER" if is_error else "")
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def questions(held_out: Corpus, number: int, random: Random) -> list[Question]:
    """The same number for each task: about speech, in a second turn, about noise, and without audio."""
    studio = Studio(held_out, Mix())
    asked = []
    for task in AUDIO_TASKS:
        for _ in range(number):
            scene = _fitting(random, studio, task)
            asked.append(Question(task, audio_dialogue(random, scene, [task])))
    for _ in range(number):
        scene = studio.spoken(random)
        asked.append(Question("second_turn", audio_dialogue(random, scene, random.sample(possible_tasks(scene), 2))))
    asked += [Question("no_speech", audio_dialogue(random, quiet(random), ["speaking"])) for _ in range(number)]
    asked += [Question("repair", repair_dialogue(random, held_out=True)) for _ in range(number)]
    return asked + [Question("small_talk", small_talk(random)) for _ in range(number)]


def _fitting(random: Random, studio: Studio, task: str) -> Scene:
    while True:
        language = random.choice(("de", "es", "fr")) if task == "translate" else None
        scene = studio.spoken(random, language=language)
        # most sentences say no number; half of those asked about do
        if task in possible_tasks(scene) and (task != "number" or _says_number(scene) or random.random() < 0.3):
            return scene


def _says_number(scene: Scene) -> bool:
    return any(utterance.numbers for utterance in scene.utterances)


@torch.no_grad()
def answers(model: PreTrainedModel, processor: Qwen2AudioProcessor, dialogues: list[Dialogue]) -> list[str]:
    """What the model says in each dialogue's last turn."""
    said: dict[int, str] = {}
    # dialogues with audio, and of similar length, together
    order = sorted(range(len(dialogues)), key=lambda place: _length(dialogues[place]))
    for audio in (False, True):
        places = [place for place in order if (dialogues[place].samples is not None) == audio]
        for first in range(0, len(places), BATCH):
            chunk = places[first : first + BATCH]
            said |= zip(chunk, _generated(model, processor, [dialogues[place] for place in chunk]), strict=True)
    return [said[place] for place in range(len(dialogues))]


def _generated(model: PreTrainedModel, processor: Qwen2AudioProcessor, dialogues: list[Dialogue]) -> list[str]:
    prompts = [
        processor.apply_chat_template(
            dialogue.messages(unanswered=len(dialogue.turns) - 1), tokenize=False, add_generation_prompt=True
        )
        for dialogue in dialogues
    ]
    audio = [dialogue.samples for dialogue in dialogues if dialogue.samples is not None]
    inputs = processor(
        text=prompts, audio=audio or None, sampling_rate=SAMPLE_RATE, return_tensors="pt", padding=True
    ).to(model.device)
    tokens = model.generate(**inputs)
    texts: list[str] = processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def _length(dialogue: Dialogue) -> int:
    return 0 if dialogue.samples is None else len(dialogue.samples)
