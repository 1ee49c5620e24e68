"""In which precision a model runs."""

import torch


def resolve_dtype(dtype: str, device: torch.device, on_gpu: torch.dtype) -> torch.dtype:
    """torch's type of that name; "auto" is float32 on a CPU and `on_gpu` elsewhere."""
    if dtype == "auto":
        return on_gpu if device.type == "cuda" else torch.float32
    resolved = getattr(torch, dtype)
    assert isinstance(resolved, torch.dtype)
    return resolved
