"""Which device a model runs on, and in which precision."""

import torch


def resolve_device(device: str) -> torch.device:
    """torch's device of that name; "auto" is the first GPU when there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def resolve_dtype(dtype: str, device: torch.device, on_gpu: torch.dtype) -> torch.dtype:
    """torch's type of that name; "auto" is float32 on a CPU and `on_gpu` elsewhere."""
    if dtype == "auto":
        return on_gpu if device.type == "cuda" else torch.float32
    resolved = getattr(torch, dtype)
    assert isinstance(resolved, torch.dtype)
    return resolved
