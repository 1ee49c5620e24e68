"""A realtime session of a plain client: JSON over a WebSocket, no SDK between."""

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import soxr
from websockets.sync.client import ClientConnection, connect

from tests.conformance.audio import SAMPLE_RATE_HZ, Samples, silence
from tests.conftest import Server

TIMEOUT_S = 60.0
RATE_HZ = 24_000
PIECE_BYTES = 9_600
"""200 ms."""

Event = dict[str, Any]
TRANSCRIPTION = "conversation.item.input_audio_transcription"


def pcm(samples: Samples, rate_hz: int = RATE_HZ) -> bytes:
    resampled = soxr.resample(samples, SAMPLE_RATE_HZ, rate_hz)
    return (np.clip(resampled, -1, 1) * 32_767).astype("<i2").tobytes()


def with_pauses(*parts: Samples, pause_s: float = 1.0) -> Samples:
    pause = silence(pause_s)
    return np.concatenate([pause, *(piece for part in parts for piece in (part, pause))])


class Session:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.seen: list[Event] = []

    def send(self, kind: str, **fields: Any) -> None:
        self._socket.send(json.dumps({"type": kind, **fields}))

    def send_raw(self, frame: str | bytes) -> None:
        self._socket.send(frame)

    def configure(self, **heard: Any) -> Event:
        self.send("session.update", session={"type": "transcription", "audio": {"input": heard}})
        return self.until("session.updated", "error")

    def append(self, data: bytes, piece: int = PIECE_BYTES) -> None:
        for first in range(0, len(data), piece):
            audio = base64.b64encode(data[first : first + piece]).decode()
            self.send("input_audio_buffer.append", audio=audio)

    def commit(self) -> None:
        self.send("input_audio_buffer.commit")

    def next(self, timeout_s: float = TIMEOUT_S) -> Event:
        event: Event = json.loads(self._socket.recv(timeout_s))
        assert event["event_id"]
        self.seen.append(event)
        return event

    def until(self, *kinds: str) -> Event:
        while (event := self.next())["type"] not in kinds:
            pass
        return event

    def completed(self, count: int = 1) -> list[Event]:
        """Wait until so many turns are known, failed ones as well."""
        ends = {f"{TRANSCRIPTION}.completed", f"{TRANSCRIPTION}.failed"}
        while len(done := [event for event in self.seen if event["type"] in ends]) < count:
            self.next()
        return done

    def of_type(self, kind: str) -> list[Event]:
        return [event for event in self.seen if event["type"] == kind]

    def deltas(self, item_id: str) -> str:
        return "".join(e["delta"] for e in self.of_type(f"{TRANSCRIPTION}.delta") if e["item_id"] == item_id)

    def answers(self) -> Event:
        """That the session is open still."""
        self.send("input_audio_buffer.clear")
        return self.until("input_audio_buffer.cleared")


@contextmanager
def connected(
    server: Server, query: str = "", protocols: Sequence[str] | None = None, **headers: str
) -> Iterator[Session]:
    url = f"{server.url.replace('http', 'ws')}/v1/realtime{query}"
    with connect(
        url, subprotocols=protocols, additional_headers=headers, max_size=None, open_timeout=TIMEOUT_S
    ) as socket:
        yield Session(socket)


@contextmanager
def opened(server: Server, **heard: Any) -> Iterator[Session]:
    """A session that is configured."""
    with connected(server) as session:
        assert session.next()["type"] == "session.created"
        if heard:
            updated = session.configure(**heard)
            assert updated["type"] == "session.updated", updated
        yield session
