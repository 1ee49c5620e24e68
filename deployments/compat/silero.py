"""What the package `silero-vad` does not promise to keep: where its weights are, and what they are called.

`tests/deployments/compat/test_silero.py` tells when one of them changes; then the graph does not start, for no audio
can be searched for speech. The package itself is not imported: that would import torch, for 300 000 weights.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "silero_vad_16k_op15.onnx"
"""The 16 kHz half of what `load_silero_vad` loads. `silero_vad_16k.safetensors` holds another network."""

# Of ONNX's protocol buffers (onnx.proto): numbers of fields, and the one type of numbers that is read.
GRAPH, INITIALIZER = 7, 5
DIMENSION, DATA_TYPE, NAME, RAW_DATA = 1, 2, 8, 9
FLOAT = 1

VARINT, BYTES = 0, 2
FIXED_SIZES = {1: 8, 5: 4}


def folder() -> Path:
    """Where the package keeps its exports."""
    package = find_spec("silero_vad")
    assert package is not None, "silero-vad is a dependency"
    assert package.origin is not None
    return Path(package.origin).parent / "data"


def weights() -> dict[str, NDArray[np.float32]]:
    """By their names in silero's own module, in PyTorch's layouts: convolutions (out, in, kernel), the LSTM's
    (input, forget, cell and output gates; in)."""
    model = memoryview((folder() / FILE).read_bytes())
    (graph,) = _values(model, GRAPH)
    return dict(_tensor(initializer) for initializer in _values(graph, INITIALIZER))


def _tensor(message: memoryview) -> tuple[str, NDArray[np.float32]]:
    (name,), (data,) = _values(message, NAME), _values(message, RAW_DATA)
    assert _values(message, DATA_TYPE) == [FLOAT]
    return bytes(name).decode().removeprefix("model."), np.frombuffer(data, "<f4").reshape(_values(message, DIMENSION))


def _values(message: memoryview, wanted: int) -> list[Any]:
    return [value for number, value in _fields(message) if number == wanted]


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The number of each field of a message, and what it holds."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        if key & 7 == VARINT:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        size, position = _varint(message, position) if key & 7 == BYTES else (FIXED_SIZES[key & 7], position)
        yield key >> 3, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and the position behind it."""
    value = shift = 0
    while True:
        value |= (message[position] & 127) << shift
        shift += 7
        position += 1
        if message[position - 1] < 128:
            return value, position
