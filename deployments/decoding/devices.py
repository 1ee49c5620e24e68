"""In which precision a model runs."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deployments.compat.torch import has_int8, multiplies_bfloat16, multiplies_int8
from pipelines.errors import ConfigurationError

logger = logging.getLogger("ray.serve")

INT8 = "int8"


@dataclass(frozen=True, slots=True)
class Precision:
    """dtype: of the weights, or, where they are 8-bit, of what lies between the layers.
    attention: of what is multiplied in attention, and of its caches."""

    dtype: torch.dtype
    attention: torch.dtype
    has_int8_weights: bool = False


def resolve_dtype(dtype: str, device: torch.device, on_gpu: torch.dtype) -> torch.dtype:
    """torch's type of that name; "auto" is float32 on a CPU and `on_gpu` elsewhere."""
    if dtype == "auto":
        return on_gpu if device.type == "cuda" else torch.float32
    resolved = getattr(torch, dtype)
    assert isinstance(resolved, torch.dtype)
    return resolved


def resolve_precision(dtype: str, device: torch.device, on_gpu: torch.dtype) -> Precision:
    """As `resolve_dtype`, but "auto" is int8 on a CPU with instructions for it. The log says why.

    Raises:
        ConfigurationError: int8 where there is none.
    """
    if dtype == "auto" and device.type == "cpu":
        chosen = INT8 if multiplies_int8() and has_int8() else "float32"
        has = "has" if multiplies_int8() else "has no"
        logger.info("dtype auto is %s: this processor %s instructions for 8-bit products (VNNI)", chosen, has)
        dtype = chosen
    if dtype != INT8:
        resolved = resolve_dtype(dtype, device, on_gpu)
        return Precision(resolved, resolved)
    if device.type != "cpu" or not has_int8():
        raise ConfigurationError("dtype int8 is for x86 processors: use float16 or bfloat16 on this device.")
    attention = torch.bfloat16 if multiplies_bfloat16() else torch.float32
    return Precision(torch.float32, attention, has_int8_weights=True)


def put(values: Sequence[Any], device: torch.device | None, dtype: torch.dtype | None = None) -> Tensor:
    """`torch.tensor` of them, on a device."""
    return moved(torch.tensor(values, dtype=dtype), device)


def moved(tensor: Tensor, device: torch.device | None) -> Tensor:
    """`tensor` of a CPU on a device, without waiting for what a GPU has to do before; None is the CPU."""
    if device is None or device.type == tensor.device.type:
        return tensor
    if device.type != "cuda" or not tensor.numel():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
