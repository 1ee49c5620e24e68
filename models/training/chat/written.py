"""Questions about a written sentence. They cost next to nothing beside those about speech, and what they teach about
words (how to translate them, to count them, to write numbers in digits) is what those about speech need, too.
"""

from random import Random

from models.training.chat.answers import LANGUAGE_NAMES, NO_NUMBER, counted, number_in_words_and_digits
from models.training.chat.dialogues import Answer, Copied, Dialogue, Turn
from models.training.chat.questions import system_prompt
from models.training.corpus.grammar import LANGUAGES, Sentence, sentence
from models.training.corpus.split import is_held_out

ASKED = {
    "written_translate": (
        "Translate to English: {}",
        "Translate this to English: {}",
        "Translate it into English: {}",
        "What does this mean in English? {}",
        "{}\nTranslate this to English.",
        "English translation, please: {}",
    ),
    "written_count": (
        "How many words are in this sentence? {}",
        "How many words? {}",
        "Count the words: {}",
        "{}\nHow many words is that?",
    ),
    "written_number": (
        "Which number is in this sentence? {}",
        "Which number is it? {}",
        "Find the number: {}",
        "{}\nWhich number was that?",
    ),
    "written_language": (
        "Which language is this? {}",
        "What language is this? {}",
        "{}\nWhich language is it?",
    ),
}
WEIGHTS = {"written_translate": 5, "written_count": 2, "written_number": 2, "written_language": 1}
P_NUMBER = 0.8  # that there is a number where one is asked for


def written_dialogue(random: Random) -> Dialogue:
    """One question about a sentence of the grammar, from the training side of the split."""
    task = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    says_number = task == "written_number" and random.random() < P_NUMBER
    drawn, language = _sentence(random, says_number), random.choice(LANGUAGES)
    if task == "written_translate":
        language = random.choice(LANGUAGES[1:])
    asked = random.choice(ASKED[task]).format(drawn.texts[language])
    return Dialogue((Turn(task, asked, _answer(task, drawn, language)),), system_prompt(random))


def _sentence(random: Random, says_number: bool) -> Sentence:
    """One with a number, or with one at most."""
    while True:
        drawn = sentence(random)
        if not is_held_out(drawn.texts.values()) and says_number <= len(drawn.numbers) <= 1:
            return drawn


def _answer(task: str, drawn: Sentence, language: str) -> Answer:
    text = drawn.texts[language]
    if task == "written_translate":
        return Answer(drawn.texts["en"])
    if task == "written_count":
        return counted(Answer(text, copied=(Copied(0, len(text), text, 0),)))
    if task == "written_language":
        return Answer(f"{LANGUAGE_NAMES[language]}.")
    return Answer(number_in_words_and_digits(drawn.numbers[0], language) if drawn.numbers else NO_NUMBER)
