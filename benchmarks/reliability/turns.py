"""A client of realtime sessions that commits its turns itself."""

import base64
import json
from pathlib import Path
from typing import Any

import soundfile
import soxr
from websockets.asyncio.client import connect

RATE_HZ = 24_000
TIMEOUT_S = 60.0
TRANSCRIPTION = "conversation.item.input_audio_transcription"


class TurnClient:
    """One session; use it as a context.

    Raises:
        InvalidHandshake, OSError: it is not let in.
        ConnectionClosed: by any method, once the server has closed it.
    """

    def __init__(self, url: str, model: str) -> None:
        self.untold: set[str] = set()
        """Turns that the server has said to have, and told nothing of yet."""
        address = f"{url.replace('http', 'ws', 1)}/v1/realtime?model={model}"
        self._connection = connect(address, max_size=None, open_timeout=TIMEOUT_S, ping_interval=None)

    async def __aenter__(self) -> "TurnClient":
        self._socket = await self._connection.__aenter__()
        audio = {"input": {"turn_detection": None}}
        await self._send("session.update", session={"type": "transcription", "audio": audio})
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._connection.__aexit__(*error)

    async def say(self, pcm: bytes) -> str | None:
        """What was heard in a turn of 16-bit samples; None where that failed."""
        await self._send("input_audio_buffer.append", audio=base64.b64encode(pcm).decode())
        await self._send("input_audio_buffer.commit")
        while True:
            event = json.loads(await self._socket.recv())
            match event["type"]:
                case "input_audio_buffer.committed":
                    self.untold.add(event["item_id"])
                case "error":
                    return None
                case kind if kind in (f"{TRANSCRIPTION}.completed", f"{TRANSCRIPTION}.failed"):
                    self.untold.discard(event["item_id"])
                    transcript: str | None = event.get("transcript")
                    return transcript

    async def _send(self, kind: str, **content: Any) -> None:
        await self._socket.send(json.dumps({"type": kind, **content}))


def spoken(path: Path) -> bytes:
    """A file as 16-bit samples at the rate of the realtime API."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return bytes((soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ) * 32_767).astype("<i2").tobytes())
