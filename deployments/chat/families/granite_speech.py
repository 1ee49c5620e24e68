"""Granite Speech's LoRA adapter, which the model needs to hear, and must do without where there is nothing to hear."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from deployments.chat.row import Row
from deployments.compat.transformers import has_adapter
from deployments.decoding.devices import put
from pipelines.errors import ConfigurationError


def adapter_of(model: PreTrainedModel) -> Callable[[Iterable[tuple[Row, int]]], None] | None:
    """What has to know before every step of the model which rows it is of; None for a model without an adapter.

    Raises:
        ConfigurationError: the model needs one that was not found, or that is another model's.
    """
    layers = _adapted_layers(model) if has_adapter(model) else []
    if layers:
        return AudioAdapter(layers, model.device).put_on
    if model.config.has_lora_adapter:
        raise ConfigurationError(f"The chat model '{model.name_or_path}' lacks the LoRA adapter it hears with.")
    return None


class AudioAdapter:
    """Puts the adapter on row by row, where transformers' `generate` has it on or off for a whole batch."""

    def __init__(self, layers: Iterable[nn.Module], device: torch.device) -> None:
        self._device = device
        self._has_it: Tensor | None = None
        for layer in layers:
            layer.register_forward_hook(self._take_off)

    def put_on(self, rows: Iterable[tuple[Row, int]]) -> None:
        """Rows with audio get the adapter in the step that follows, for so many tokens each."""
        has_it = [row.prompt.has_audio for row, num_tokens in rows for _ in range(num_tokens)]
        self._has_it = None if all(has_it) else put(has_it, self._device)[None, :, None]

    def _take_off(self, layer: nn.Module, args: tuple[Tensor], adapted: Tensor) -> Tensor:
        if self._has_it is None:
            return adapted
        plain = layer.base_layer(*args)  # type: ignore[operator]
        return torch.where(self._has_it, adapted, plain)


def _adapted_layers(model: PreTrainedModel) -> list[nn.Module]:
    """Those to which an adapter adds anything: where a file lacks its weights, transformers goes on with zeros."""
    from peft.tuners.lora import LoraLayer  # takes seconds, which other models need not wait for

    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    return [layer for layer in layers if any(half.weight.any() for half in layer.lora_B.values())]
