"""A language model's tokens: the way from ids to bytes, and which of them end an answer."""

import re

from transformers import GenerationConfig, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
WORD_START = "\u2581"
"""SentencePiece's mark for a space."""


class Vocabulary:
    """Read-only; shared by every row. Knows byte-level BPE (GPT-2's alphabet) and SentencePiece's way with bytes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: GenerationConfig) -> None:
        self.size = len(tokenizer)
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        self.ends = frozenset(end for end in (*ends, tokenizer.eos_token_id) if end is not None)
        self._tokens: list[str | None] = tokenizer.convert_ids_to_tokens(list(range(self.size)))
        added = tokenizer.added_tokens_decoder.items()
        self._added = {id: token.content for id, token in added if not token.special}
        self._special = frozenset(id for id, token in added if token.special).union(tokenizer.all_special_ids)
        self._byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
        self.is_byte_level = not any(WORD_START in token for token in self._tokens if token)
        self.longest_token = max(len(token) for token in self._tokens if token)

    def data(self, token_id: int) -> bytes:
        """Bytes of one token; none for special tokens."""
        if token_id in self._special:
            return b""
        if token_id in self._added:
            return self._added[token_id].encode()
        token = self._tokens[token_id] or ""
        if self.is_byte_level and all(character in self._byte_of for character in token):
            return bytes(self._byte_of[character] for character in token)
        if byte := BYTE_TOKEN.fullmatch(token):
            return bytes.fromhex(byte[1])
        return token.replace(WORD_START, " ").encode()

    def name(self, token_id: int) -> str:
        """What a token is called in logprobs: its text, or a special token's own name."""
        return self.data(token_id).decode("utf-8", errors="replace") or self._tokens[token_id] or ""
