"""CTranslate2's `model.bin`: named arrays in one file.

Little endian: u32 version; name of the model's kind; u32 revision; u32 number of variables; of each its name, u8 rank,
u32 for each dimension, u8 type, u32 bytes, data; then aliases as pairs of names. A name is u16 length, text and a
zero, which is counted. The layout is that of CTranslate2 4 (`ctranslate2/specs/model_spec.py`).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

VERSION = 6
DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
"""By the number that stands for them."""


class NotCTranslate2(Exception):
    """The file is cut off, or another version, or something else altogether."""


@dataclass(frozen=True, slots=True)
class CTranslate2File:
    """kind: such as "WhisperSpec". variables: by name, views of the mapped file."""

    kind: str
    variables: dict[str, Tensor]

    def stored(self, name: str) -> Tensor:
        """
        Raises:
            NotCTranslate2: there is no such variable.
        """
        if name not in self.variables:
            raise NotCTranslate2(f"it has no {name}")
        return self.variables[name]

    def weight(self, name: str) -> Tensor:
        """A float tensor; what is stored as int8 or int16 times `<name>_scale` is divided by it again.

        A scale stands for a row of the output, or for all of them.

        Raises:
            NotCTranslate2: there is no such variable.
        """
        stored = self.stored(name)
        scale = self.variables.get(f"{name}_scale")
        if scale is None:
            return stored
        rows = scale.float().reshape(-1, *[1] * (stored.dim() - 1)) if scale.dim() else scale.float()
        return stored.float() / rows


def read_ctranslate2(path: Path) -> CTranslate2File:
    """
    Raises:
        NotCTranslate2
        OSError
    """
    if not path.stat().st_size:  # which cannot be mapped
        raise NotCTranslate2("it is empty")
    reader = _Reader(np.memmap(path, np.uint8, "c"))  # copy on write: torch takes no memory that is read-only
    try:
        version = reader.number("I")
        if version != VERSION:
            raise NotCTranslate2(f"its version is {version}, not {VERSION}")
        kind, _revision, num_variables = reader.name(), reader.number("I"), reader.number("I")
        variables = dict(reader.variable() for _ in range(num_variables))
        for alias, name in reader.aliases():
            variables[alias] = variables[name]
    except (struct.error, IndexError, KeyError, ValueError, RuntimeError, UnicodeDecodeError):
        raise NotCTranslate2("it is cut off or damaged") from None
    return CTranslate2File(kind, variables)


class _Reader:
    def __init__(self, data: np.memmap) -> None:  # type: ignore[type-arg]
        self._data = data
        self._place = 0

    def number(self, form: str) -> int:
        size = struct.calcsize("<" + form)
        (value,) = struct.unpack("<" + form, bytes(self._take(size)))
        return int(value)

    def name(self) -> str:
        return bytes(self._take(self.number("H"))).rstrip(b"\0").decode()

    def variable(self) -> tuple[str, Tensor]:
        name = self.name()
        shape = [self.number("I") for _ in range(self.number("B"))]
        dtype, num_bytes = DTYPES[self.number("B")], self.number("I")
        return name, torch.frombuffer(self._take(num_bytes), dtype=dtype).reshape(shape)

    def aliases(self) -> Iterator[tuple[str, str]]:
        if self._place < len(self._data):
            for _ in range(self.number("I")):
                yield self.name(), self.name()

    def _take(self, num_bytes: int) -> np.ndarray:  # type: ignore[type-arg]
        end = self._place + num_bytes
        if end > len(self._data):
            raise NotCTranslate2("it is cut off")
        taken = self._data[self._place : end]
        self._place = end
        return taken
