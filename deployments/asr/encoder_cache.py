"""What the encoder made of windows that were heard before: the same file again, a request that is sent once more."""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

from torch import Tensor

from pipelines.audio_types import Samples
from pipelines.transcript_types import Lookup


class EncoderCache:
    """By the hash of a window's samples; the longest unused leave when there are more than `max_bytes`.

    It belongs to the engine's one thread: windows that are equal and wait together are encoded once, too.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._encoded: OrderedDict[bytes, Tensor] = OrderedDict()

    def encoded(self, samples: Samples, encode: Callable[[Samples], Tensor]) -> tuple[Tensor, tuple[Lookup, ...]]:
        """What `encode` gives for them, now or earlier; and which it was, where anything is kept."""
        if not self._max_bytes:
            return encode(samples), ()
        key = blake2b(samples.tobytes(), digest_size=16).digest()
        if key in self._encoded:
            self._encoded.move_to_end(key)
            return self._encoded[key], (Lookup("encoder", is_hit=True),)
        made = encode(samples)
        self._encoded[key] = made
        self._num_bytes += made.nbytes
        while self._num_bytes > self._max_bytes:
            _, oldest = self._encoded.popitem(last=False)
            self._num_bytes -= oldest.nbytes
        return made, (Lookup("encoder", is_hit=False),)
