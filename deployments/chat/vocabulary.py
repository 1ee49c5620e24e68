"""A language model's tokens: the way from ids to bytes, and which of them end an answer."""

import re

from transformers import GenerationConfig, PreTrainedTokenizerBase

from deployments.compat.transformers import byte_of_character

BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
WORD_START = "\u2581"
"""SentencePiece's mark for a space."""


class Vocabulary:
    """Read-only; shared by every row. Knows byte-level BPE (GPT-2's alphabet) and SentencePiece's way with bytes.

    size: ids from here on are padding of the model's output layer, or tokens that it has no output for.
    drops_first_space: SentencePiece puts a space before every text, and most of its tokenizers take it off again.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: GenerationConfig, num_logits: int) -> None:
        self._tokens: dict[int, str] = {id: token for token, id in tokenizer.get_vocab().items()}
        self.size = min(max(self._tokens) + 1, num_logits)  # ids have holes in some vocabularies
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        self.ends = frozenset(end for end in (*ends, tokenizer.eos_token_id) if end is not None)
        added = tokenizer.added_tokens_decoder
        self._added = frozenset(added)
        self._special = frozenset(id for id, token in added.items() if token.special).union(tokenizer.all_special_ids)
        self._byte_of = byte_of_character()
        # DeepSeek's byte-level BPE has the mark in its control tokens
        words = [id for id, token in self._tokens.items() if token.startswith(WORD_START) and id not in self._added]
        self._is_byte_level = not words
        # a mark and more: of several marks only the first is taken off, and which word comes first differs by process
        marked = [id for id in words if self._tokens[id].count(WORD_START) == 1 < len(self._tokens[id])]
        self.drops_first_space = bool(words) and not tokenizer.decode([min(marked or words)]).startswith(" ")

    def data(self, token_id: int) -> bytes:
        """Bytes of one token; none for special tokens."""
        if token_id in self._special:
            return b""
        token = self.name(token_id)
        if self._is_byte_level:
            if token_id in self._added or any(character not in self._byte_of for character in token):
                return token.encode()
            return bytes(self._byte_of[character] for character in token)
        if byte := BYTE_TOKEN.fullmatch(token):
            return bytes.fromhex(byte[1])
        return token.replace(WORD_START, " ").encode()

    def name(self, token_id: int) -> str:
        """As the tokenizer spells it."""
        return self._tokens.get(token_id, "")
