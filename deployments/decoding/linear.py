"""Linear layers in the types that a processor multiplies fast."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from deployments.compat.torch import Int8Matrix
from deployments.decoding.devices import Precision

Linear = Callable[[Tensor], Tensor]

ROWS_AT_ONCE = 256
"""So many rows' intermediate values stay in a core's second cache."""


def linear(modules: Sequence[nn.Linear], precision: Precision, scales: Sequence[float] = ()) -> Linear:
    """One layer that gives what all of `modules` give, side by side.

    scales: what each of their results is multiplied with, by default 1.
    """
    factors = list(scales) or [1.0] * len(modules)
    weight = torch.cat([module.weight * factor for module, factor in zip(modules, factors, strict=True)])
    biases = [
        torch.zeros_like(module.weight[:, 0]) if module.bias is None else module.bias * factor
        for module, factor in zip(modules, factors, strict=True)
    ]
    bias = None if all(module.bias is None for module in modules) else torch.cat(biases).detach()
    if precision.has_int8_weights:
        return Int8Linear(weight, bias)
    return FloatLinear(weight.detach(), bias)


class FloatLinear:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self._weight, self._bias)


class Int8Linear:
    """Weights with a scale for each output, inputs with a scale for each row, found anew every time.

    The row-wise dynamic quantisation of T. Dettmers et al., "LLM.int8()", 2022, section 3.1, without its outliers. As
    no scale is shared, a row's result does not depend on who is in its batch.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, channel_scales: Tensor | None = None) -> None:
        """
        Args:
            channel_scales: (in,), what inputs are divided by before they are rounded, and weights multiplied with.
        """
        self._factors = None if channel_scales is None else channel_scales.reciprocal()
        self._matrix = Int8Matrix(weight if channel_scales is None else weight * channel_scales)
        self._bias = torch.zeros(len(weight)) if bias is None else bias.float()

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) > ROWS_AT_ONCE:
            product = torch.cat([self._product(part) for part in torch.split(rows, ROWS_AT_ONCE)])
        else:
            product = self._product(rows)
        return product.view(*x.shape[:-1], -1)

    def _product(self, rows: Tensor) -> Tensor:
        rows = rows.float() if self._factors is None else rows * self._factors
        largest = rows.abs().amax(dim=1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
        return torch.addcmul(self._bias, self._matrix(rows * largest.reciprocal()), largest)


NUM_EXACT = 64


class Int8Output:
    """A language model's last layer: 8 bits find the likeliest tokens, and float32 says how likely these are.

    In 8 bits alone the best two are mistaken for each other about as often as by all other layers together (Whisper
    base on LibriSpeech: KL divergence from float32 of 0.0033 a token, without this layer's 0.0016).
    """

    def __init__(self, module: nn.Linear) -> None:
        self._roughly = Int8Linear(module.weight, module.bias)
        self._weight = module.weight.detach().float()
        self._bias = module.bias

    def __call__(self, hidden: Tensor) -> Tensor:
        """(rows, width) to (rows, tokens)."""
        scores = self._roughly(hidden)
        best = scores.topk(min(NUM_EXACT, scores.shape[-1]), sorted=False).indices
        # not by a product of matrices, which sums up in another order for another number of rows
        exact = (self._weight[best] * hidden.float()[..., None, :]).sum(dim=-1)
        return scores.scatter_(-1, best, exact if self._bias is None else exact + self._bias[best])


def output(module: nn.Linear, precision: Precision) -> Linear:
    """From a model's last hidden states to logits."""
    return Int8Output(module) if precision.has_int8_weights else linear([module], precision)


class Int8Module(nn.Module):
    """A layer of this module in the place of one of torch's, whose type of numbers it keeps."""

    def __init__(self, layer: Linear) -> None:
        super().__init__()
        self._layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self._layer(x).to(x.dtype)
