"""Where half precision pays."""

import torch


def reduced_precision(device: str) -> torch.autocast:
    """bfloat16 where the hardware multiplies it faster than float32: GPUs, and CPUs with AMX tiles, but no others."""
    kind = torch.device(device).type
    is_faster = kind != "cpu" or bool(torch.cpu.get_capabilities().get("amx_tile"))
    return torch.autocast(kind, torch.bfloat16, enabled=is_faster)
