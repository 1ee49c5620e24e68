"""Tokenizers of the kinds that language models have, each trained in a moment on a few sentences."""

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

END, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
BLANK = "\u2581"
VOCABULARY_SIZE = 400
"""Of `byte_level`, its special tokens, which come first, among them."""

TEXTS = (
    "We meet at ten o'clock in Madrid. The garden costs twenty-five euros, and the weather is beautiful today.",
    "Übermorgen fährt die Straßenbahn über die Brücke nach Köln; schöne Grüße aus Düsseldorf!",
    "L'été dernier, le garçon a mangé une crêpe à la façade d'un château près de Besançon.",
    "El niño pequeño compró piñas mañana por la mañana. ¿Qué tal?",
    "今天天气很好。東京は晴れです。오늘 날씨가 좋다.",
    "def f(x):\n    return {'a': [1, 2, 3]}  # 100 %\n\n\t\u00a0end",
)
STRANGE = (
    "👩‍👩‍👧 🎉 naïve café — “quoted” …",
    "Ωμέγα Привет שלום مرحبا",
    " leading and trailing  blanks ",
    "",
    "\x00\x01 \ufffd",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


TEKKEN_PATTERN = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN_SPECIAL_TOKENS = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
    *("[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]"),
    *("[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
    *(f"<SPECIAL_{id}>" for id in range(20, 24)),
    *("[AUDIO]", "[BEGIN_AUDIO]"),
    *(f"<SPECIAL_{id}>" for id in range(26, 34)),
    "[TRANSCRIBE]",
)
"""At the ids that they have in Voxtral's tokenizer."""


def byte_level(extra: Iterable[str] = (), **options: Any) -> PreTrainedTokenizerFast:
    """BPE over GPT-2's alphabet of bytes, as Qwen's and Llama 3's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [END, TURN_START, TURN_END, *extra]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=TURN_END, pad_token=END, **options)


def sentencepiece_bpe(drops_first_space: bool = True, extra: Sequence[AddedToken] = ()) -> PreTrainedTokenizerFast:
    """BPE over characters with bytes to fall back on, as Llama 2's, or, where no space is dropped, Gemma's."""
    vocabulary, merges = _trained_pieces()
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    to_blank = normalizers.Replace(" ", BLANK)
    decoding = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if drops_first_space:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), to_blank])
        decoding.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.normalizer = to_blank
    tokenizer.decoder = decoders.Sequence(decoding)
    tokenizer.add_tokens(list(extra))
    return _with_sentencepiece_s_ends(tokenizer)


def unigram() -> PreTrainedTokenizerFast:
    """Unigram pieces between blanks, as T5's; no bytes to fall back on."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _with_sentencepiece_s_ends(tokenizer)


def tekken() -> dict[str, Any]:
    """Mistral's own format, as in Voxtral's `tekken.json`; as many tokens as `byte_level` has, and some reserved."""
    trained = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(TEKKEN_PATTERN), behavior="isolated")
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    num_special = len(TEKKEN_SPECIAL_TOKENS) + 5
    num_words = VOCABULARY_SIZE - num_special
    trainer = trainers.BpeTrainer(vocab_size=num_words, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(TEXTS, trainer)
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    found = sorted(trained.get_vocab().items(), key=lambda token: token[1])
    merged = [bytes(byte_of[character] for character in token) for token, _ in found if len(token) > 1]
    words = [bytes([byte]) for byte in range(256)] + merged
    special = [{"rank": id, "token_str": token, "is_control": True} for id, token in enumerate(TEKKEN_SPECIAL_TOKENS)]
    return {
        "config": {
            "pattern": TEKKEN_PATTERN,
            "num_vocab_tokens": len(words),
            "default_vocab_size": VOCABULARY_SIZE,
            "default_num_special_tokens": num_special,
            "version": "v7",
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(word).decode(), "token_str": word.decode(errors="ignore")}
            for rank, word in enumerate(words)
        ],
        "special_tokens": special,
        "audio": {
            "sampling_rate": 16_000,
            "frame_rate": 12.5,
            "audio_encoding_config": {"num_mel_bins": 16, "hop_length": 160, "window_size": 400},
            "chunk_length_s": 30.0,
        },
    }


def _trained_pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary, with every byte in it, and merges."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=300, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    return {name: id for id, name in enumerate(names)}, [tuple(pair) for pair in model["merges"]]


def _with_sentencepiece_s_ends(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
