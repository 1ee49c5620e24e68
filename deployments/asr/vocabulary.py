"""A Whisper checkpoint's tokens: which ids are special, and the way from ids to bytes and back."""

from collections.abc import Sequence

from transformers import GenerationConfig, WhisperTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from pipelines.types import DecodingOptions
from pipelines.whisper import MAX_PROMPT_TOKENS


class Vocabulary:
    """Read-only; shared by every row.

    The order of Whisper's special tokens is fixed, <|nospeech|> just before <|notimestamps|> and the
    timestamps after it; older tokenizers spell <|nospeech|> differently, so it is found by its place.
    """

    def __init__(self, tokenizer: WhisperTokenizer, config: GenerationConfig) -> None:
        self._tokenizer = tokenizer
        self._byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
        self.end_of_text: int = tokenizer.eos_token_id
        self.start_of_transcript: int = config.decoder_start_token_id
        self.no_timestamps: int = config.no_timestamps_token_id
        self.no_speech = self.no_timestamps - 1
        self.start_of_previous: int = getattr(config, "prev_sot_token_id", None) or self.no_timestamps - 2
        self.timestamp_begin = self.no_timestamps + 1
        self.suppressed: list[int] = list(config.suppress_tokens or [])
        self.suppressed_at_begin: list[int] = list(config.begin_suppress_tokens or [])
        self.max_initial_timestamp: int | None = getattr(config, "max_initial_timestamp_index", None)
        is_multilingual = getattr(config, "is_multilingual", True)
        lang_to_id: dict[str, int] = (getattr(config, "lang_to_id", None) or {}) if is_multilingual else {}
        self.language_ids = {token.strip("<|>"): id for token, id in lang_to_id.items()}
        self.task_ids: dict[str, int] = (getattr(config, "task_to_id", None) or {}) if is_multilingual else {}

    def prefix(self, options: DecodingOptions, language: str) -> list[int]:
        """Token ids that the decoder reads before it writes: what came before, language, task, timestamps or not."""
        prefix = [*self._previous_text(options), self.start_of_transcript]
        if self.language_ids:
            prefix += [self.language_ids[language], self.task_ids[options.task]]
        return prefix if options.timestamps else [*prefix, self.no_timestamps]

    def alignment_prefix(self, options: DecodingOptions, language: str) -> list[int]:
        if not self.language_ids:
            return [self.start_of_transcript, self.no_timestamps]
        return [
            self.start_of_transcript,
            self.language_ids[language],
            self.task_ids[options.task],
            self.no_timestamps,
        ]

    def num_prompt_tokens(self, options: DecodingOptions) -> int:
        return max(len(self._previous_text(options)) - 1, 0)

    def data(self, token_id: int) -> bytes:
        """Bytes of one token; none for special tokens."""
        if token_id >= self.end_of_text:
            return b""
        token = self._tokenizer.convert_ids_to_tokens(token_id)
        return bytes(self._byte_of[character] for character in token)

    def text(self, token_ids: Sequence[int]) -> str:
        return b"".join(self.data(token_id) for token_id in token_ids).decode("utf-8", errors="replace")

    def _previous_text(self, options: DecodingOptions) -> list[int]:
        text = " ".join(part for part in (", ".join(options.keywords), options.prompt.strip()) if part)
        if not text:
            return []
        # A prompt is the user's text: what looks like a control token in it must not become one.
        ids = self._tokenizer.encode(" " + text, add_special_tokens=False, split_special_tokens=True)
        return [self.start_of_previous, *ids[-MAX_PROMPT_TOKENS:]]
