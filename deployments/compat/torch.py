"""What torch does not promise to keep, each thing once, and what it breaks when it changes.

`tests/deployments/compat/test_torch.py` tells when one of them does.
"""

import warnings

import torch
from torch import Tensor

INT8_LEVELS = 127


def multiplies_int8() -> bool:
    """Whether this processor multiplies 8-bit numbers in one instruction (VNNI). Private.

    When it changes, int8 is not chosen where it pays.
    """
    return bool(torch.cpu._is_vnni_supported())


def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in one instruction. Private.

    When it changes, attention is computed in float32 where bfloat16 is faster.
    """
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def has_int8() -> bool:
    """Whether this build of torch has the kernels of `Int8Matrix`: FBGEMM's, for x86."""
    return "fbgemm" in torch.backends.quantized.supported_engines


class Int8Matrix:
    """A matrix of 8-bit weights, each of its rows with a scale, packed as FBGEMM reads it.

    `torch.quantize_per_channel` and these operators are deprecated. When they go, `dtype: int8` does not start.
    """

    def __init__(self, weight: Tensor) -> None:
        """
        Args:
            weight: float (out, in).
        """
        weight = weight.detach().float()
        scales = (weight.abs().amax(dim=1) / INT8_LEVELS).clamp(min=torch.finfo(torch.float32).tiny).double()
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        engine, torch.backends.quantized.engine = torch.backends.quantized.engine, "fbgemm"  # it decides the packing
        try:
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                quantized = torch.quantize_per_channel(weight, scales, zeros, axis=0, dtype=torch.qint8)
            self._packed = torch.ops.quantized.linear_prepack(quantized, None)
        finally:
            torch.backends.quantized.engine = engine
        # Without VNNI two products of 8 by 8 bits are added in 16: with 7 bits they cannot overflow.
        self._levels = INT8_LEVELS if multiplies_int8() else INT8_LEVELS // 2

    def __call__(self, x: Tensor) -> Tensor:
        """`x` by the transposed matrix.

        Args:
            x: float32 (rows, in), from -1 to 1.

        Returns:
            float32 (rows, out); a row of it hangs on the same row of `x` alone.
        """
        product: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x, 1 / self._levels, self._levels + 1, self._packed
        )
        return product
