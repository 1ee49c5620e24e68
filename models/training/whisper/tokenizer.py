"""Whisper's tokenizer with a small vocabulary: byte-level BPE, the special tokens, the timestamps."""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from tokenizers import AddedToken, ByteLevelBPETokenizer
from transformers import WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES as WHISPER_LANGUAGES

from models.training.corpus.grammar import LANGUAGES, free_words, sentence
from models.training.corpus.split import is_held_out

NUM_TIMESTAMPS = 1501
TIMESTAMP_S = 0.02

# All 99 languages of Whisper, although four are learned: transformers computes a language's id as that of
# <|startoftranscript|> plus the place of the language in its own list (get_decoder_prompt_ids).
LANGUAGE_CODES = tuple(WHISPER_LANGUAGES)[:99]
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in LANGUAGE_CODES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)


def build_tokenizer(random: Random, num_tokens: int, num_texts: int) -> WhisperTokenizer:
    """A tokenizer with `num_tokens` text tokens that know the grammar's sentences and words."""
    pairs = ByteLevelBPETokenizer(add_prefix_space=False)
    texts = [" " + _text(random) for _ in range(num_texts)]
    pairs.train_from_iterator(texts, vocab_size=num_tokens, min_frequency=2, show_progress=False)
    with TemporaryDirectory() as folder:
        pairs.save_model(folder)
        vocabulary = json.loads((Path(folder) / "vocab.json").read_text("utf-8"))
        lines = (Path(folder) / "merges.txt").read_text("utf-8").splitlines()
    if len(vocabulary) != num_tokens:
        raise ValueError(f"the texts give {len(vocabulary)} tokens, not {num_tokens}: pass more of them")
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS[1:])})
    # as in OpenAI's checkpoints the timestamps are added tokens, but not special ones
    times = (f"<|{index * TIMESTAMP_S:.2f}|>" for index in range(NUM_TIMESTAMPS))
    tokenizer.add_tokens([AddedToken(time, normalized=False, special=False) for time in times])
    with TemporaryDirectory() as folder:
        # read again, it knows the special tokens for what they are and puts them before a text
        tokenizer.save_pretrained(folder)
        return WhisperTokenizer.from_pretrained(folder)


def _text(random: Random) -> str:
    language = random.choice(LANGUAGES)
    if random.random() < 0.4:
        return free_words(random, language)
    texts = sentence(random).texts
    return _text(random) if is_held_out(texts.values()) else texts[language]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Ids of the tokens that are not text; `timestamps` is the id of <|0.00|>, text lies below `end`."""

    end: int
    start: int
    previous: int
    no_speech: int
    no_timestamps: int
    transcribe: int
    translate: int
    timestamps: int
    languages: dict[str, int]

    @property
    def size(self) -> int:
        return self.timestamps + NUM_TIMESTAMPS

    def task(self, name: str) -> int:
        return self.translate if name == "translate" else self.transcribe

    @classmethod
    def of(cls, tokenizer: WhisperTokenizer) -> "Vocabulary":
        """Of a tokenizer with Whisper's special tokens.

        Raises:
            ValueError: it lacks one of them.
        """

        def id_of(token: str) -> int:
            if token not in known:
                raise ValueError(f"the tokenizer has no {token}")
            return known[token]

        known = tokenizer.get_vocab()
        return cls(
            end=id_of("<|endoftext|>"),
            start=id_of("<|startoftranscript|>"),
            previous=id_of("<|startofprev|>"),
            # older tokenizers spell it otherwise
            no_speech=id_of("<|notimestamps|>") - 1,
            no_timestamps=id_of("<|notimestamps|>"),
            transcribe=id_of("<|transcribe|>"),
            translate=id_of("<|translate|>"),
            timestamps=id_of("<|0.00|>"),
            languages={language: id_of(f"<|{language}|>") for language in LANGUAGES},
        )
