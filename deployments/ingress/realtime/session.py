"""One client's session: its configuration, its machine, and the turns that are being transcribed.

All of it lives on one event loop. It knows no socket: what it tells lies in `outgoing`.
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from deployments.ingress.catalogue import ServedModel
from deployments.ingress.http.errors import UNEXPECTED
from deployments.ingress.http.keys import ApiKey
from deployments.ingress.realtime.events import (
    WrongEvent,
    error_event,
    new_id,
    on_wire,
    parse_event,
    session_event,
    too_little,
    transcription_event,
)
from deployments.ingress.realtime.options import to_turn_detection
from deployments.ingress.realtime.rules import check_language, check_session
from deployments.ingress.realtime.schema import AudioAppend, AudioCommit, ClientEvent, SessionConfig, SessionUpdate
from deployments.ingress.realtime.turns import TurnFactory, max_turn_s
from deployments.ingress.services import Services
from pipelines.audio_types import SAMPLE_RATE_HZ
from pipelines.errors import AudioServerError, InvalidRequest, Overloaded
from pipelines.realtime import RealtimeSession
from pipelines.realtime_types import (
    AudioAppended,
    ClearRequested,
    CommitRefused,
    CommitRequested,
    DetectionChanged,
    SessionInput,
    SessionOutput,
    TurnClosed,
    TurnCommitted,
    TurnDropped,
    TurnFailed,
    TurnGrew,
    TurnOpened,
    TurnTold,
)
from pipelines.transcription_events import TextDelta, TranscriptFinished
from pipelines.turn_transcription import TurnTranscriber

logger = logging.getLogger("ray.serve")

MAX_PENDING_S = 600.0
"""Audio that may be ahead of what is transcribed: it is kept in memory."""

MIN_PENDING_S = 1.0
"""As what a turn counts at least, however short it is: it is work of its own."""

MAX_UNCHECKED_S = 60.0
"""Audio of one turn that is heard although its key's minutes are used up."""

EXPECTED_SHARE = 0.25
"""Of the length of turns, that their transcription may take."""

LARGE_BYTES, PIECE_BYTES = 65_536, 1_048_576
"""More is judged beside the event loop, for which others wait, and in pieces."""


@dataclass(slots=True)
class Turn:
    """opened_at, committed_at: on the event loop's clock. task: none once all is known."""

    transcriber: TurnTranscriber
    opened_at: float
    committed_at: float | None = None
    task: "asyncio.Task[None] | None" = None
    num_samples: int = 0
    is_silent: bool = True


