"""Small random checkpoints of many model families, made by transformers' own classes."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3EncoderConfig,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    AutoModelForCausalLM,
    Blip2QFormerConfig,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GenerationConfig,
    GlmAsrConfig,
    GlmAsrEncoderConfig,
    GlmAsrForConditionalGeneration,
    GlmAsrProcessor,
    GptOssConfig,
    GraniteConfig,
    GraniteSpeechConfig,
    GraniteSpeechEncoderConfig,
    GraniteSpeechFeatureExtractor,
    GraniteSpeechForConditionalGeneration,
    GraniteSpeechPlusConfig,
    GraniteSpeechPlusEncoderConfig,
    GraniteSpeechPlusForConditionalGeneration,
    GraniteSpeechProcessor,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2Config,
    Qwen3ASRConfig,
    Qwen3ASREncoderConfig,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRProcessor,
    Qwen3Config,
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeForConditionalGeneration,
    VoxtralConfig,
    VoxtralForConditionalGeneration,
    WhisperFeatureExtractor,
)

from tests.support.small_tokenizers import (
    CHAT_TEMPLATE,
    END,
    TURN_END,
    TURN_START,
    VOCABULARY_SIZE,
    byte_level,
    sentencepiece_bpe,
    tekken,
)

NUM_MELS = 16
WINDOW = 8
"""Tokens that a layer with a sliding window looks back upon: fewer than any prompt has."""

SIZES = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "eos_token_id": 2,
}
ENCODER_SIZES = {
    "num_mel_bins": NUM_MELS,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "hidden_size": 32,
}
OLD_ENCODER_SIZES = {
    "num_mel_bins": NUM_MELS,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "d_model": 32,
    "output_dim": 32,
}
EXPERT_SIZES = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}

SPECIAL_TOKENS = {
    "audio_token": "<|AUDIO|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
    "image_token": "<|IMAGE|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
}
IDS = {token: id for id, token in enumerate([END, TURN_START, TURN_END, *SPECIAL_TOKENS.values()])}
AUDIO_ID = IDS["<|AUDIO|>"]
PARTS_TEMPLATE = CHAT_TEMPLATE.replace(
    "{{ message['content'] }}",
    "{% for part in message['content'] %}{% if part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}",
)


def save(directory: Path, model: PreTrainedModel, processor: Any) -> None:
    """With weights so large that answers hang on every token that is read."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)


# Models that only read

TEXT_CONFIGS: dict[str, Any] = {
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES, head_dim=8),
    "llama": lambda: LlamaConfig(**{**SIZES, "vocab_size": 600}),
    # one layer looks back a few tokens, or all do
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=WINDOW),
    "gemma2": lambda: Gemma2Config(**SIZES, sliding_window=WINDOW, head_dim=8),
    "gemma3": lambda: Gemma3TextConfig(**SIZES, sliding_window=WINDOW, sliding_window_pattern=2, head_dim=8),
    "gpt_oss": lambda: GptOssConfig(
        **SIZES,
        sliding_window=WINDOW,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    ),
    # knows no limit of its context
    "bloom": lambda: BloomConfig(vocab_size=VOCABULARY_SIZE, hidden_size=32, n_layer=2, n_head=4, eos_token_id=2),
}
TEXT_FAMILIES = tuple(name for name in TEXT_CONFIGS if name != "bloom")
SLIDING = ("mistral", "gemma2", "gemma3", "gpt_oss")


def text_model(family: str, directory: Path) -> None:
    tokenizer = sentencepiece_bpe() if family == "llama" else byte_level()
    tokenizer.chat_template = CHAT_TEMPLATE
    save(directory, AutoModelForCausalLM.from_config(TEXT_CONFIGS[family]()), tokenizer)


# Models that hear


def tokenizer() -> PreTrainedTokenizerFast:
    return byte_level(SPECIAL_TOKENS.values(), extra_special_tokens=SPECIAL_TOKENS)


def features() -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=NUM_MELS)


