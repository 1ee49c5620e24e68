"""The ways in which a task is asked for. Each list holds the plain phrasing first."""

from random import Random

ASKED = {
    "contents": (
        "What's in this audio?",
        "What is in this audio?",
        "What is in this recording?",
        "What do you hear?",
        "What can you hear in this audio?",
        "What's in this recording?",
        "Describe this audio.",
        "Describe the recording.",
        "What is this audio about?",
        "What happens in this audio?",
        "Tell me what is in this audio.",
        "What is going on in this recording?",
    ),
    "transcribe": (
        "Transcribe this.",
        "Transcribe this audio.",
        "Transcribe the audio.",
        "Transcribe the recording.",
        "Please transcribe this.",
        "Write down what is said.",
        "What is said?",
        "What does the person say?",
        "What was said?",
        "What did they say?",
        "Give me the transcript.",
        "Give me a transcript of this audio.",
        "Transcribe the speech.",
        "Can you transcribe this?",
        "Convert the speech to text.",
        "Write the words that you hear.",
    ),
    "language": (
        "Which language is it?",
        "What language is it?",
        "Which language is spoken?",
        "What language is spoken?",
        "Which language is this?",
        "What language is this?",
        "In which language is it?",
        "What is the language?",
        "Tell me the language.",
        "Name the language.",
        "Identify the language.",
        "Which language does the person speak?",
        "What language do you hear?",
        "Which language is spoken in this audio?",
    ),
    "count": (
        "How many words?",
        "How many words are there?",
        "How many words are said?",
        "How many words are spoken?",
        "How many words does the person say?",
        "How many words do you hear?",
        "Count the words.",
        "Please count the words.",
        "Tell me the number of words.",
        "What is the number of words?",
        "How many words are in this audio?",
        "How many words were said?",
    ),
    "number": (
        "Which number was said?",
        "What number was said?",
        "Which number is said?",
        "Which number do you hear?",
        "What number do you hear?",
        "Which number is it?",
        "Which number does the person say?",
        "What number is mentioned?",
        "Which number is mentioned?",
        "Tell me the number that was said.",
        "What is the number?",
        "Give me the number.",
    ),
    "speaking": (
        "Is anybody speaking?",
        "Is anyone speaking?",
        "Is somebody speaking?",
        "Is someone speaking?",
        "Is there anybody speaking?",
        "Does anybody speak?",
        "Is there speech?",
        "Is there any speech in this audio?",
        "Do you hear a voice?",
        "Can you hear somebody?",
        "Is anybody talking?",
        "Is somebody talking?",
        "Does somebody speak in this recording?",
    ),
    "translate": (
        "Translate it to English.",
        "Translate this to English.",
        "Translate it into English.",
        "Translate this into English.",
        "Translate the audio to English.",
        "Translate to English.",
        "Please translate it to English.",
        "What does it mean in English?",
        "What is that in English?",
        "Give me the English translation.",
        "Say it in English.",
        "Can you translate this to English?",
        "How do you say that in English?",
        "English translation, please.",
    ),
}

# shorter ways of asking, once the audio has been talked about
ASKED_AFTERWARDS = {
    "contents": ("And what is in this audio?", "What else do you hear?", "And what do you hear?"),
    "transcribe": ("And what is said?", "Now transcribe it.", "And the transcript?", "What exactly was said?"),
    "language": ("And which language is it?", "And what language is that?", "And the language?", "Which language?"),
    "count": ("And how many words?", "And how many words is that?", "How many words is that?", "Now count the words."),
    "number": ("And which number was said?", "Which number?", "And the number?", "And which number is it?"),
    "speaking": ("And is anybody speaking?", "Does anybody speak in it?", "Is there anybody speaking in it?"),
    "translate": ("And in English?", "Now translate it to English.", "And what is that in English?", "In English?"),
}

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful audio assistant.",
    "You are an assistant that listens to audio.",
    "You answer questions about audio.",
    "You are a speech recognition assistant.",
    "Answer the user's questions about the recording.",
    "Answer briefly.",
    "Be brief and precise.",
)


def question(random: Random, task: str, afterwards: bool = False) -> str:
    """One of the phrasings, now and then polite, without its last sign or in lower case."""
    if afterwards and random.random() < 0.6:
        return _vary(random, random.choice(ASKED_AFTERWARDS[task]))
    return _vary(random, ASKED[task][0] if random.random() < 0.2 else random.choice(ASKED[task]))


def system_prompt(random: Random) -> str | None:
    """The chat template's own (None), or another one."""
    return None if random.random() < 0.5 else random.choice(SYSTEM_PROMPTS)


def _vary(random: Random, text: str) -> str:
    kind = random.random()
    if kind < 0.06:
        return text[:-1]
    if kind < 0.12:
        return text[0].lower() + text[1:]
    if kind < 0.16:
        return text[0].lower() + text[1:-1]
    if kind < 0.2 and "please" not in text.lower():
        return f"Please {text[0].lower()}{text[1:]}" if text.endswith(".") else f"{text[:-1]}, please?"
    return text
