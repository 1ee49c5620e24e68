"""What the graph is made of: the `args` of a Serve application, validated with one clear sentence per mistake.

How much of it runs (replicas, autoscaling, GPU fractions, queue bounds) lives in Serve's own `deployments:`.
Secrets come from the environment, read here only.
"""

import os
import re
from fnmatch import fnmatch
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from deployments.asr.engine import ENGINES as ASR_ENGINES
from deployments.chat.engine import ENGINES as CHAT_ENGINES
from deployments.diarization.engine import ENGINES as DIARIZATION_ENGINES
from deployments.engines import check_engine
from models.sources import embedded_model
from pipelines.audio_types import DecodeLimits
from pipelines.errors import ConfigurationError
from pipelines.transcript_types import Task
from pipelines.voices import VoiceOptions

Family = Literal["whisper", "4o", "gpt", "diarize"]

# of an id that does not say its family, the first pattern that fits tells; everything else is Whisper
FAMILY_PATTERNS: dict[str, Family] = {
    "*diarize*": "diarize",
    "gpt-4o-*transcribe*": "4o",
    "gpt-transcribe*": "gpt",
}

TASKS = ("transcription", "chat")

# checkpoints that were not trained to translate, although their tokens say so: they would answer in the wrong language
TRANSCRIBING_ONLY = ("*turbo*", "*distil-*")

API_KEYS_VARIABLE = "AURICLE_API_KEYS"
ALLOWED_MEDIA_HOSTS_VARIABLE = "AURICLE_ALLOWED_MEDIA_HOSTS"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Named(_Strict):
    """`family` decides which parameters a request may have; by default the id tells."""

    id: str = Field(min_length=1)
    family: Family = "whisper"

    @model_validator(mode="before")
    @classmethod
    def _family_from_id(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("id"), str) and data.get("family") is None:
            return {**data, "family": family_of(data["id"])}
        return data


class Alias(_Named):
    """Another name of a model."""


class _Model(_Named):
    """One checkpoint to serve, as a deployment of its own.

    id: what clients call it.
    task: "transcription" is Whisper's, "chat" that of a language model, which may hear.
    name: of its deployment, for `deployments:`; by default the id with everything but letters and digits as "-".
    engine: a name from the table of engines, or `module:Class`.
    source: hub id or directory of the checkpoint, or `embedded:NAME` of the catalogue; by default the id.
    device, dtype: torch's words; "auto" takes the GPU that the replica was given, else the CPU.
    """

    task: str
    name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")
    aliases: tuple[Alias, ...] = ()
    engine: str = "transformers"
    source: str = ""
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    @field_validator("aliases", mode="before")
    @classmethod
    def _plain_aliases(cls, aliases: Any) -> Any:
        if not isinstance(aliases, (list, tuple)):
            return aliases
        return [{"id": alias} if isinstance(alias, str) else alias for alias in aliases]

    @model_validator(mode="before")
    @classmethod
    def _defaults_from_id(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("id"), str):
            slug = re.sub(r"[^A-Za-z0-9]+", "-", data["id"]).strip("-")
            data = {**data, "name": data.get("name") or slug, "source": data.get("source") or data["id"]}
        return data

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        return _checked_source(source)

    @property
    def names(self) -> tuple[_Named, ...]:
        return (self, *self.aliases)


