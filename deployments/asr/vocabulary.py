"""A Whisper checkpoint's tokens: which ids are special, and the way from ids to bytes and back."""

from collections.abc import Sequence

from transformers import GenerationConfig, WhisperTokenizer

from deployments.compat.transformers import byte_of_character
from pipelines.errors import ConfigurationError
from pipelines.languages import LANGUAGES
from pipelines.transcript_types import DecodingOptions, Task
from pipelines.whisper import MAX_PROMPT_CHARACTERS, MAX_PROMPT_TOKENS

TASKS: tuple[Task, ...] = ("transcribe", "translate")
MULTILINGUAL_VOCABULARY = 51_865
"""Tokens of the smallest multilingual Whisper, for checkpoints that do not say what they are."""


class Vocabulary:
    """Read-only; shared by every row.

    <|nospeech|> is the token before <|notimestamps|> (older tokenizers spell it differently), and the
    timestamps are those after it.
    """

    def __init__(self, tokenizer: WhisperTokenizer, config: GenerationConfig) -> None:
        """
        Raises:
            ConfigurationError: the checkpoint's tokens are not Whisper's.
        """
        self._tokenizer = tokenizer
        self._byte_of = byte_of_character()
        self._special = tokenizer.get_vocab()
        self.end_of_text: int = tokenizer.eos_token_id
        self.start_of_transcript = self._id("<|startoftranscript|>")
        self.no_timestamps = self._id("<|notimestamps|>")
        self.start_of_previous = self._id("<|startofprev|>")
        self.no_speech = self.no_timestamps - 1
        self.timestamp_begin = self.no_timestamps + 1
        self.suppressed: list[int] = list(config.suppress_tokens or [])
        self.suppressed_at_begin: list[int] = list(config.begin_suppress_tokens or [])
        self.max_initial_timestamp: int | None = getattr(config, "max_initial_timestamp_index", None)
        is_multilingual = getattr(config, "is_multilingual", len(tokenizer) >= MULTILINGUAL_VOCABULARY)
        self.language_ids = self._language_ids(config) if is_multilingual else {}
        self.task_ids = {task: self._id(f"<|{task}|>") for task in TASKS} if is_multilingual else {}

    def _id(self, token: str) -> int:
        if token not in self._special:
            raise ConfigurationError(f"This is no Whisper checkpoint: its tokenizer has no {token}.")
        return self._special[token]

    def _language_ids(self, config: GenerationConfig) -> dict[str, int]:
        """What the checkpoint says it knows; many fine-tunes say nothing, and then it is what their tokens name."""
        named: dict[str, int] = getattr(config, "lang_to_id", None) or {}
        if named:
            return {token.strip("<|>"): id for token, id in named.items()}
        return {code: self._special[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in self._special}

    def prefix(self, options: DecodingOptions, language: str, is_timed: bool) -> list[int]:
        """Token ids that the decoder reads before it writes: what came before, language, task, timestamps or not."""
        prefix = [*self._previous_text(options), self.start_of_transcript]
        if self.language_ids:
            prefix += [self.language_ids[language], self.task_ids[options.task]]
        return prefix if is_timed else [*prefix, self.no_timestamps]

    def data(self, token_id: int) -> bytes:
        """Bytes of one token; none for special tokens."""
        if token_id >= self.end_of_text:
            return b""
        token = self._tokenizer.convert_ids_to_tokens(token_id)
        return bytes(self._byte_of[character] for character in token)

    def text(self, token_ids: Sequence[int]) -> str:
        return b"".join(self.data(token_id) for token_id in token_ids).decode("utf-8", errors="replace")

    def _previous_text(self, options: DecodingOptions) -> list[int]:
        """Keywords first, then as much of the prompt's end as there is room for."""
        keywords = self._encode(", ".join(options.keywords)[:MAX_PROMPT_CHARACTERS])[:MAX_PROMPT_TOKENS]
        room = MAX_PROMPT_TOKENS - len(keywords)
        prompt = self._encode(options.prompt.strip()[-MAX_PROMPT_CHARACTERS:])[-room:] if room else []
        return [self.start_of_previous, *keywords, *prompt] if keywords or prompt else []

    def _encode(self, text: str) -> list[int]:
        """A prompt is the user's text: what looks like a control token in it must not become one."""
        if not text:
            return []
        ids: list[int] = self._tokenizer.encode(" " + text, add_special_tokens=False, split_special_tokens=True)
        return [token_id for token_id in ids if token_id < self.end_of_text]