def qwen2_audio(directory: Path) -> None:
    """Answers greedily where nothing else is said."""
    config = Qwen2AudioConfig(
        text_config={**SIZES, "model_type": "qwen2", "max_position_embeddings": 2048},
        audio_config={**OLD_ENCODER_SIZES, "model_type": "qwen2_audio_encoder", "max_source_positions": 1500},
        audio_token_index=AUDIO_ID,
        pad_token_id=0,
        eos_token_id=2,
    )
    model = Qwen2AudioForConditionalGeneration(config)
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=[2, 0], pad_token_id=0)
    save(directory, model, Qwen2AudioProcessor(features(), tokenizer(), chat_template=PARTS_TEMPLATE))


def granite_speech(directory: Path, plus: bool = False, has_adapter: bool = True) -> None:
    """Its template takes strings; its projector is a Q-Former over windows of frames; audio needs its LoRA adapter."""
    template = CHAT_TEMPLATE.replace("<|im_start|>{{ message['role'] }}", "{{ '<|im_start|>' + message['role'] }}")
    heads = {"num_heads": 4, "context_size": 20, "max_pos_emb": 64}
    encoder = {"num_layers": 2, "hidden_dim": 32, "output_dim": 8, **heads}
    projector = Blip2QFormerConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        encoder_hidden_size=64 if plus else 32,
        cross_attention_frequency=1,
        vocab_size=10,
    )
    sizes = {
        "text_config": GraniteConfig(**SIZES),
        "projector_config": projector,
        "audio_token_index": AUDIO_ID,
        "has_lora_adapter": has_adapter,
        "tie_word_embeddings": False,
    }
    model: PreTrainedModel
    if plus:  # the projector takes what two layers of the encoder give
        of_layers = GraniteSpeechPlusEncoderConfig(**encoder, cat_hidden_layers=[1])
        model = GraniteSpeechPlusForConditionalGeneration(GraniteSpeechPlusConfig(**sizes, encoder_config=of_layers))
    else:
        of_last = GraniteSpeechEncoderConfig(**encoder)
        model = GraniteSpeechForConditionalGeneration(GraniteSpeechConfig(**sizes, encoder_config=of_last))
    words = tokenizer()
    words.chat_template = template
    save(directory, model, GraniteSpeechProcessor(GraniteSpeechFeatureExtractor(), words, chat_template=template))
    if has_adapter:
        add_adapter(directory, model)


def add_adapter(directory: Path, model: PreTrainedModel) -> None:
    """As peft saves it, beside the model."""
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:  # a new adapter's are zero, in part
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(directory)


def audio_flamingo_3(directory: Path) -> None:
    config = AudioFlamingo3Config(
        audio_config=AudioFlamingo3EncoderConfig(**ENCODER_SIZES),
        text_config=Qwen2Config(**SIZES),
        audio_token_id=AUDIO_ID,
    )
    processor = AudioFlamingo3Processor(features(), tokenizer(), chat_template=PARTS_TEMPLATE, audio_token="<|AUDIO|>")
    save(directory, AudioFlamingo3ForConditionalGeneration(config), processor)


def glm_asr(directory: Path) -> None:
    config = GlmAsrConfig(
        audio_config=GlmAsrEncoderConfig(**ENCODER_SIZES),
        text_config=LlamaConfig(**SIZES),
        audio_token_id=AUDIO_ID,
        tie_word_embeddings=False,
    )
    processor = GlmAsrProcessor(features(), tokenizer(), chat_template=PARTS_TEMPLATE, audio_token="<|AUDIO|>")
    save(directory, GlmAsrForConditionalGeneration(config), processor)


def qwen3_asr(directory: Path) -> None:
    config = Qwen3ASRConfig(
        audio_config=Qwen3ASREncoderConfig(**OLD_ENCODER_SIZES, downsample_hidden_size=8),
        text_config=Qwen3Config(**SIZES, head_dim=8),
        audio_token_id=AUDIO_ID,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=2,
    )
    extractor = Qwen3ASRFeatureExtractor(feature_size=NUM_MELS)
    processor = Qwen3ASRProcessor(extractor, tokenizer(), chat_template=PARTS_TEMPLATE)
    save(directory, Qwen3ASRForConditionalGeneration(config), processor)


