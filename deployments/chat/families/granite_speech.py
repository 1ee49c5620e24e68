"""Granite Speech's LoRA adapter, which the model needs to hear, and must do without where there is nothing to hear."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from deployments.chat.row import Row
from deployments.compat.transformers import has_adapter
from pipelines.errors import ConfigurationError

WITHOUT_ADAPTER = "__base__"
"""peft's name for a row that no adapter is for."""


def adapter_of(model: PreTrainedModel) -> Callable[[Iterable[Row]], None] | None:
    """What has to know before every step of the model which rows it is of; None for a model without an adapter.

    Raises:
        ConfigurationError: the model needs one that was not found, or that is another model's.
    """
    layers = _adapted_layers(model) if has_adapter(model) else []
    if layers:
        return AudioAdapter(next(iter(model.peft_config)), layers).put_on
    if model.config.has_lora_adapter:
        raise ConfigurationError(f"The chat model '{model.name_or_path}' lacks the LoRA adapter it hears with.")
    return None


class AudioAdapter:
    """Puts the adapter on row by row, where transformers' `generate` has it on or off for a whole batch."""

    def __init__(self, name: str, layers: Iterable[nn.Module]) -> None:
        self._name = name
        self._of_rows: list[str] | None = None
        for layer in layers:
            layer.register_forward_pre_hook(self._name_adapters, with_kwargs=True)

    def put_on(self, rows: Iterable[Row]) -> None:
        """Rows with audio get the adapter in the step that follows."""
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
