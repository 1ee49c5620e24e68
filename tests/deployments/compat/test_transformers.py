"""What `deployments/compat/transformers.py` takes for granted, asked of transformers itself."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from torch import Tensor
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    DynamicCache,
    FalconMambaConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    PreTrainedTokenizerBase,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen3NextConfig,
    WhisperFeatureExtractor,
)

from deployments.chat.attention import NAME
from deployments.compat.transformers import (
    ATTENTION_LAYERS,
    CONTROL_TOKEN_END,
    CONTROL_TOKEN_START,
    READ_MARKS,
    HearingProcessor,
    Qwen2AudioEncoderStandIn,
    byte_of_character,
    control_tokens,
    first_inputs,
    has_adapter,
    is_from_model_config,
    is_stateful,
    prompt_positions,
    set_attention,
    tekken_tokenizer,
)
from tests.support.contracts import contract
from tests.support.small_tokenizers import CHAT_TEMPLATE, TURN_END, TURN_START, byte_level, tekken

kept = partial(contract, "transformers", "deployments/compat/transformers.py")

SIZES: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


@pytest.fixture
def model() -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return byte_level(["<audio>"])


def test_a_model_tells_the_positions_of_a_prompt(model: LlamaForCausalLM) -> None:
    with kept("_prepare_position_ids_for_generation"):
        positions = prompt_positions(model, torch.tensor([[7, 8, 9]]), {"past_key_values": DynamicCache()})
        assert positions.tolist() == [[0, 1, 2]]


def test_a_model_makes_ready_what_it_takes_first(model: LlamaForCausalLM) -> None:
    token_ids, positions = torch.tensor([[7, 8, 9]]), torch.tensor([[0, 1, 2]])
    inputs = {"input_features": torch.zeros(1, 4, 6), "past_key_values": DynamicCache(), "use_cache": True}
    with kept("prepare_inputs_for_generation(is_first_iteration=True)"):
        ready = first_inputs(model, token_ids, positions, inputs)
        assert ready["input_ids"].equal(token_ids)
        assert ready["position_ids"].equal(positions)
        assert {name: ready[name] for name in inputs} == inputs


@pytest.mark.parametrize(
    ("config", "remembers_by_attention_alone"),
    [
        (LlamaConfig(**SIZES), True),
        (MistralConfig(**SIZES, sliding_window=8), True),
        (Qwen3NextConfig(**SIZES), False),
        (FalconMambaConfig(num_hidden_layers=2), False),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_caches_tell_what_their_layers_hold(config: Any, remembers_by_attention_alone: bool) -> None:
    with kept("the kinds of a DynamicCache's layers"):
        layers = DynamicCache(config=config).layers
        assert layers
        assert all(type(layer) in ATTENTION_LAYERS for layer in layers) == remembers_by_attention_alone


def test_a_model_tells_whether_its_attention_can_be_replaced(model: LlamaForCausalLM) -> None:
    with kept("_attn_implementation"):
        own = BloomForCausalLM(BloomConfig(vocab_size=8, hidden_size=8, n_layer=1, n_head=2))
        assert (set_attention(model.model, NAME), set_attention(own.transformer, NAME)) == (True, False)


def test_a_model_tells_that_it_keeps_a_state(model: LlamaForCausalLM) -> None:
    with kept("_is_stateful"):
        with torch.device("meta"):
            recurrent = MambaForCausalLM(MambaConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1))
        assert (is_stateful(model), is_stateful(recurrent)) == (False, True)
        model.add_module("part", recurrent)
        assert is_stateful(model)


def test_a_model_tells_that_it_has_an_adapter(model: LlamaForCausalLM) -> None:
    with kept("_hf_peft_config_loaded"):
        assert not has_adapter(model)
        model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]), "its name")
        assert has_adapter(model)
        assert list(model.peft_config) == ["its name"]


def test_a_generation_config_tells_that_nobody_wrote_it(model: LlamaForCausalLM, tmp_path: Path) -> None:
    with kept("_from_model_config"):
        assert is_from_model_config(model.generation_config)
        GenerationConfig(do_sample=True).save_pretrained(tmp_path)
        assert not is_from_model_config(GenerationConfig.from_pretrained(tmp_path))


def test_qwen2_audio_asks_what_stands_in_for_its_encoder() -> None:
    audio = {"num_mel_bins": 4, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 8, "d_model": 8}
    config = Qwen2AudioConfig(text_config={**SIZES, "model_type": "qwen2"}, audio_config=audio, audio_token_index=5)
    model = Qwen2AudioForConditionalGeneration(config).eval()
    inputs = {
        "input_ids": torch.tensor([[1, *[5] * 3, 2]]),
        "attention_mask": torch.ones(1, 5),
        "input_features": torch.randn(1, 4, 3_000, generator=torch.Generator().manual_seed(0)),
        "feature_attention_mask": torch.arange(3_000)[None] < 12,
    }
    num_asked = 0

    class StandIn(Qwen2AudioEncoderStandIn):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal num_asked
            num_asked += 1
            return self.encoder(*args, **kwargs)

    with torch.inference_mode(), kept("_get_feat_extract_output_lengths of Qwen2-Audio's encoder"):
        expected = model(**inputs).logits
        model.model.audio_tower = StandIn(model.model.audio_tower)
        assert torch.equal(model(**inputs).logits, expected)
        assert num_asked == 1


def test_a_processor_lets_its_own_ears_hear(tokenizer: PreTrainedTokenizerBase) -> None:
    class Processor(HearingProcessor):
        def __init__(self, feature_extractor: Any, tokenizer: Any) -> None:
            super().__init__(feature_extractor, tokenizer)
            self.audio_token = "<audio>"

        def hear(self, audio: Sequence[Any]) -> tuple[dict[str, Tensor], list[str]]:
            return {"input_features": torch.tensor([len(samples) for samples in audio])}, ["<audio>" * 3]

    with kept("_process_audio"):
        processor = Processor(WhisperFeatureExtractor(feature_size=4), tokenizer)
        made = processor(text="a<audio>b", audio=[np.zeros(7, np.float32)], return_tensors="pt")
        assert made["input_features"].tolist() == [7]
        assert made["input_ids"][0].tolist().count(tokenizer.convert_tokens_to_ids("<audio>")) == 3


def test_marked_control_tokens_are_read_as_text(tokenizer: PreTrainedTokenizerBase) -> None:
    with kept("sanitize_control_tokens, or the marks that it reads,"):
        id = tokenizer.convert_tokens_to_ids(TURN_END)
        marked = f"a{CONTROL_TOKEN_START}{TURN_END}{CONTROL_TOKEN_END}b{TURN_END}"
        ids = tokenizer(marked, add_special_tokens=False, **READ_MARKS)["input_ids"]
        assert ids.count(id) == 1
        assert tokenizer.decode(ids) == f"a{TURN_END}b{TURN_END}"


def test_a_tokenizer_tells_its_control_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    with kept("_get_control_tokens"):
        told = set(control_tokens(tokenizer, CHAT_TEMPLATE))
        assert {TURN_START, TURN_END, "<audio>"} <= told


def test_every_byte_has_a_character(tokenizer: PreTrainedTokenizerBase) -> None:
    with kept("bytes_to_unicode"):
        byte_of = byte_of_character()
        assert sorted(byte_of.values()) == list(range(256))
        token = tokenizer.convert_ids_to_tokens(tokenizer.encode(" ü", add_special_tokens=False))
        told = bytes(byte_of[character] for character in "".join(token))
        assert told.decode() == " ü"


def test_a_tokenizer_in_mistral_s_format_is_converted(tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_text(json.dumps(tekken()))
    with kept("convert_tekken_tokenizer, or cached_file,"):
        tokenizer = tekken_tokenizer(str(tmp_path), "tekken.json", CHAT_TEMPLATE)
        assert tokenizer.chat_template == CHAT_TEMPLATE
        ids = tokenizer.encode("[INST] garden", add_special_tokens=False)
        assert ids[0] == 3
        assert tokenizer.decode(ids[1:]) == " garden"
        with pytest.raises(OSError, match=r"missing\.json"):
            tekken_tokenizer(str(tmp_path), "missing.json", CHAT_TEMPLATE)
