"""Events between the wire and the session: a client's text to what it asks for, what a session tells to JSON."""

from typing import Any
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from deployments.ingress.catalogue import ServedModel
from deployments.ingress.http.errors import envelope
from deployments.ingress.http.json_body import loads, to_mistake
from deployments.ingress.realtime.schema import CLIENT_EVENTS, ClientEvent
from deployments.ingress.transcription.render import duration_usage, languages_of, logprobs_of, token_usage
from deployments.ingress.transcription.schema import as_json
from pipelines.errors import AudioServerError, InvalidRequest
from pipelines.realtime_types import (
    BufferCleared,
    SpeechStarted,
    SpeechStopped,
    TimeoutTriggered,
    TurnCommitted,
    TurnFailed,
    TurnTold,
)
from pipelines.transcript_types import SpeakerSegment, Transcript
from pipelines.transcription_events import SegmentFinished, TextDelta, TranscriptFinished

MAX_EVENT_BYTES = 16 * 1_048_576
"""Serve's proxy closes the socket of a larger one. OpenAI takes 15 MiB of audio."""

MAX_QUOTED = 100

TRANSCRIPTION = "conversation.item.input_audio_transcription"
NOT_FOR_TRANSCRIPTION = ("response.", "conversation.item.", "output_audio_buffer.", "transcription_session.")

Told = SpeechStarted | SpeechStopped | TimeoutTriggered | TurnCommitted | BufferCleared

_client_event: TypeAdapter[ClientEvent] = TypeAdapter(ClientEvent)


class WrongEvent(Exception):
    """What is wrong with a client's event, and what the client calls it."""

    def __init__(self, error: AudioServerError, event_id: str | None) -> None:
        super().__init__(error, event_id)
        self.error, self.event_id = error, event_id


def new_id(kind: str) -> str:
    return f"{kind}_{uuid4().hex}"


def parse_event(text: str) -> ClientEvent:
    """
    Raises:
        WrongEvent
    """
    if len(text) > MAX_EVENT_BYTES:
        raise WrongEvent(InvalidRequest(f"An event may have at most {MAX_EVENT_BYTES} bytes."), None)
    try:
        data = loads(text)
    except (ValueError, RecursionError):
        raise WrongEvent(InvalidRequest("The event is not valid JSON.", None, "invalid_json"), None) from None
    event_id = data.get("event_id") if isinstance(data, dict) else None
    event_id = event_id if isinstance(event_id, str) else None
    try:
        return _parsed(data)
    except InvalidRequest as error:
        raise WrongEvent(error, event_id) from None


def _parsed(data: Any) -> ClientEvent:
    if not isinstance(data, dict):
        raise InvalidRequest("An event must be a JSON object.", None, "invalid_json")
    kind = data.get("type")
    if isinstance(kind, str) and kind.startswith(NOT_FOR_TRANSCRIPTION):
        raise InvalidRequest(f"'{kind[:MAX_QUOTED]}' is not available in a transcription session.", "type")
    if isinstance(kind, str) and kind not in CLIENT_EVENTS:
        known = ", ".join(f"'{name}'" for name in CLIENT_EVENTS)
        raise InvalidRequest(f"Invalid value for 'type': '{kind[:MAX_QUOTED]}'. Supported are {known}.", "type")
    try:
        return _client_event.validate_python(data)
    except ValidationError as error:
        raise to_mistake(error, (), frozenset(CLIENT_EVENTS)) from None


def error_event(error: AudioServerError, event_id: str | None = None) -> dict[str, Any]:
    return {"type": "error", "error": {**envelope(error)["error"], "event_id": event_id}}


def too_little(buffered_s: float) -> InvalidRequest:
    """To be committed."""
    message = f"The buffer holds {_ms(buffered_s)} ms of audio; at least 100 ms can be committed."
    return InvalidRequest(message, None, "input_audio_buffer_commit_empty")


def session_event(kind: str, session: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "session": session}


def on_wire(told: Told) -> list[dict[str, Any]]:
    match told:
        case SpeechStarted(item_id, start_s):
            return [_buffer("speech_started", item_id=item_id, audio_start_ms=_ms(start_s))]
        case SpeechStopped(item_id, end_s):
            return [_buffer("speech_stopped", item_id=item_id, audio_end_ms=_ms(end_s))]
        case TimeoutTriggered(item_id, start_s, end_s):
            times = {"audio_start_ms": _ms(start_s), "audio_end_ms": _ms(end_s)}
            return [_buffer("timeout_triggered", item_id=item_id, **times)]
        case TurnCommitted(item_id, previous_item_id):
            return _committed(item_id, previous_item_id)
        case BufferCleared():
            return [_buffer("cleared")]


def _buffer(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"input_audio_buffer.{kind}", **fields}


def _committed(item_id: str, previous_item_id: str | None) -> list[dict[str, Any]]:
    content = [{"type": "input_audio", "transcript": None}]
    item = {"id": item_id, "object": "realtime.item", "type": "message", "role": "user", "status": "completed"}
    placed = {"previous_item_id": previous_item_id, "item": {**item, "content": content}}
    return [
        _buffer("committed", item_id=item_id, previous_item_id=previous_item_id),
        {"type": "conversation.item.added", **placed},
        {"type": "conversation.item.done", **placed},
    ]


def transcription_event(told: TurnTold, model: ServedModel, with_logprobs: bool) -> dict[str, Any]:
    part = {"item_id": told.item_id, "content_index": 0}
    match told.event:
        case TextDelta() as delta:
            logprobs = {"logprobs": [as_json(one) for one in logprobs_of(delta.tokens)]} if with_logprobs else {}
            return {"type": f"{TRANSCRIPTION}.delta", **part, "delta": delta.text, **logprobs}
        case SegmentFinished(segment):
            return {"type": f"{TRANSCRIPTION}.segment", **part, **_segment(segment)}
        case TranscriptFinished(transcript):
            fields = _completed(transcript, model, with_logprobs)
            return {"type": f"{TRANSCRIPTION}.completed", **part, **fields}
        case TurnFailed(error):
            return {"type": f"{TRANSCRIPTION}.failed", **part, **envelope(error)}


def _segment(segment: SpeakerSegment) -> dict[str, Any]:
    """Times from the beginning of the item's audio."""
    times = {"start": round(segment.start_s, 3), "end": round(segment.end_s, 3)}
    return {"id": segment.id, **times, "text": segment.text, "speaker": segment.speaker}


def _completed(transcript: Transcript, model: ServedModel, with_logprobs: bool) -> dict[str, Any]:
    usage = duration_usage(transcript) if model.family == "whisper" else token_usage(transcript)
    fields: dict[str, Any] = {"transcript": transcript.text, "usage": as_json(usage)}
    if with_logprobs:
        fields["logprobs"] = [as_json(one) for one in logprobs_of(transcript.tokens)]
    languages = languages_of(transcript, model)
    if languages is not None:
        fields["languages"] = [as_json(one) for one in languages] if transcript.text else []
    return fields


def _ms(time_s: float) -> int:
    return round(time_s * 1_000)