class SpeechModel(_Model):
    """The deployment `asr-<name>`.

    tasks: what it may be asked for, of what the checkpoint can do; by default its id and source tell.
    """

    task: Literal["transcription"] = "transcription"
    tasks: tuple[Task, ...] = Field(default=("transcribe", "translate"), min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _tasks_from_source(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("tasks") is None:
            named = [str(data.get(key, "")).lower() for key in ("id", "source")]
            if any(fnmatch(name, pattern) for name in named for pattern in TRANSCRIBING_ONLY):
                return {**data, "tasks": ("transcribe",)}
        return data

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        check_engine(engine, ASR_ENGINES)
        return engine

    @property
    def deployment_name(self) -> str:
        return f"asr-{self.name}"


class Sampling(_Strict):
    """What a chat request may leave out (CHT-10, CHT-21); None is what the checkpoint wants, else OpenAI's default."""

    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=100, allow_inf_nan=False)


class ChatModel(_Model):
    """The deployment `chat-<name>`.

    hears: id of the transcription model that hears for a model which does not hear by itself; such a model reads what
        that one has heard, of audio as long as an upload may be.
    sampling: how answers are written where a request does not say; by default as the checkpoint wants it.
    max_context_tokens: of prompt and answer together; by default what the checkpoint was made for.
    max_audios: audio parts in one request.
    max_audio_s: of all audio in one request, for a model that hears by itself; if it hears less, it says so itself.
    """

    task: Literal["chat"]
    hears: str | None = None
    sampling: Sampling = Sampling()
    max_context_tokens: int | None = Field(default=None, ge=16)
    max_audios: int = Field(default=8, ge=0)
    max_audio_s: float = Field(default=600.0, gt=0, allow_inf_nan=False)

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        check_engine(engine, CHAT_ENGINES)
        return engine

    @property
    def deployment_name(self) -> str:
        return f"chat-{self.name}"


def _task_of(data: Any) -> str:
    task = data.get("task", "transcription") if isinstance(data, dict) else getattr(data, "task", "transcription")
    return str(task)


Model = Annotated[
    Annotated[SpeechModel, Tag("transcription")] | Annotated[ChatModel, Tag("chat")],
    Discriminator(
        _task_of,
        custom_error_type="task",
        custom_error_message="There is no such task: use 'transcription' or 'chat'",
    ),
]


class Diarization(_Strict):
    """Who said what: one pipeline, as the deployment `diarization`.

    engine: a name from the table of engines, or `module:Class`.
    source: hub id or directory of the pipeline, or `embedded:NAME` of the catalogue.
    device: torch's word; "auto" takes the GPU that the replica was given, else the CPU.
    batch_size: stretches of audio that a network looks at together.
    max_window_s: longer recordings are diarized in windows of this length, and their speakers matched by voice.
    min_known_similarity: cosine to the reference of a known speaker below which somebody stays a stranger.
    min_linked_similarity: the same between a recording's windows.
    """

    engine: str = "pyannote"
    source: str = Field(min_length=1)
    device: str = "auto"
    batch_size: int = Field(default=16, ge=1)
    max_window_s: float = Field(default=600.0, ge=30, allow_inf_nan=False)
    min_known_similarity: float = Field(default=0.5, ge=-1, le=1)
    min_linked_similarity: float = Field(default=0.5, ge=-1, le=1)

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        check_engine(engine, DIARIZATION_ENGINES)
        return engine

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        return _checked_source(source)

    def voices(self) -> VoiceOptions:
        return VoiceOptions(self.min_known_similarity, self.min_linked_similarity)


class Media(_Strict):
    """Audio that a chat message names by its address, and the ingress fetches.

    allowed_hosts: names or addresses that may be asked although they are private; `AURICLE_ALLOWED_MEDIA_HOSTS`
        (comma separated) adds to them.
    max_fetch_s: from the question for the host's address to the last byte.
    """

    allowed_hosts: tuple[str, ...] = ()
    max_fetch_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    max_redirects: int = Field(default=5, ge=0)


class Limits(_Strict):
    """What one request may cost. Beyond it the answer is a clear 400, 413 or 503, and nothing else suffers."""

    max_upload_bytes: int = Field(default=26_214_400, ge=1)
    max_audio_s: float = Field(default=14_400.0, gt=0)
    max_channels: int = Field(default=64, ge=1)
    max_sample_rate_hz: int = Field(default=768_000, ge=8_000)
    max_upload_s: float = Field(default=300.0, gt=0)
    max_request_s: float = Field(default=3_600.0, gt=0)
    max_chunks_in_flight: int = Field(default=4, ge=1)
    max_concurrent_requests: int = Field(default=128, ge=1)

    def decoding(self) -> DecodeLimits:
        return DecodeLimits(self.max_audio_s, self.max_channels, self.max_sample_rate_hz)


class Settings(_Strict):
    """`args` of the application.

    Raises:
        ConfigurationError: instead of pydantic's report, one sentence that names the place and the mistake.
    """

    models: tuple[Model, ...] = Field(min_length=1)
    diarization: Diarization | None = None
    media: Media = Media()
    limits: Limits = Limits()
    require_api_key: bool = False

    @property
    def speech_models(self) -> tuple[SpeechModel, ...]:
        return tuple(model for model in self.models if isinstance(model, SpeechModel))

    @property
    def chat_models(self) -> tuple[ChatModel, ...]:
        return tuple(model for model in self.models if isinstance(model, ChatModel))

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
            raise ConfigurationError(_sentence(error)) from None
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


def _checked_source(source: str) -> str:
    """
    Raises:
        ConfigurationError: it names an embedded model that there is not.
    """
    embedded_model(source)
    return source


def _check_ears(settings: Settings) -> None:
    speech_models = [model.id for model in settings.speech_models]
    for model in settings.chat_models:
        if model.hears is not None and model.hears not in speech_models:
            raise ConfigurationError(
                f"'{model.id}' hears by '{model.hears}', which is not the id of a transcription model beside it."
            )


def family_of(model_id: str) -> Family:
    return next((family for pattern, family in FAMILY_PATTERNS.items() if fnmatch(model_id, pattern)), "whisper")


def api_keys() -> frozenset[str]:
    """Keys that clients must send, from `AURICLE_API_KEYS` (comma separated); none means that anybody may ask."""
    return frozenset(key.strip() for key in os.environ.get(API_KEYS_VARIABLE, "").split(",") if key.strip())


def allowed_media_hosts(media: Media) -> frozenset[str]:
    """The configuration's and those of `AURICLE_ALLOWED_MEDIA_HOSTS`."""
    named = os.environ.get(ALLOWED_MEDIA_HOSTS_VARIABLE, "").split(",")
    return frozenset(host.strip() for host in (*media.allowed_hosts, *named) if host.strip())


def _refuse_twice(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"Two models have the {what} '{name}'.")


def _keys(loc: tuple[int | str, ...]) -> list[str]:
    """Behind `models` and its number pydantic names the member of the union, which is no key."""
    is_tagged = loc[:1] == ("models",) and len(loc) > 2 and loc[2] in TASKS
    return [str(step) for place, step in enumerate(loc) if not (is_tagged and place == 2)]


def _sentence(error: ValidationError) -> str:
    mistake = error.errors()[0]
    place = ".".join(_keys(mistake["loc"])) or "args"
    if mistake["type"] == "extra_forbidden":
        return f"Unknown key '{place}'."
    return f"{place}: {mistake['msg'].removeprefix('Value error, ')}."
