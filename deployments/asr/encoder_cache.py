"""What the encoder made of windows that were heard before: the same file again, a request that is sent once more."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b

from torch import Tensor

from pipelines.audio_types import Samples
from pipelines.transcript_types import Lookup

Encode = Callable[[Sequence[Samples], int | None], Sequence[Tensor]]


class EncoderCache:
    """By the hash of a window's samples, and how much of it is encoded; beyond `max_bytes` the longest unused leave.

    It belongs to the engine's one thread: windows that are equal and wait together are encoded once, too.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._encoded: OrderedDict[bytes, Tensor] = OrderedDict()

    def encoded(
        self, windows: Sequence[Samples], num_samples: int | None, encode: Encode
    ) -> list[tuple[Tensor, tuple[Lookup, ...]]]:
        """What `encode` gives for each of them, now or earlier; and which it was, where anything is kept."""
        if not self._max_bytes:
            return [(one, ()) for one in encode(windows, num_samples)]
        salt = str(num_samples).encode()
        keys = [blake2b(samples.tobytes(), digest_size=16, salt=salt).digest() for samples in windows]
        unknown = {key: samples for key, samples in zip(keys, windows, strict=True) if key not in self._encoded}
        made = dict(zip(unknown, encode(list(unknown.values()), num_samples), strict=True)) if unknown else {}
        found = [(made[key] if key in made else self._encoded[key]) for key in keys]
        for key, encoded in zip(keys, found, strict=True):
            self._keep(key, encoded)
        return [
            (encoded, (Lookup("encoder", is_hit=key not in made),)) for key, encoded in zip(keys, found, strict=True)
        ]

    def _keep(self, key: bytes, encoded: Tensor) -> None:
        if key not in self._encoded:
            self._num_bytes += encoded.nbytes
        self._encoded[key] = encoded
        self._encoded.move_to_end(key)
        while self._num_bytes > self._max_bytes:
            _, oldest = self._encoded.popitem(last=False)
            self._num_bytes -= oldest.nbytes
