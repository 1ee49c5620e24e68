"""Dialogues without audio: small talk, and repairing listed names in a transcript."""

import re
from random import Random

from models.training.chat.dialogues import Answer, Copied, Dialogue, Turn
from models.training.chat.names import invented_name, misspell
from models.training.chat.questions import ASKED, question, system_prompt
from models.training.chat.written import written_dialogue
from models.training.corpus.grammar import NAMES, sentence
from models.training.corpus.split import is_held_out

INVITATION = "Send me some audio and ask me about it."
GREETING = f"Hello! {INVITATION}"
ABILITIES = (
    "I listen to audio: I transcribe it, translate it to English, name the language, count the words and find "
    "numbers. I also repair names in a transcript."
)
SMALL_TALK = {
    "greeting": (GREETING, ("Hello", "Hello!", "Hi", "Hi!", "Hey", "Hi there!", "Hello there!", "Good morning!",
                            "Good evening!", "Good day!", "Greetings!", "Hey there!")),
    "how_are_you": (f"I am fine, thank you. {INVITATION}",
                    ("Hi, how are you?", "How are you?", "Hello, how are you?", "How are you today?",
                     "Hello! How are you doing?", "How do you do?", "How is it going?")),
    "abilities": (ABILITIES, ("What can you do?", "Who are you?", "What are you?", "What do you do?", "Help",
                              "How can you help me?", "What can I ask you?", "What are you able to do?",
                              "Introduce yourself.", "Tell me what you can do.", "Hello, what can you do?")),
    "thanks": ("You are welcome.", ("Thanks!", "Thank you.", "Thank you very much.", "Thanks a lot!", "Thank you!",
                                    "Many thanks.", "Great, thank you.", "Perfect, thanks.")),
    "goodbye": ("Goodbye!", ("Bye", "Goodbye!", "Goodbye.", "Bye!", "See you later.", "See you!", "Good night!")),
}  # fmt: skip
NO_AUDIO = "There is no audio. Please send me some."

SYSTEM_FOR_REPAIRS = (
    "You are a helpful assistant for the company {first}. Your task is to correct any spelling discrepancies in the "
    "transcribed text. Make sure that the names of the following products are spelled correctly: {names}. Only add "
    "necessary punctuation such as periods, commas, and capitalization, and use only the context provided.",
    "You are a helpful assistant. Your task is to correct any spelling discrepancies in the transcribed text. Make "
    "sure that the following names are spelled correctly: {names}.",
    "You correct transcripts. Make sure that the names of the following products are spelled correctly: {names}.",
    "Correct the spelling of the names in the transcript. The names are: {names}.",
    "You are a helpful assistant for the company {first}. Correct the names in the transcribed text: {names}.",
    "Fix misspelled names in the user's text. Use these spellings: {names}",
    "Your task is to repair names in transcripts. Names: {names}. Change nothing else.",
)
QUESTIONS_FOR_REPAIRS = (
    "Correct the names: {names}. Text: {text}",
    "Correct the names in this transcript. Names: {names}. Transcript: {text}",
    "These names may be misspelled: {names}. Repair them in this text: {text}",
    "Fix the names ({names}) in: {text}",
    "Make sure that these names are spelled correctly: {names}.\n{text}",
    "Please correct the spelling of {names} in the following text.\n\n{text}",
)
CARRIERS = (
    "{} is our new product.",
    "We use {} every day.",
    "The new version of {} is ready.",
    "{} and {} work together.",
    "I would like to order {} and {}.",
    "My colleague works at {}.",
    "Our customers like {} more than {}.",
    "Please send me the report about {}.",
    "The meeting with {} is on Monday.",
    "{} costs less than {}.",
    "We have bought {}, {} and {}.",
    "Welcome to {}, how can I help you?",
    "They sell {} in Germany.",
    "The price of {} is too high.",
    "Have you tried {}?",
    "Yesterday {} presented {}.",
)


