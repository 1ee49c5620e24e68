"""What was heard in chunks that came before: the same file again, a request that is sent once more, a batch job's next
run. As exact as a second decoding, for it is the first one's answer to the same question."""

import asyncio
import pickle
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import blake2b

from pipelines.audio_types import AudioChunk
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, Lookup, Work

Transcribed = tuple[ChunkTranscript, Work]


class TextCache:
    """By the hash of a chunk's samples, its place in the upload, and all that is asked of it; the longest unused leave
    when there are more than `max_bytes`. Of those that are equal and come together one is decoded and the others wait
    for it, once. Belongs to one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._texts: OrderedDict[bytes, bytes] = OrderedDict()
        """Pickled: the size is known, and what somebody gets is nobody else's."""
        self._decoding: dict[bytes, asyncio.Event] = {}

    async def transcribed(
        self, chunk: AudioChunk, options: DecodingOptions, transcribe: Callable[[], Awaitable[Transcribed]]
    ) -> Transcribed:
        """What `transcribe` answers, now or earlier; raises as it does."""
        if not self._max_bytes or not _is_repeatable(options):
            return await transcribe()
        key = _key(chunk, options)
        decoding = self._decoding.get(key)
        if decoding:
            await decoding.wait()
        if key in self._texts:
            self._texts.move_to_end(key)
            return pickle.loads(self._texts[key]), Work(0.0, 0.0, 0.0, lookups=(Lookup("text", is_hit=True),))
        # who waited for somebody that failed, or left, does not wait again: a failing model would keep the last longest
        transcript, work = await (transcribe() if decoding else self._decode(key, transcribe))
        return transcript, replace(work, lookups=(Lookup("text", is_hit=False), *work.lookups))

    async def _decode(self, key: bytes, transcribe: Callable[[], Awaitable[Transcribed]]) -> Transcribed:
        self._decoding[key] = asyncio.Event()
        try:
            transcript, work = await transcribe()
            self._keep(key, pickle.dumps(transcript))
            return transcript, work
        finally:
            self._decoding.pop(key).set()

    def _keep(self, key: bytes, text: bytes) -> None:
        self._texts[key] = text
        self._num_bytes += len(text)
        while self._num_bytes > self._max_bytes:
            _, oldest = self._texts.popitem(last=False)
            self._num_bytes -= len(oldest)


def _is_repeatable(options: DecodingOptions) -> bool:
    """A draft is never asked for again, and who draws without a seed wants something else each time."""
    return not options.is_draft and (options.temperature == 0 or options.seed is not None)


def _key(chunk: AudioChunk, options: DecodingOptions) -> bytes:
    digest = blake2b(chunk.waveform.samples.tobytes(), digest_size=16)
    asked = chunk.index, chunk.offset_s, chunk.speech, replace(options, head_start_s=0.0)
    digest.update(repr(asked).encode())
    return digest.digest()
