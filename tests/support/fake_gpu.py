"""A GPU that has shapes and types but no numbers, and tells what it is asked: torch's fake tensors.

They refuse to mix devices, and results whose shapes hang on numbers, as of a boolean mask. Here they also count when a
host would have to wait for a GPU, and of what is read from them everything is `NUMBER`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

NUMBER = 1

aten: Any = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
PARTS = (aten.unbind.int, aten.item.default)
"""What lists are made of tensors by."""

SILENT = ("prim", "profiler")


class Watch(TorchDispatchMode):
    """Counts by kind: `read` (a host wants numbers), `fetch` and `send` (copies that a host waits for)."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self._is_reading = False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace in SILENT:
            return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            return self._read(args[0])
        self._is_reading &= func in PARTS
        if func is aten.is_pinned.default:
            return False
        if func in (aten.pin_memory.default, aten._pin_memory.default):
            return args[0]
        with self:  # in inference mode what is made of others comes here as a whole
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        if func in COPIES and not kwargs.get("non_blocking", args[2] if len(args) > 2 else False):
            self._copy(func, args, kwargs)
        return func(*args, **kwargs)

    def _read(self, tensor: Tensor) -> float | int | bool:
        """All numbers of a tensor that are read one after the other are one wait."""
        self.waits["read"] += tensor.is_cuda and not self._is_reading
        self._is_reading = True
        return float(NUMBER) if tensor.is_floating_point() else bool(NUMBER) if tensor.dtype is torch.bool else NUMBER

    def _copy(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        source = args[1] if func is aten.copy_.default else args[0]
        target = args[0].device if func is aten.copy_.default else torch.device(kwargs.get("device") or source.device)
        if source.device.type != target.type and source.numel():
            self.waits["fetch" if source.is_cuda else "send"] += 1


@contextmanager
def fake_gpu() -> Iterator[Watch]:
    """Whatever is made on "cuda" meanwhile."""
    with FakeTensorMode(allow_non_fake_inputs=True), Watch() as watch:
        yield watch