def text_dialogue(random: Random, repairs: float, written: float) -> Dialogue:
    """One dialogue without audio; `repairs` is the share of those that repair names, `written` of those that ask
    about a written sentence."""
    kind = random.random()
    if kind < repairs:
        return repair_dialogue(random)
    return written_dialogue(random) if kind < repairs + written else small_talk(random)


def small_talk(random: Random) -> Dialogue:
    """Up to three of the usual phrases; at times a question about audio that is not there."""
    kinds = random.sample(list(SMALL_TALK), random.choice((1, 1, 2, 3)))
    turns = [Turn(kind, random.choice(SMALL_TALK[kind][1]), Answer(SMALL_TALK[kind][0])) for kind in kinds]
    if random.random() < 0.2:
        turns[-1] = Turn("no_audio", question(random, random.choice(list(ASKED))), Answer(NO_AUDIO))
    return Dialogue(tuple(turns), system_prompt(random))


def repair_dialogue(random: Random, held_out: bool = False) -> Dialogue:
    """A transcript with misspelt names, and the list of the right ones in the system prompt or the question."""
    carrier = random.choice(CARRIERS) if random.random() < 0.35 else _carrier(random, held_out)
    used = _listed_names(random, carrier.count("{}"), held_out)
    others = _listed_names(random, random.choice((0, 0, 1, 1, 2, 3, 4, 6, 9)), held_out)
    names = list(dict.fromkeys(used + others))
    random.shuffle(names)
    written = [misspell(random, name) if random.random() < 0.8 else name for name in used]
    transcript, answer = _filled(carrier, used, written, ", ".join(names))
    slots = {"names": ", ".join(names), "first": names[0], "text": transcript}
    if random.random() < 0.7:
        system = random.choice(SYSTEM_FOR_REPAIRS).format_map(slots)
        return Dialogue((Turn("repair", transcript, answer),), system)
    asked = random.choice(QUESTIONS_FOR_REPAIRS).format_map(slots)
    return Dialogue((Turn("repair", asked, answer),), system_prompt(random))


def _filled(carrier: str, names: list[str], written: list[str], listed: str) -> tuple[str, Answer]:
    """The transcript with the names as they are written, and the right one, which knows what it is copied from."""
    *parts, last = carrier.split("{}")
    if last == "." and names[-1].endswith("."):
        last = ""  # a name with a full stop ends the sentence itself
    wrong = "".join(part + name for part, name in zip(parts, written, strict=True)) + last
    right, read, copied = "", 0, []
    for part, name, heard in zip(parts, names, written, strict=True):
        copied.append(Copied(len(right), len(right) + len(part), wrong, read))
        right += part
        copied.append(Copied(len(right), len(right) + len(name), listed, _place(listed, name)))
        right, read = right + name, read + len(part) + len(heard)
    copied.append(Copied(len(right), len(right) + len(last), wrong, read))
    return wrong, Answer(right + last, copied=tuple(copied))


def _place(listed: str, name: str) -> int:
    """Where a name begins in a list of names; another may begin with it."""
    return f", {listed}, ".index(f", {name}, ")


def _carrier(random: Random, held_out: bool) -> str:
    """An English grammar sentence from its side of the split, with places for names in it."""
    while True:
        drawn = sentence(random).texts
        if is_held_out(drawn.values()) != held_out:
            continue
        text = re.sub(rf"\b({'|'.join(NAMES)})\b", "{}", drawn["en"])
        if "{}" not in text:
            text = re.sub(r"\b[Tt]he [a-z]+\b", "{}", text, count=random.choice((1, 2)))
        if "{}" in text:
            return text


def _listed_names(random: Random, count: int, held_out: bool) -> list[str]:
    """Different ones."""
    names: dict[str, None] = {}
    while len(names) < count:
        is_common = random.random() < 0.1 and not held_out
        names[random.choice(NAMES) if is_common else invented_name(random, held_out)] = None
    return list(names)
