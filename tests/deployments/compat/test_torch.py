"""What `deployments/compat/torch.py` takes for granted, asked of torch itself."""

from functools import partial
from pathlib import Path

import torch

from deployments.compat.torch import Int8Matrix, has_int8, multiplies_bfloat16, multiplies_int8
from tests.support.contracts import contract

kept = partial(contract, "torch", "deployments/compat/torch.py")


def flags() -> set[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def test_what_the_processor_can_is_asked_privately() -> None:
    with kept("what a processor multiplies"):
        assert multiplies_int8() == ("avx512_vnni" in flags())
        assert multiplies_bfloat16() == bool({"avx512_bf16", "amx_tile"} & flags())


def test_8_bit_products_are_exact() -> None:
    """Of numbers that 7 bits hold, so that it is no other on an older processor."""
    with kept("FBGEMM's linear layers on quantised weights"):
        assert has_int8()
        weight = torch.randint(-127, 128, (24, 40)).float()
        weight[:, 0] = 127.0  # so that each row's scale is 1
        levels = 127 if multiplies_int8() else 63
        x = torch.randint(-levels, levels + 1, (5, 40)).float()
        found = Int8Matrix(weight)(x / levels)
        assert torch.allclose(found, x @ weight.T / levels, rtol=1e-5)
