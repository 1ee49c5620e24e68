import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from deployments.chat.defaults import sampling_defaults
from pipelines.chat_types import SamplingDefaults

GREEDY = SamplingDefaults(temperature=0.0)
QWEN2_AUDIO = {"do_sample": True, "temperature": 0.7, "top_p": 0.5, "top_k": 20, "repetition_penalty": 1.1}
"""As its makers publish it."""


@pytest.mark.parametrize(
    ("said", "defaults"),
    [
        ({}, SamplingDefaults()),
        ({"do_sample": True}, SamplingDefaults()),
        ({"do_sample": False}, GREEDY),
        ({"do_sample": False, "temperature": 0.7}, GREEDY),
        ({"temperature": 0.2, "min_p": 0.1}, SamplingDefaults(temperature=0.2, min_p=0.1)),
        ({"_from_model_config": True, "do_sample": False, "temperature": 1.0, "top_k": 50}, SamplingDefaults()),
        (QWEN2_AUDIO, SamplingDefaults(temperature=0.7, top_p=0.5, top_k=20, repetition_penalty=1.1)),
    ],
    ids=str,
)
def test_what_a_generation_config_says(tmp_path: Path, said: dict[str, Any], defaults: SamplingDefaults) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(said))
    assert sampling_defaults(GenerationConfig.from_pretrained(tmp_path)) == defaults


def test_what_a_checkpoint_of_its_own_says(checkpoint: Path) -> None:
    assert sampling_defaults(GenerationConfig.from_pretrained(checkpoint)) == GREEDY
