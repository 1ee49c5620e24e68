"""The wire of /v1/realtime: what a client may send, and how a session is configured."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deployments.ingress.http.fields import Text
from deployments.ingress.http.json_body import to_mistake
from deployments.ingress.transcription.schema import Keyword, LanguageCode
from pipelines.audio_types import LIVE_RATES_HZ, LiveFormat
from pipelines.errors import InvalidRequest

SESSION = "session"

MAX_UPDATE_CHARACTERS = 65_536
"""Of what a session is configured with at once: all of it is told again with every change."""

Delay = Literal["minimal", "low", "medium", "high", "xhigh"]
Eagerness = Literal["low", "medium", "high", "auto"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class AudioFormat(_Part):
    """rate: samples a second; each format has one."""

    type: LiveFormat = "audio/pcm"
    rate: int | None = None

    @model_validator(mode="after")
    def _only_rate(self) -> "AudioFormat":
        if self.rate not in (None, LIVE_RATES_HZ[self.type]):
            raise ValueError(f"'{self.type}' has {LIVE_RATES_HZ[self.type]} samples a second")
        return self


class NoiseReduction(_Part):
    """Accepted, and without effect: Whisper was trained on noise, and hears worse what was filtered."""

    type: Literal["near_field", "far_field"]
    strength: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class TranscriptionConfig(_Part):
    """delay: tell text while somebody speaks, the sooner the less is waited for."""

    model: Text
    language: LanguageCode | None = None
    prompt: str | None = None
    delay: Delay | None = None
    keywords: list[Keyword] | None = None
    languages: list[LanguageCode] | None = None


class TurnDetectionConfig(_Part):
    """The first three and `idle_timeout_ms` are those of `server_vad`, `eagerness` is that of `semantic_vad`."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    prefix_padding_ms: int = Field(default=300, ge=0, le=5_000)
    silence_duration_ms: int = Field(default=500, ge=0, le=60_000)
    idle_timeout_ms: int | None = Field(default=None, ge=1_000, le=3_600_000)
    eagerness: Eagerness = "auto"

    def on_wire(self) -> dict[str, Any]:
        if self.type == "semantic_vad":
            return self.model_dump(include={"type", "eagerness"})
        return self.model_dump(exclude={"eagerness"}, exclude_none=True)


class InputConfig(_Part):
    format: AudioFormat = AudioFormat()
    noise_reduction: NoiseReduction | None = None
    transcription: TranscriptionConfig
    turn_detection: TurnDetectionConfig | None = TurnDetectionConfig()


class AudioConfig(_Part):
    input: InputConfig


class SessionConfig(_Part):
    type: Literal["transcription"] = "transcription"
    audio: AudioConfig
    include: list[Literal["item.input_audio_transcription.logprobs"]] | None = None

    @classmethod
    def of_model(cls, model_id: str) -> "SessionConfig":
        return cls(audio=AudioConfig(input=InputConfig(transcription=TranscriptionConfig(model=model_id))))

    def updated(self, given: Any) -> "SessionConfig":
        """What is given takes the place of what there was; what is not, stays.

        Raises:
            InvalidRequest: naming the field, such as `session.audio.input.format.rate`.
        """
        if len(json.dumps(given)) > MAX_UPDATE_CHARACTERS:
            raise InvalidRequest(
                f"A session is configured with at most {MAX_UPDATE_CHARACTERS} characters of JSON.", SESSION
            )
        try:
            return SessionConfig.model_validate(_merged(self.model_dump(), given))
        except ValidationError as error:
            raise to_mistake(error, (SESSION,)) from None

    def on_wire(self) -> dict[str, Any]:
        heard = self.audio.input
        wire: dict[str, Any] = {
            "format": heard.format.model_dump(exclude_none=True) | self._rate(),
            "noise_reduction": heard.noise_reduction and heard.noise_reduction.model_dump(exclude_none=True),
            "transcription": heard.transcription.model_dump(exclude_none=True),
            "turn_detection": heard.turn_detection and heard.turn_detection.on_wire(),
        }
        return {"type": self.type, "audio": {"input": wire}, "include": self.include}

    def _rate(self) -> dict[str, int]:
        """Told of PCM alone, as OpenAI does."""
        return {"rate": LIVE_RATES_HZ["audio/pcm"]} if self.audio.input.format.type == "audio/pcm" else {}


class ClientSecretExpiry(_Part):
    anchor: Literal["created_at"] = "created_at"
    seconds: int = Field(default=600, ge=10, le=7_200)


class ClientSecretRequest(_Part):
    """session: as in `session.update`."""

    expires_after: ClientSecretExpiry = ClientSecretExpiry()
    session: dict[str, Any] = Field(default={}, description="What the session begins with, as in session.update")


class _ClientEvent(_Part):
    event_id: str | None = None


class SessionUpdate(_ClientEvent):
    type: Literal["session.update"]
    session: dict[str, Any]


class AudioAppend(_ClientEvent):
    """audio: base64, in the session's format."""

    type: Literal["input_audio_buffer.append"]
    audio: str


class AudioCommit(_ClientEvent):
    type: Literal["input_audio_buffer.commit"]


class AudioClear(_ClientEvent):
    type: Literal["input_audio_buffer.clear"]


ClientEvent = Annotated[SessionUpdate | AudioAppend | AudioCommit | AudioClear, Field(discriminator="type")]
CLIENT_EVENTS = (
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
)


def _merged(current: Any, given: Any) -> Any:
    """Objects of another type replace each other whole."""
    if not isinstance(current, dict) or not isinstance(given, dict):
        return given
    if given.get("type", current.get("type")) != current.get("type"):
        return given
    return {**current, **{key: _merged(current.get(key), value) for key, value in given.items()}}
