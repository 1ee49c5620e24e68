"""The trained model as a plain Whisper directory."""

from copy import deepcopy
from pathlib import Path

from transformers import (
    GenerationConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from models.training.whisper.tokenizer import Vocabulary


def export(folder: Path, whisper: WhisperForConditionalGeneration, tokenizer: WhisperTokenizer) -> None:
    """Writes weights (float16), configurations and tokenizer: `from_pretrained(folder)` loads them."""
    shipped = deepcopy(whisper).cpu().half()
    shipped.generation_config = generation_config(whisper, Vocabulary.of(tokenizer))
    shipped.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(folder)


def generation_config(whisper: WhisperForConditionalGeneration, vocabulary: Vocabulary) -> GenerationConfig:
    first, last = vocabulary.start, vocabulary.no_speech
    return GenerationConfig(
        bos_token_id=vocabulary.end,
        eos_token_id=vocabulary.end,
        pad_token_id=vocabulary.end,
        decoder_start_token_id=vocabulary.start,
        prev_sot_token_id=vocabulary.previous,
        is_multilingual=True,
        lang_to_id={f"<|{language}|>": token for language, token in vocabulary.languages.items()},
        task_to_id={"transcribe": vocabulary.transcribe, "translate": vocabulary.translate},
        no_timestamps_token_id=vocabulary.no_timestamps,
        # speech may begin anywhere in the window
        max_initial_timestamp_index=1500,
        max_length=whisper.config.max_target_positions,
        suppress_tokens=list(range(first, last + 1)),
        # silence is answered with nothing, so the first token may be the end
        begin_suppress_tokens=None,
        return_timestamps=False,
        # the head that the broad loss trains
        alignment_heads=[[whisper.config.decoder_layers - 1, 0]],
    )
