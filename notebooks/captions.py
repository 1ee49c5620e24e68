"""Captions of a file or a microphone, as it speaks, by OpenAI's own SDK.

python notebooks/captions.py tests/data/jfk.flac
pip install sounddevice && python notebooks/captions.py
"""

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator

import numpy as np
import soundfile
import soxr
from openai import AsyncOpenAI

RATE_HZ, PIECE = 24_000, 2_400  # 100 ms
TRANSCRIPTION = {"model": "whisper-1", "delay": "low"}
SESSION = {"type": "transcription", "audio": {"input": {"transcription": TRANSCRIPTION}}}


async def of_file(path: str) -> AsyncIterator[bytes]:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ)
    pcm = (np.append(mono, np.zeros(RATE_HZ)) * 32_767).astype("<i2").tobytes()
    for first in range(0, len(pcm), 2 * PIECE):
        yield pcm[first : first + 2 * PIECE]
        await asyncio.sleep(PIECE / RATE_HZ)


async def of_microphone() -> AsyncIterator[bytes]:
    import sounddevice

    with sounddevice.RawInputStream(RATE_HZ, PIECE, channels=1, dtype="int16") as stream:
        while True:
            yield bytes((await asyncio.to_thread(stream.read, PIECE))[0])


async def main() -> None:
    url = os.environ.get("AURICLE_URL", "http://127.0.0.1:8000")
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="unused")
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await connection.session.update(session=SESSION)

        async def speak() -> None:
            async for piece in of_file(sys.argv[1]) if len(sys.argv) > 1 else of_microphone():
                await connection.input_audio_buffer.append(audio=base64.b64encode(piece).decode())
            await asyncio.sleep(1)
            while turns:  # that are still written
                await asyncio.sleep(0.1)
            await connection.close()

        turns = set[str]()
        speaking = asyncio.create_task(speak())
        async for event in connection:
            if event.type == "input_audio_buffer.committed":
                turns.add(event.item_id)
            elif event.type == "conversation.item.input_audio_transcription.delta":
                print(event.delta, end="", flush=True)
            elif event.type == "conversation.item.input_audio_transcription.completed":
                turns.discard(event.item_id)
                print()
            elif event.type == "conversation.item.input_audio_transcription.failed":
                turns.discard(event.item_id)
        await speaking


asyncio.run(main())
