"""Models that need more than transformers' Auto classes give: one row each, and nothing for all the others."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GraniteSpeechConfig,
    GraniteSpeechPlusConfig,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2AudioConfig,
    VoxtralConfig,
)

from deployments.chat.families.granite_speech import adapter_of
from deployments.chat.families.qwen2_audio import hear_only_what_there_is
from deployments.chat.families.ultravox import load_ultravox
from deployments.chat.families.ultravox_model import UltravoxConfig
from deployments.chat.families.ultravox_prompts import load_ultravox_prompts
from deployments.chat.families.voxtral import load_voxtral_prompts
from deployments.chat.row import Row

BeforeStep = Callable[[Iterable[tuple[Row, int]]], None]
"""Told before every step of the model which rows it is of, and of how many tokens of each, in their order."""


@dataclass(frozen=True, slots=True)
class Family:
    """
    load_model: of source, configuration and precision, where transformers has no such model.
    load_prompts: of source and configuration, where a repository has no processor that transformers can use.
    prepare: change the model once, when it is loaded.
    before_step: of the loaded model; None where this one needs nothing.
    """

    load_model: Callable[[str, Any, torch.dtype], PreTrainedModel] | None = None
    load_prompts: Callable[[str, Any], ProcessorMixin] | None = None
    prepare: Callable[[PreTrainedModel], None] | None = None
    before_step: Callable[[PreTrainedModel], BeforeStep | None] | None = None


FAMILIES: dict[type[PreTrainedConfig], Family] = {
    GraniteSpeechConfig: Family(before_step=adapter_of),
    GraniteSpeechPlusConfig: Family(before_step=adapter_of),
    Qwen2AudioConfig: Family(prepare=hear_only_what_there_is),
    UltravoxConfig: Family(load_model=load_ultravox, load_prompts=load_ultravox_prompts),
    VoxtralConfig: Family(load_prompts=load_voxtral_prompts),
}


def family_of(config: PreTrainedConfig) -> Family:
    return FAMILIES.get(type(config), Family())
