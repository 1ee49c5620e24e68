"""Granite Speech's LoRA adapter, which the model needs to hear, and must do without where there is nothing to hear."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from transformers import (
    GraniteSpeechForConditionalGeneration,
    GraniteSpeechPlusForConditionalGeneration,
    PreTrainedModel,
)

from deployments.chat.row import Row
from pipelines.errors import ConfigurationError

WITHOUT_ADAPTER = "__base__"
"""peft's name for a row that no adapter is for."""


class AudioAdapter:
    """Puts the adapter on row by row, where transformers' `generate` has it on or off for a whole batch.

    Any other model has none, and is left as it is.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """
        Raises:
            ConfigurationError: the model needs one that was not found, or that is another model's.
        """
        self._name: str | None = None
        self._of_rows: list[str] | None = None
        if not isinstance(model, (GraniteSpeechForConditionalGeneration, GraniteSpeechPlusForConditionalGeneration)):
            return
        layers = _adapted_layers(model) if model._hf_peft_config_loaded else []
        if layers:
            self._name = next(iter(model.peft_config))
        elif model.config.has_lora_adapter:
            raise ConfigurationError(f"The chat model '{model.name_or_path}' lacks the LoRA adapter it hears with.")
        for layer in layers:
            layer.register_forward_pre_hook(self._name_adapters, with_kwargs=True)

    def put_on(self, rows: Iterable[Row]) -> None:
        """Say before every step of the model which rows it is of: those with audio get the adapter."""
        if self._name is None:
            return
        names = [self._name if "input_features" in row.prompt.inputs else WITHOUT_ADAPTER for row in rows]
        # without names peft adapts the whole batch at once, which is faster than row by row
        self._of_rows = names if WITHOUT_ADAPTER in names else None

    def _name_adapters(self, _: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "adapter_names": self._of_rows}


def _adapted_layers(model: PreTrainedModel) -> list[nn.Module]:
    """Those to which an adapter adds anything: where a file lacks its weights, transformers goes on with zeros."""
    from peft.tuners.lora import LoraLayer  # takes seconds, which other models need not wait for

    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    return [layer for layer in layers if any(half.weight.any() for half in layer.lora_B.values())]