def qwen2_5_omni_thinker(directory: Path) -> None:
    """Its positions have three axes. Its own processor needs torchvision; Qwen2-Audio's makes the same prompts."""
    processor = Qwen2AudioProcessor(features(), tokenizer(), chat_template=PARTS_TEMPLATE)
    save(directory, Qwen2_5OmniThinkerForConditionalGeneration(_thinker_2_5()), processor)


def voxtral(directory: Path) -> None:
    """With the files of the real repository: no processor, and a tokenizer in Mistral's own format."""
    encoder = {**ENCODER_SIZES, "intermediate_size": 4 * ENCODER_SIZES["hidden_size"]}
    text = {**SIZES, "model_type": "llama", "max_position_embeddings": 2_048, "pad_token_id": 11}
    config = VoxtralConfig(audio_config=encoder, text_config=text, audio_token_id=24)
    save(directory, VoxtralForConditionalGeneration(config), features())
    (directory / "tekken.json").write_text(json.dumps(tekken()))


AUDIO_FAMILIES: dict[str, Callable[[Path], None]] = {
    "granite_speech": granite_speech,
    "granite_speech_plus": partial(granite_speech, plus=True),
    "audio_flamingo_3": audio_flamingo_3,
    "glm_asr": glm_asr,
    "qwen3_asr": qwen3_asr,
    "qwen2_5_omni_thinker": qwen2_5_omni_thinker,
}


# Models that hear, see and speak; their processors need torchvision


def qwen2_5_omni(directory: Path) -> None:
    from transformers import Qwen2_5OmniProcessor

    config = Qwen2_5OmniConfig(thinker_config=_thinker_2_5().to_dict(), enable_audio_output=False)
    save(directory, Qwen2_5OmniForConditionalGeneration(config), Qwen2_5OmniProcessor(*_omni_parts()))
    torch.save({}, directory / "spk_dict.pt")  # voices


def qwen3_omni(directory: Path) -> None:
    from transformers import Qwen3OmniMoeProcessor

    text = {**SIZES, **EXPERT_SIZES, "head_dim": 8, "num_experts": 4, "rope_parameters": _MROPE}
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 32}
    thinker = {
        "text_config": text,
        "audio_config": {**OLD_ENCODER_SIZES, "downsample_hidden_size": 8},
        "vision_config": {**vision, "deepstack_visual_indexes": [0]},
        "audio_token_id": AUDIO_ID,
        "image_token_id": IDS["<|IMAGE|>"],
        "video_token_id": IDS["<|VIDEO|>"],
        "audio_start_token_id": IDS["<|audio_bos|>"],
        "vision_start_token_id": IDS["<|vision_bos|>"],
    }
    config = Qwen3OmniMoeConfig(thinker_config=thinker, enable_audio_output=False)
    save(directory, Qwen3OmniMoeForConditionalGeneration(config), Qwen3OmniMoeProcessor(*_omni_parts()))


OMNI_FAMILIES: dict[str, Callable[[Path], None]] = {"qwen2_5_omni": qwen2_5_omni, "qwen3_omni": qwen3_omni}

_MROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}


def _thinker_2_5() -> Qwen2_5OmniThinkerConfig:
    return Qwen2_5OmniThinkerConfig(
        text_config={**SIZES, "rope_parameters": _MROPE},
        audio_config={**OLD_ENCODER_SIZES, "n_window": 50},
        vision_config={"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 32},
        audio_token_index=AUDIO_ID,
        image_token_index=IDS["<|IMAGE|>"],
        video_token_index=IDS["<|VIDEO|>"],
        audio_start_token_id=IDS["<|audio_bos|>"],
        audio_end_token_id=IDS["<|audio_eos|>"],
        vision_start_token_id=IDS["<|vision_bos|>"],
        vision_end_token_id=IDS["<|vision_eos|>"],
        pad_token_id=0,
    )


def _omni_parts() -> tuple[Any, ...]:
    from transformers import Qwen2VLImageProcessorPil, Qwen2VLVideoProcessor

    return Qwen2VLImageProcessorPil(), Qwen2VLVideoProcessor(), features(), tokenizer(), PARTS_TEMPLATE
