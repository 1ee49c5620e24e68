"""What the graph is made of: the `args` of a Serve application, validated with one clear sentence per mistake.

How much of it runs (replicas, autoscaling, GPU fractions, queue bounds) lives in Serve's own `deployments:`.
"""

from typing import Any

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator

from deployments.model_configs import TASKS, ChatModelConfig, DiarizationConfig, ModelConfig, SpeechModelConfig, Strict
from pipelines.audio_types import DecodeLimits
from pipelines.errors import ConfigurationError

AUDIO, DIARIZATION, INGRESS = "audio", "diarization", "ingress"
"""Names of deployments, beside those of models."""


class MediaConfig(Strict):
    """Audio that a request names by its address, and the ingress fetches."""

    allowed_hosts: tuple[str, ...] = ()
    """Names or addresses that `url` and a chat's `audio_url` may name although they are private.
    `AURICLE_ALLOWED_MEDIA_HOSTS` adds to them."""
    max_fetch_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """From the question for a host's address to the last byte."""
    max_redirects: int = Field(default=5, ge=0)
    """That are followed; each is checked like the first address."""


class CorsConfig(Strict):
    """Web pages whose scripts browsers let read this server's answers; by default none but its own."""

    allow_origins: tuple[str, ...] = ()
    """Such as `https://app.example`, or `"*"` for all. `AURICLE_CORS_ORIGINS` adds to them."""


class LimitsConfig(Strict):
    """What one request may cost, and all of them together. Beyond it the answer is a clear 400, 413, 429 or 503, and
    nothing else suffers."""

    max_upload_bytes: int = Field(default=26_214_400, ge=1)
    """Of one file; larger ones are a 413. All audio of one chat together counts as one."""
    max_bytes_in_flight: int = Field(default=536_870_912, ge=1)
    """Of the bodies that one ingress replica holds at once, and of what it fetches for them; more are a 429."""
    max_audio_s: float = Field(default=14_400.0, gt=0, allow_inf_nan=False)
    """Decoded seconds of one file; longer audio is a 400."""
    max_channels: int = Field(default=64, ge=1)
    """What a file may claim; more is a 400."""
    max_sample_rate_hz: int = Field(default=768_000, ge=8_000)
    """What a file may claim; more is a 400."""
    max_upload_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    """A body that takes longer to arrive is a 503."""
    max_request_s: float = Field(default=3_600.0, gt=0, allow_inf_nan=False)
    """Longer work ends with a 503."""
    max_chunks_in_flight: int = Field(default=4, ge=1)
    """Chunks of one request at the model at once."""
    max_concurrent_requests: int = Field(default=128, ge=1)
    """Uploads and chats that one ingress replica holds at once; more are a 429."""
    max_wait_s: float = Field(default=8.0, ge=0, allow_inf_nan=False)
    """For a place in a model's batch. Who would wait for longer, by what the requests before it bring and how fast they
    are answered, is a 429 at once; but one and a half times as long as an answer takes may always be waited for."""
    max_sessions: int = Field(default=64, ge=0)
    """Realtime sessions that are open at one ingress replica; more are a 429."""
    max_sessions_per_key: int | None = Field(default=None, ge=0)
    """The same by one key, or by all who need none."""
    max_session_s: float = Field(default=3_600.0, gt=0, allow_inf_nan=False)
    """A realtime session that lasts longer is closed."""

    @property
    def longest_s(self) -> float:
        """That a client may be connected for one request or session."""
        return max(self.max_upload_s + self.max_request_s, self.max_session_s)

    def decoding(self) -> DecodeLimits:
        return DecodeLimits(self.max_audio_s, self.max_channels, self.max_sample_rate_hz)


class Settings(Strict):
    """`args` of the application.

    Raises:
        ConfigurationError: instead of pydantic's report, one sentence that names the place and the mistake.
    """

    models: tuple[ModelConfig, ...] = Field(min_length=1)
    """Each a deployment of its own. A realtime session that names none has the first that transcribes."""
    diarization: DiarizationConfig | None = None
    """Without it no speakers are told apart."""
    media: MediaConfig = MediaConfig()
    """Audio that is fetched."""
    cors: CorsConfig = CorsConfig()
    """Web pages of other origins."""
    limits: LimitsConfig = LimitsConfig()
    """What a request may cost (`docs/limits.md`)."""
    require_api_key: bool | None = None
    """`true` starts only where `AURICLE_API_KEYS` or `AURICLE_API_KEYS_FILE` has keys. Where the server listens on more
    than loopback, `true` or `false` must be said."""
    page: bool = True
    """Whether there is a web page at `/`, and the API's reference at `/docs`."""
    haproxy: bool = False
    """HAProxy in the place of Serve's own proxy. Not on loopback: its statistics are seen on every interface."""

    @property
    def speech_models(self) -> tuple[SpeechModelConfig, ...]:
        return tuple(model for model in self.models if isinstance(model, SpeechModelConfig))

    @property
    def chat_models(self) -> tuple[ChatModelConfig, ...]:
        return tuple(model for model in self.models if isinstance(model, ChatModelConfig))

    @property
    def sources(self) -> tuple[str, ...]:
        """Of everything that is loaded."""
        models = (model.source for model in self.models)
        return (*models, self.diarization.source) if self.diarization else tuple(models)

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(cls, data: Any, validate: ModelWrapValidatorHandler["Settings"]) -> "Settings":
        try:
            settings = validate(data)
        except ValidationError as error:
            raise ConfigurationError(sentence_of(error, "args")) from None
        names = [name for model in settings.models for name in model.names]
        _refuse_twice("id", [name.id for name in names])
        _refuse_twice("deployment", [model.deployment_name for model in settings.models])
        for name in (name for model in settings.speech_models for name in model.names):
            if name.family == "diarize" and settings.diarization is None:
                raise ConfigurationError(
                    f"'{name.id}' tells speakers apart, which needs 'diarization' beside 'models'."
                )
        _check_ears(settings)
        return settings


def _check_ears(settings: Settings) -> None:
    speech_models = [model.id for model in settings.speech_models]
    for model in settings.chat_models:
        if model.hears is not None and model.hears not in speech_models:
            raise ConfigurationError(
                f"'{model.id}' hears by '{model.hears}', which is not the id of a transcription model beside it."
            )


def _refuse_twice(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"Two models have the {what} '{name}'.")


def _keys(loc: tuple[int | str, ...]) -> list[str]:
    """Behind `models` and its number pydantic names the member of the union, which is no key."""
    is_tagged = loc[:1] == ("models",) and len(loc) > 2 and loc[2] in TASKS
    return [str(step) for place, step in enumerate(loc) if not (is_tagged and place == 2)]


def sentence_of(error: ValidationError, whole: str) -> str:
    """`whole`: what to call that which is wrong as a whole."""
    mistake = error.errors()[0]
    place = ".".join(_keys(mistake["loc"])) or whole
    if mistake["type"] == "extra_forbidden":
        return f"Unknown key '{place}'."
    return f"{place}: {mistake['msg'].removeprefix('Value error, ')}."