class Session:
    def __init__(self, services: Services, config: SessionConfig, expires_at: int, key: ApiKey | None = None) -> None:
        """`key`: whose minutes of audio it uses.

        Raises:
            InvalidRequest: it shall do what its model cannot.
        """
        self.id = new_id("sess")
        self.outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._services = services
        self._config = config
        self._unchecked_s = 0.0
        self._expires_at = expires_at
        self._key = key
        self._model = check_session(config, services.catalogue)
        self._machine = RealtimeSession(
            to_turn_detection(config), partial(new_id, "item"), self._tells_early(), max_turn_s(self._model)
        )
        self._ear = services.new_ear(config.audio.input.format.type)
        self._factory = TurnFactory(services)
        self._turns: dict[str, Turn] = {}
        self._asked: dict[str, tuple[ServedModel, bool]] = {}
        """Of turns of which not all was told: their model, and whether logprobs are told."""
        self._emit(session_event("session.created", self.on_wire()))

    def on_wire(self) -> dict[str, Any]:
        named = {"id": self.id, "object": "realtime.transcription_session", "expires_at": self._expires_at}
        return {**named, **self._config.on_wire()}

    @property
    def overdue_s(self) -> float:
        """By how much what was committed is late. A turn may take longer that is long, or behind others of its session:
        in an hour of speech that comes at once nobody waits for every word."""
        now = asyncio.get_running_loop().time()
        worst_s = expected_s = 0.0
        for turn in self._turns.values():
            if turn.committed_at is not None:
                expected_s += turn.num_samples / SAMPLE_RATE_HZ * EXPECTED_SHARE
                worst_s = max(worst_s, now - turn.committed_at - expected_s)
        return worst_s

    @property
    def _pending_s(self) -> float:
        return sum(max(turn.transcriber.pending_s, MIN_PENDING_S) for turn in self._turns.values())

    async def handle(self, text: str) -> None:
        """Do what a client's event asks for; a wrong one is answered with an error, and changes nothing."""
        event_id = None
        try:
            event = parse_event(text)
            event_id = event.event_id
            await self._do(event)
        except WrongEvent as wrong:
            self._emit(error_event(wrong.error, wrong.event_id))
        except AudioServerError as error:
            self._emit(error_event(error, event_id))

    async def finish(self) -> None:
        """Wait until all is known of what was committed."""
        while tasks := [turn.task for turn in self._turns.values() if turn.committed_at is not None and turn.task]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Nothing of it runs any more when this returns."""
        tasks = [turn.task for turn in self._turns.values() if turn.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def fail(self, error: AudioServerError) -> None:
        self._emit(error_event(error))

    # What the client asks for

    async def _do(self, event: ClientEvent) -> None:
        if isinstance(event, AudioAppend):
            await self._append(event.audio)
        elif isinstance(event, SessionUpdate):
            await self._update(event.session)
        else:
            self._receive(self._ear.finish())
            self._receive(CommitRequested() if isinstance(event, AudioCommit) else ClearRequested())

    async def _append(self, audio: str) -> None:
        if self._pending_s > MAX_PENDING_S:
            raise Overloaded(
                f"More than {MAX_PENDING_S:.0f} s of audio wait to be transcribed. This audio was not taken: "
                "send it again later, or at the pace of speech."
            )
        is_between_turns = all(turn.committed_at is not None for turn in self._turns.values())
        if is_between_turns or self._unchecked_s > MAX_UNCHECKED_S:  # who speaks may end the turn, if it has an end
            self._services.quotas.check_audio(self._key)
            self._unchecked_s = 0.0
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest("The audio is not valid base64.", "audio") from None
        if len(data) <= LARGE_BYTES:
            self._receive(self._ear.hear(data))
            return
        for first in range(0, len(data), PIECE_BYTES):
            self._receive(await asyncio.to_thread(self._ear.hear, data[first : first + PIECE_BYTES]))

    async def _update(self, given: dict[str, Any]) -> None:
        config = self._config.updated(given)
        model = check_session(config, self._services.catalogue)
        asked, known = config.audio.input.transcription, self._config.audio.input.transcription
        if (asked.model, asked.language) != (known.model, known.language):
            await check_language(config, model, self._services.recognizers[model.root])
        before, self._config, self._model = self._config, config, model
        if config.audio.input.format != before.audio.input.format:
            self._receive(self._ear.change(config.audio.input.format.type))
        if config.audio.input.turn_detection != before.audio.input.turn_detection:
            self._receive(DetectionChanged(to_turn_detection(config)))
        self._machine.tells_early, self._machine.max_turn_s = self._tells_early(), max_turn_s(model)
        self._emit(session_event("session.updated", self.on_wire()))

    def _tells_early(self) -> bool:
        return self._config.audio.input.transcription.delay is not None

    # What the machine tells

    def _receive(self, event: SessionInput) -> None:
        if isinstance(event, AudioAppended):
            audio_s = len(event.samples) / SAMPLE_RATE_HZ
            self._unchecked_s += audio_s
            self._services.quotas.charge_audio(self._key, audio_s)
        self._act(self._machine.receive(event))

    def _act(self, outputs: Iterable[SessionOutput]) -> None:
        for output in outputs:
            match output:
                case TurnOpened(item_id):
                    self._begin(item_id)
                case TurnGrew(item_id, samples, probabilities):
                    if turn := self._turns.get(item_id):
                        turn.num_samples += len(samples)
                        turn.transcriber.grow(samples, probabilities)
                case TurnClosed(item_id):
                    if turn := self._turns.get(item_id):
                        turn.transcriber.close()
                case TurnDropped(item_id):
                    del self._asked[item_id]
                    if (turn := self._turns.pop(item_id, None)) and turn.task:
                        turn.task.cancel()
                case CommitRefused(buffered_s):
                    raise too_little(buffered_s)
                case TurnTold():
                    self._pass_on(output)
                case _:
                    self._tell(output)

    def _tell(self, output: Any) -> None:
        if isinstance(output, TurnCommitted) and (turn := self._turns.get(output.item_id)):
            turn.committed_at = asyncio.get_running_loop().time()
        for event in on_wire(output):
            self._emit(event)

    def _pass_on(self, told: TurnTold) -> None:
        """In the way that was asked for when the turn began: its text is of that model."""
        model, with_logprobs = self._asked[told.item_id]
        if told.is_last:
            del self._asked[told.item_id]
        self._emit(transcription_event(told, model, with_logprobs))

    def _emit(self, event: dict[str, Any]) -> None:
        self.outgoing.put_nowait({"event_id": new_id("event"), **event})

    # What becomes known of turns

    def _begin(self, item_id: str) -> None:
        turn = Turn(self._factory.new_turn(self._config, self._model), asyncio.get_running_loop().time())
        self._turns[item_id] = turn
        self._asked[item_id] = self._model, bool(self._config.include)
        turn.task = asyncio.create_task(self._transcribe(item_id, turn))

    async def _transcribe(self, item_id: str, turn: Turn) -> None:
        root = self._asked[item_id][0].root
        with self._services.metrics.running.labels(root).track_inprogress():
            try:
                async with aclosing(turn.transcriber.events()) as events:
                    async for event in events:
                        self._observe(turn, event, root)
                        self._receive(TurnTold(item_id, event))
            except AudioServerError as error:
                self._receive(TurnTold(item_id, TurnFailed(error)))
            except Exception:
                # The last border of a turn: its session goes on.
                logger.exception("Unexpected error in a turn")
                self._receive(TurnTold(item_id, TurnFailed(UNEXPECTED)))
            finally:
                self._turns.pop(item_id, None)

    def _observe(self, turn: Turn, event: Any, root: str) -> None:
        metrics, now = self._services.metrics, asyncio.get_running_loop().time()
        if isinstance(event, TextDelta) and turn.is_silent:
            turn.is_silent = False
            metrics.turn_first_delta_seconds.labels(root).observe(now - turn.opened_at)
        if isinstance(event, TranscriptFinished):
            self._factory.heard(event.transcript)
            metrics.audio_seconds.labels(root, "realtime").inc(event.transcript.info.duration_s)
            if turn.committed_at is not None:
                metrics.turn_completed_seconds.labels(root).observe(now - turn.committed_at)
