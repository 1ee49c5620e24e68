"""The chat model's processor: a byte-level BPE of its own, Whisper's features, and a chat template."""

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2AudioProcessor, Qwen2Tokenizer, WhisperFeatureExtractor
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from models.training.chat.answers import LANGUAGE_NAMES, NO_SPEECH
from models.training.chat.questions import ASKED, ASKED_AFTERWARDS, SYSTEM_PROMPTS
from models.training.chat.text_tasks import SMALL_TALK, text_dialogue
from models.training.corpus.utterances import Corpus
from models.training.features import MEL_BINS

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
AUDIO, AUDIO_START, AUDIO_END = "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END, AUDIO, AUDIO_START, AUDIO_END)

CHAT_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}
{%- for part in message['content'] %}
{%- if part['type'] in ('audio', 'audio_url', 'input_audio') %}<|audio_bos|><|AUDIO|><|audio_eos|>
{%- elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}
{%- endfor %}
{%- endif %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# what the vocabulary is made of, in texts of each kind
PHRASE_COPIES, TEXT_DIALOGUES = 20, 300


def processor(directory: Path) -> Qwen2AudioProcessor:
    """The processor saved in a directory.

    Raises:
        OSError: there is none.
    """
    return Qwen2AudioProcessor.from_pretrained(directory)


def build_processor(corpus: Corpus, vocabulary: int, seed: int) -> Qwen2AudioProcessor:
    """A processor whose vocabulary of `vocabulary` tokens is made of the corpus and of all phrases of the dialogues.

    Raises:
        ValueError: the texts are too few for so large a vocabulary.
    """
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.NFC()
    # the same as Qwen2Tokenizer's, which the vocabulary is for; digits stand alone
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    trained.train_from_iterator(_texts(corpus, Random(seed)), trainer)
    if trained.get_vocab_size() != vocabulary:
        raise ValueError(f"the texts give {trained.get_vocab_size()} tokens, not {vocabulary}")
    return _processor(trained)


def _processor(trained: Tokenizer) -> Qwen2AudioProcessor:
    tokenizer = Qwen2Tokenizer(
        vocab=trained.get_vocab(),
        merges=_merges(trained),
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        extra_special_tokens=list(SPECIAL_TOKENS),
        padding_side="left",
    )
    return Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=MEL_BINS), tokenizer, chat_template=CHAT_TEMPLATE)


def _merges(trained: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]


def _texts(corpus: Corpus, random: Random) -> Iterable[str]:
    for utterance in corpus:
        if utterance.english is None:
            continue  # words of the grammar are whole tokens before rare words are
        yield f" {utterance.text}"
        # the first word of a text has no blank in front of it, and is another token
        yield utterance.text.split(" ")[0]
    phrases = [NO_SPEECH, *SYSTEM_PROMPTS, *(f" {name}. {name}." for name in LANGUAGE_NAMES.values())]
    for asked in (ASKED, ASKED_AFTERWARDS):
        phrases += [text for texts in asked.values() for text in texts]
    phrases += [text for answer, texts in SMALL_TALK.values() for text in (answer, *texts)]
    phrases += [
        "system",
        "user",
        "assistant",
        *(f'A person says in {name}: "' for name in LANGUAGE_NAMES.values()),
        '" has 5 words. 1 word.',
        "0 words: there is",
    ]
    phrases += ["There is no speech, only silence. only noise. only music.", "No number was said."]
    phrases += ["Yes, somebody is speaking English.", "No, nobody is speaking."]
    for phrase in phrases:
        yield from [phrase] * PHRASE_COPIES
    for _ in range(TEXT_DIALOGUES):
        dialogue = text_dialogue(random, repairs=1, written=0)
        yield from (dialogue.system or "", dialogue.turns[0].question)
